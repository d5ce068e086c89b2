"""A disk that is full is the fault of its host, whatever finds it full, and however it says so."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from drakcelery.engines import confinement, emulator
from drakcelery.engines.drakvuf.tools import Finished
from drakcelery.engines.speakeasy_guest import __main__ as guest_program
from drakcelery.engines.speakeasy_guest import supervision
from drakcelery.engines.speakeasy_guest.job import State, parse_state
from drakcelery.errors import Blame, DiskFull, EngineError, InfrastructureError, is_full
from drakcelery.host import charges
from drakcelery.model.analysis import Stage
from tests.guest_jobs import guest_job


def no_room(*_: object, **__: object) -> NoReturn:
    """Write to a disk that is full."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def handed_over() -> None:
    """Say in words of ours what the disk says."""
    try:
        no_room()
    except OSError as error:
        raise InfrastructureError("not handed over") from error


def test_an_error_that_was_raised_from_it() -> None:
    """Whatever its kind is."""
    with pytest.raises(InfrastructureError) as raised:
        handed_over()
    assert is_full(raised.value)
    assert charges.blame_of(Stage.RUN, raised.value) is Blame.HOST
    assert is_full(DiskFull("no room"))
    assert not is_full(OSError(errno.EIO, "broken"))
    assert not is_full(None)


def test_an_emulator_that_cannot_be_started(tmp_path: Path) -> None:
    """There is no room for the note of its process, say."""
    with pytest.raises(EngineError, match=r"cannot be started: .*No space left") as raised:
        supervision.start(tmp_path / "engine" / "vm-1.json", guest_job(), begin=no_room)
    assert charges.blame_of(Stage.RUN, raised.value) is Blame.HOST


def test_a_confinement_that_cannot_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs a directory for it."""
    monkeypatch.setattr(tempfile, "TemporaryDirectory", no_room)
    with pytest.raises(EngineError, match=r"cannot be confined: .*No space left") as raised:
        confinement.find_lacks()
    assert charges.blame_of(Stage.PREPARE, raised.value) is Blame.HOST


@pytest.mark.parametrize(
    ("said", "blame"),
    [
        ("[Errno 28] No space left on device", Blame.HOST),
        ("[Errno 122] Disk quota exceeded: 'dumps'", Blame.HOST),
        ("[Errno 5] Input/output error", Blame.SLOT),
    ],
)
def test_what_other_processes_say(said: str, blame: Blame) -> None:
    """Of their errors only words arrive: those of the emulator's guest program, and of DRAKVUF's tools."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    broken = supervision.Guest(process=process, state=State.BROKEN, detail=said)
    with pytest.raises(EngineError, match="The emulator failed") as raised:
        emulator._execution(broken, None)
    assert charges.blame_of(Stage.RUN, raised.value) is blame
    tool = Finished(name="drakrun vm-start", code=1, output="", said=f"OSError: {said}\n")
    assert charges.blame_of(Stage.PREPARE, tool.trouble("vm-1 could not be restored")) is blame


@pytest.fixture
def job_on_stdin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The guest program's; its signals are as before in the end."""
    (tmp_path / "job").write_bytes(guest_job().to_json())
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with (tmp_path / "job").open("rb") as file:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=file))
        yield
    signal.pthread_sigmask(signal.SIG_SETMASK, masked)


@pytest.mark.usefixtures("job_on_stdin")
def test_a_guest_that_finds_it_full(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """It is an error of ours: the sample is not said to be one that cannot be loaded."""
    monkeypatch.setattr(guest_program, "enter", lambda _: (None, []))
    monkeypatch.setattr(guest_program, "Guest", lambda *_: SimpleNamespace(run=no_room))
    assert guest_program.main() == 0
    ready, last = map(parse_state, capfdbinary.readouterr().out.splitlines())
    assert ready is not None
    assert ready.state is State.READY
    assert last is not None
    assert (last.state, "No space left on device" in last.detail) == (State.BROKEN, True)
