"""``python -m tests.flaky``: run again what failed last, if all of it is listed in ``flaky.toml``.

Also a plugin of pytest, which notes how a run ended: of one that was cut short nobody knows what else fails.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

LIST = Path(__file__).with_name("flaky.toml")
CACHE = LIST.parent.parent / ".pytest_cache" / "v"
LAST_FAILED = CACHE / "cache" / "lastfailed"
EXIT_STATUS = "drakcelery/exit_status"
"""Where pytest's cache has how the last run ended: nothing while one is under way."""
MOST = 3
"""Entries at most: past that flakiness is the state of the suite, not of a test."""


def pytest_sessionstart(session: pytest.Session) -> None:
    """Note that a run has begun."""
    _note(session, None)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Note how it ended."""
    _note(session, int(exitstatus))


def _note(session: pytest.Session, status: int | None) -> None:
    is_worker = hasattr(session.config, "workerinput")
    if session.config.pluginmanager.has_plugin("cacheprovider") and not is_worker:
        session.config.cache.set(EXIT_STATUS, status)


@dataclass(frozen=True, kw_only=True)
class Flaky:
    """A test that fails now and then."""

    id: str
    since: datetime.date
    reason: str


def listed(path: Path = LIST) -> list[Flaky]:
    """The entries of the list.

    Raises:
        TypeError: an entry lacks a field, or has another.
    """
    return [Flaky(**entry) for entry in tomllib.loads(path.read_text(encoding="utf-8")).get("test", [])]


def last_failed(path: Path = LAST_FAILED) -> list[str]:
    """Ids of the tests that failed in the last run, as pytest has noted them."""
    return sorted(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []


def ran_to_its_end(cache: Path = CACHE) -> bool:
    """Whether the last run reached its end, and failed only by its tests: none was left out."""
    path = cache / EXIT_STATUS
    return path.exists() and json.loads(path.read_text(encoding="utf-8")) == pytest.ExitCode.TESTS_FAILED


def unlisted(failed: list[str], known: list[Flaky]) -> list[str]:
    """Those of *failed* that no entry names; one of a test with parameters stands for all of them."""
    ids = {entry.id for entry in known}
    return [test for test in failed if test not in ids and test.partition("[")[0] not in ids]


def main() -> int:
    """0 where what failed is known to be flaky and passes now; 1 otherwise."""
    failed = last_failed()
    if not failed or not ran_to_its_end():
        print("no run that ended with failed tests is noted: it ended early, for another reason")  # noqa: T201 it is a command
        return 1
    if others := unlisted(failed, listed()):
        print("\n".join(["failed, and no flaky test:", *others]))  # noqa: T201 it is a command
        return 1
    print("\n".join(["known as flaky, run again:", *failed]), flush=True)  # noqa: T201 it is a command
    return subprocess.run([sys.executable, "-m", "pytest", *failed], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
