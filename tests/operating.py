"""A small fleet, and what the commands of operators print of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from drakcelery.cli import cli
from drakcelery.ledger.keys import (
    DEPLOYMENT,
)
from drakcelery.model.records import HostStatus, SlotStatus
from drakcelery.settings import RedisSection
from tests.bench import HOST, Bench

PROFILE = "win10"

COMMANDS = (("status",), ("status", "--json"), ("slots",), ("hosts",), ("profiles",), ("top", "--once"))


def point_at(section: RedisSection, monkeypatch: pytest.MonkeyPatch, **settings: object) -> None:
    """Let commands of this process find that Redis; *settings* are further ``DRAKCELERY_`` variables."""
    assert section.password is not None
    for name, value in {
        "REDIS_HOST": section.host,
        "REDIS_PORT": section.port,
        "REDIS_PASSWORD": section.password.get_secret_value(),
        **settings,
    }.items():
        monkeypatch.setenv(f"DRAKCELERY_{name}", str(value))


@pytest.fixture
def fleet(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:
    """A host, an analysis that is live, and one that is over; the command line looks there."""
    ledger, section = bench.ledger, bench.context.settings.redis
    point_at(section, monkeypatch, DATA_DIR=tmp_path / "nothing", DRAKRUN_IDENTITY=ledger.identity)
    slot = SlotStatus(name="vm-1", profile=PROFILE, state="free", since=0)
    ledger.fleet.report(HostStatus(host=HOST, engine="replay", slots=(slot,)), lasts=600)
    for uid in ("live-1", "over-1"):
        bench.open(uid)
    bench.forget("over-1")
    yield bench
    ledger._redis.delete(DEPLOYMENT)


def said(*words: str) -> tuple[int, str]:
    """The exit code of a command, and all that it printed."""
    done = CliRunner().invoke(cli, words)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, " ".join(done.output.split())
