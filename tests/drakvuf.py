"""The engine ``drakvuf`` on a simulated Xen host, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drakcelery.engines import Detonation
from drakcelery.engines.drakvuf import guest as guest_module
from drakcelery.engines.drakvuf import run as run_module
from drakcelery.engines.drakvuf.engine import Drakvuf, create
from drakcelery.model.analysis import Outcome
from drakcelery.settings import Settings, load
from tests.xen.host import XenHost

PLUGINS = ("apimon", "filetracer", "memdump", "procmon", "syscalls")
TIMEOUT = 1
GRACE = 1


def settings(host: XenHost, state_dir: Path, **values: object) -> Settings:
    """Settings for *host*; *values* are ``section__key``."""
    given: dict[str, object] = {
        **{
            f"drakvuf__{tool}": host.tool(tool)
            for tool in ("drakrun", "drakvuf", "injector", "xl", "tcpdump")
        },
        "drakvuf__etc_dir": host.etc,
        "drakvuf__lib_dir": host.lib,
        "drakvuf__run_dir": host.run,
        "drakvuf__grace": GRACE,
        "drakcelery__state_dir": state_dir,
        "drakcelery__engine": "drakvuf",
    }
    merged = {**given, **values}
    return load(
        environment={f"DRAKCELERY_{name.replace('__', '_').upper()}": str(merged[name]) for name in merged}
    )


def engine(host: XenHost, tmp_path: Path, **values: object) -> Drakvuf:
    """The engine for *host*."""
    return create(settings(host, tmp_path / "state", **values))


def make_job(tmp_path: Path, *, slot: str = "vm-1", attempt: int = 1, **changes: object) -> Detonation:
    """A job in a directory of its own, as a workspace would be."""
    root = tmp_path / "workspaces" / f"{slot}.{attempt}"
    (root / "sample").mkdir(parents=True)
    (root / "raw").mkdir()
    (root / "sample" / "malwar.exe").write_bytes(b"MZ sample")
    fields: dict[str, object] = {
        "uid": "analysis",
        "slot": slot,
        "sample": root / "sample" / "malwar.exe",
        "extension": "exe",
        "magic": "PE32 executable",
        "start_command": "%f",
        "plugins": PLUGINS,
        "timeout": TIMEOUT,
        "raw": root / "raw",
        "hooks": None,
    }
    return Detonation(**{**fields, **changes})  # type: ignore[arg-type] # the fields are typed where they are named


def detonate(drakvuf: Drakvuf, job: Detonation) -> Outcome:
    """Prepare and run."""
    drakvuf.accept(job)
    drakvuf.prepare(job)
    return drakvuf.run(job)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured in seconds on a real host is not waited for here."""
    monkeypatch.setattr(run_module, "STOP_SECONDS", 1.0)
    monkeypatch.setattr(run_module, "TRAFFIC_STOP_SECONDS", 1.0)
    monkeypatch.setattr(run_module, "GUEST_SECONDS", 0.3)
    monkeypatch.setattr(run_module, "GONE_SECONDS", 1.0)
    monkeypatch.setattr(run_module, "SIZE_SECONDS", 0.1)
    monkeypatch.setattr(guest_module, "STOP_PAUSE", 0.05)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[XenHost]:
    """A Xen host with DRAKVUF Sandbox v0.21. No program of it may outlive the test."""
    with XenHost.create(tmp_path / "xen") as made:
        yield made
        left = made.processes()
    assert not left, f"still running: {left}"
