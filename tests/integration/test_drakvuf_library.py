"""drakrun's library in a process that stays (H3), against a simulated Xen host: the calls go through it."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import structlog

from drakcelery.artifacts.extras import pack_extras
from drakcelery.engines.drakvuf import keeper as keeper_module
from drakcelery.engines.drakvuf import library as library_module
from drakcelery.engines.drakvuf import screenshots
from drakcelery.engines.drakvuf.engine import Drakvuf
from drakcelery.engines.drakvuf.keeper import Keeper
from drakcelery.engines.drakvuf.library import SOCKET, Library
from drakcelery.engines.drakvuf.residence import NoLibrary, Residence
from drakcelery.errors import EngineError
from drakcelery.model.analysis import Execution
from tests.drakvuf import detonate, engine, host, make_job, settings
from tests.waiting import PATIENCE, wait_until
from tests.xen.host import VERSIONS, XenHost

__all__ = ("host",)

STARTED_ANEW = "the command drakrun was started\n"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at every few seconds is looked at at once."""
    monkeypatch.setattr(keeper_module, "LOOK_SECONDS", 0.1)


@contextmanager
def kept(drakvuf: Drakvuf) -> Iterator[Keeper]:
    """A resident for the engine, as a vm worker has it; ready."""
    keeper = Keeper(drakvuf._section, drakvuf._tools, drakvuf._state)
    keeper.start()
    try:
        wait_until(Library(drakvuf._state).answers, "the resident answers")
        yield keeper
    finally:
        keeper.stop()


def resident_of(keeper: Keeper) -> int:
    """Its process."""
    assert keeper._process is not None
    return keeper._process.pid


def refuse_commands(host: XenHost) -> None:
    """From now on the command fails; its interpreter is what it was."""
    script = host.tool("drakrun")
    first = script.read_text().splitlines()[0]
    script.write_text(f"{first}\nimport sys\nsys.stderr.write({STARTED_ANEW!r})\nsys.exit(99)\n")


def is_alive(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return False


def actions(said: list[Any]) -> list[str]:
    """What was logged of the library."""
    return [line["event"] for line in said if line["event"].startswith("library_")]


# The road


@pytest.mark.parametrize("version", VERSIONS)
def test_the_library_does_all_calls(tmp_path: Path, version: str) -> None:
    """Of each version: restored, made ready, copied to, run and ended without the command being started."""
    with XenHost.create(tmp_path / "xen", version=version) as host:
        refused = engine(host, tmp_path)
        refused.version()
        refuse_commands(host)
        with kept(refused):
            job = make_job(tmp_path)
            outcome = detonate(refused, job)
            assert (outcome.execution, outcome.reason) == (Execution.EXECUTED, None)
            refused.destroy("vm-1")
        assert host.guests() == ()
        names = [call.argv[0] for call in host.calls("drakrun")][-5:]
        assert names == ["vm-start", "drakshell", "injector", "drakvuf-cmdline", "vm-stop"]
        assert host.warnings() == ()


def test_a_task_is_run_as_it_asks(host: XenHost, tmp_path: Path) -> None:
    """The library hears of one task's network, start method and directory as the command would (H7)."""
    drakvuf = engine(host, tmp_path, drakrun__net_enable=1)
    drakvuf.version()
    refuse_commands(host)
    place = "C:\\Users\\Public"
    asked = make_job(tmp_path, net_enable=False, start_method="runas", guest_working_directory=place)
    network: list[object] = []
    with kept(drakvuf):
        for job in (asked, make_job(tmp_path, attempt=2)):
            outcome = detonate(drakvuf, job)
            network += [
                json.loads((host.run / "vmnet-1.json").read_bytes())["net_enable"],
                outcome.net_enable,
            ]
            drakvuf.destroy("vm-1")
    assert network == [False, False, True, True]
    lines = [call.argv for call in host.calls("drakvuf") if "-t" in call.argv]
    options = [[words[words.index(name) + 1] for name in ("-V", "-c") if name in words] for words in lines]
    assert options[0] == ["runas", place]
    assert "runas" not in options[1]


def test_the_command_line_is_the_commands(host: XenHost, tmp_path: Path) -> None:
    """Word by word, for each way of starting."""
    plain, through = engine(host, tmp_path, drakvuf__library=0), engine(host, tmp_path)
    with kept(through):
        through.prepare(make_job(tmp_path))
        for method, command in (
            ("createproc", "cmd.exe /c x"),
            ("shellexec", '"C:\\a b.exe"'),
            ("runas", "a.exe"),
        ):
            asked = {"method": method, "directory": "C:\\d e"}
            lines = [
                each._guest("vm-1").base_command_line(str(make_job_raw(tmp_path)), command, **asked)
                for each in (plain, through)
            ]
            assert list(lines[0]) == list(lines[1])
        through.destroy("vm-1")


def make_job_raw(tmp_path: Path) -> Path:
    """The holder of the job that was prepared."""
    return tmp_path / "workspaces" / "vm-1.1" / "raw"


def test_a_base_line_is_built_once(host: XenHost, tmp_path: Path) -> None:
    """Two analyses in two slots ask drakrun once, with the library or without."""
    drakvuf = engine(host, tmp_path, drakvuf__library=0)
    for number in (1, 2):
        detonate(drakvuf, make_job(tmp_path, slot=f"vm-{number}"))
        drakvuf.destroy(f"vm-{number}")
    asked = [call for call in host.calls("drakrun drakvuf-cmdline") if "--help" not in call.argv]
    assert len(asked) == 1
    lines = [call.argv for call in host.calls("drakvuf") if "-d" in call.argv]
    assert [words[words.index("-d") + 1] for words in lines] == ["vm-1", "vm-2"]
    assert all("C:\\Users\\janusz\\Desktop\\malwar.exe" in words for words in lines)


def test_the_environment_of_the_settings_counts(host: XenHost, tmp_path: Path) -> None:
    """0.21 takes the network from the environment of each call, not from the resident's."""
    section = {"drakrun__net_enable": 1, "drakrun__dns_server": "1.1.1.1"}
    with kept(engine(host, tmp_path)):
        other = engine(host, tmp_path, **section)
        other.prepare(make_job(tmp_path))
        network = json.loads((host.run / "vmnet-1.json").read_text())
        assert (network["net_enable"], network["dns_server"]) == (True, "1.1.1.1")
        other.destroy("vm-1")


# What is not usable


def test_an_unknown_version_is_left_to_the_commands(host: XenHost, tmp_path: Path) -> None:
    """It is said once, and the analysis works; the doctor's check says the same."""
    state = host.root / "state" / "host.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "version": "0.22.0"}))
    drakvuf = engine(host, tmp_path)
    with pytest.raises(NoLibrary, match=r"of version 0\.22\.0"):
        Residence(drakvuf._section, drakvuf._tools).check()
    with structlog.testing.capture_logs() as said:
        keeper = Keeper(drakvuf._section, drakvuf._tools, drakvuf._state)
        keeper.start()
        wait_until(lambda: "library_not_used" in actions(said), "it is said")
        assert not (drakvuf._state / SOCKET).exists()
        drakvuf.prepare(make_job(tmp_path))
        drakvuf.destroy("vm-1")
        keeper.stop()
    assert actions(said) == ["library_not_used"]


@pytest.mark.parametrize(
    ("module", "text", "reason"),
    [
        ("vm.py", "def restore(self, where, snapshot", "TypeError: missing a required argument"),
        ("drakshell.py", "def other(vm: Any, injector", "AttributeError"),
        ("libvmi.py", "raise RuntimeError('\\x1b[2J')", r"RuntimeError: \\x1b\[2J"),
        ("vm.py", "import os; os._exit(3)", "its interpreter ended with exit code 3"),
        ("vm.py", "print('{}' * 100000, flush=True)", None),
    ],
)
def test_a_library_that_differs_is_left_to_the_commands(
    host: XenHost, tmp_path: Path, module: str, text: str, reason: str | None
) -> None:
    """Another signature, nothing of the name, an error at import, an end at import, noise at import."""
    own = next((host.root / "environment").glob("lib/*/site-packages")) / "drakrun"
    source = Path(__file__).parent.parent / "xen" / "library" / "drakrun"
    for path in source.rglob("*.py"):
        (own / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
        (own / path.relative_to(source)).write_text(path.read_text())
    changed = own / "lib" / module
    old = {
        "def restore(self, where, snapshot": "def restore(self, snapshot",
        "def other(vm: Any, injector": "def get_drakshell(vm: Any, injector",
    }
    body = changed.read_text()
    body = body.replace(old[text], text) if text in old else body + f"\n{text}\n"
    changed.write_text(body)
    drakvuf = engine(host, tmp_path)
    residence = Residence(drakvuf._section, drakvuf._tools)
    if reason is None:
        assert residence.check().version == "0.21.0"
        return
    with pytest.raises(NoLibrary, match=reason):
        residence.check()


def test_a_setting_switches_it_off(host: XenHost, tmp_path: Path) -> None:
    """Then nothing stays, and nobody is asked."""
    drakvuf = engine(host, tmp_path, drakvuf__library=0)
    before = set(threading.enumerate())
    drakvuf.attend()
    assert set(threading.enumerate()) == before
    assert drakvuf._tools.library is None


# What goes wrong


def test_a_call_that_hangs_holds_its_slot_only(host: XenHost, tmp_path: Path) -> None:
    """It is killed in its time with all that it started; the other slot works meanwhile."""
    drakvuf = engine(host, tmp_path, drakvuf__restore_timeout=3)
    with kept(drakvuf):
        host.fail("drakrun vm-start", "hangs", vm="vm-1")
        failed: list[Exception] = []

        def restore() -> None:
            try:
                drakvuf.prepare(make_job(tmp_path))
            except EngineError as error:
                failed.append(error)

        thread = threading.Thread(target=restore)
        thread.start()
        wait_until(lambda: host.calls("drakrun vm-start"), "vm-1 is being restored")
        drakvuf.prepare(make_job(tmp_path, slot="vm-2"))
        assert thread.is_alive()
        drakvuf.destroy("vm-2")
        thread.join()
        assert "did not end within 3 s" in str(failed[0])
        drakvuf.destroy("vm-1")
        assert not host.processes()


def test_a_guest_destroyed_under_a_restore_does_not_come_back(host: XenHost, tmp_path: Path) -> None:
    """Also where the library restores it: whoever ends the guest ends the call."""
    drakvuf, other = engine(host, tmp_path), engine(host, tmp_path)
    with kept(drakvuf):
        host.fail("drakrun vm-start", "hangs_with_guest")
        failed: list[Exception] = []

        def restore() -> None:
            try:
                drakvuf.prepare(make_job(tmp_path))
            except EngineError as error:
                failed.append(error)

        thread = threading.Thread(target=restore)
        thread.start()
        wait_until(host.guests, "the guest is there")
        other.destroy("vm-1")
        thread.join()
        assert failed
        assert host.guests() == ()
        assert not host.processes()


def test_a_resident_that_dies_costs_no_analysis(host: XenHost, tmp_path: Path) -> None:
    """Killed in the middle of a restore: the command restores, the next call finds another resident."""
    drakvuf = engine(host, tmp_path)
    drakvuf.version()
    with structlog.testing.capture_logs() as said, kept(drakvuf) as keeper:
        host.fail("drakrun vm-start", "hangs")
        first = resident_of(keeper)
        done: list[object] = []
        job = make_job(tmp_path)
        thread = threading.Thread(target=lambda: done.append(drakvuf.prepare(job)))
        thread.start()
        wait_until(lambda: host.calls("drakrun vm-start") and not host.orders(), "it hangs")
        os.kill(first, signal.SIGKILL)
        thread.join()
        assert done
        assert len(host.calls("drakrun vm-start")) == 2
        wait_until(
            lambda: resident_of(keeper) != first and Library(drakvuf._state).answers(), "another is there"
        )
        assert drakvuf.run(job).execution is Execution.EXECUTED
        drakvuf.destroy("vm-1")
    assert {"library_lost", "library_call_lost"} <= set(actions(said))


def test_a_resident_that_is_stuck_is_replaced(
    host: XenHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls are made by the command meanwhile."""
    monkeypatch.setattr(library_module, "ANSWER_SECONDS", 0.3)
    drakvuf = engine(host, tmp_path)
    with structlog.testing.capture_logs() as said, kept(drakvuf) as keeper:
        first = resident_of(keeper)
        os.kill(first, signal.SIGSTOP)
        drakvuf.prepare(make_job(tmp_path))
        drakvuf.destroy("vm-1")
        wait_until(
            lambda: resident_of(keeper) != first and Library(drakvuf._state).answers(), "another is there"
        )
        assert not is_alive(first)
    assert "library_lost" in actions(said)


def test_a_resident_that_prints_without_end_is_replaced(
    host: XenHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lives for as long as its worker, and what it prints is on the disk meanwhile."""
    monkeypatch.setattr(keeper_module, "PRINTED_BYTES", 1024**2)
    drakvuf = engine(host, tmp_path)
    with structlog.testing.capture_logs() as said, kept(drakvuf) as keeper:
        first = resident_of(keeper)
        with Path(f"/proc/{first}/fd/2").open("ab") as errors:
            errors.write(bytes(1024**2 + 1))
        wait_until(
            lambda: resident_of(keeper) != first and Library(drakvuf._state).answers(), "another is there"
        )
    reasons = [line["reason"] for line in said if line["event"] == "library_lost"]
    assert reasons == ["it had printed more than 1 MiB"]


def test_one_that_dies_all_the_time_is_left_alone(
    host: XenHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a while there is none, and calls do not wait; then it is tried again."""
    monkeypatch.setattr(keeper_module, "PAUSE_SECONDS", 1.0)
    drakvuf = engine(host, tmp_path)
    with structlog.testing.capture_logs() as said, kept(drakvuf) as keeper:
        for _ in range(keeper_module.DEATHS):
            wait_until(lambda: actions(said)[-1:] == ["library_ready"], "one is there")
            said.clear()
            os.kill(resident_of(keeper), signal.SIGKILL)
        wait_until(lambda: "library_not_used" in actions(said), "that is enough")
        wait_until(lambda: actions(said)[-1] == "library_ready", "it is tried again")
    assert actions(said) == ["library_lost", "library_not_used", "library_ready"]


def test_another_drakrun_is_imported_anew(host: XenHost, tmp_path: Path) -> None:
    """An upgrade beside a running worker: what is in memory is not used any longer."""
    drakvuf = engine(host, tmp_path)
    with kept(drakvuf) as keeper:
        first = resident_of(keeper)
        script = host.tool("drakrun")
        script.write_text(script.read_text() + "\n")
        wait_until(
            lambda: resident_of(keeper) != first and Library(drakvuf._state).answers(), "another is there"
        )
        assert not is_alive(first)


def test_a_call_in_hand_is_finished_during_an_upgrade(host: XenHost, tmp_path: Path) -> None:
    """For a moment there is no drakrun at all: a vm-stop that has begun is not killed for it."""
    drakvuf = engine(host, tmp_path)
    with kept(drakvuf) as keeper, Path(os.devnull).open("wb") as null:
        first, keeper_looks = resident_of(keeper), threading.Event()
        identity = keeper._residence.identity

        def look() -> tuple[object, ...]:
            try:
                return identity()
            except NoLibrary:
                keeper_looks.set()
                raise

        keeper._residence.identity = look  # type: ignore[method-assign] # to know when it has seen it
        environment = drakvuf._tools.environment
        call = Library(drakvuf._state).start(
            ["sleep", "3600"], environment=environment, stdout=null, stderr=null
        )
        assert call is not None
        host.tool("drakrun").unlink()
        assert keeper_looks.wait(PATIENCE)
        with pytest.raises(subprocess.TimeoutExpired):
            call.wait(0.5)
        assert is_alive(first)
        os.kill(call.pid, signal.SIGKILL)
        assert call.wait(PATIENCE) == -signal.SIGKILL
        assert not call.is_lost
        wait_until(lambda: not is_alive(first), "the resident ends after it")


def test_a_socket_that_was_left_is_replaced(host: XenHost, tmp_path: Path) -> None:
    """A worker that was killed left it: until another serves, the command does."""
    drakvuf = engine(host, tmp_path)
    with kept(drakvuf):
        pass
    (drakvuf._state / SOCKET).touch()
    drakvuf.prepare(make_job(tmp_path))
    with kept(drakvuf):
        drakvuf.destroy("vm-1")
    assert not (drakvuf._state / SOCKET).exists()


def _attend(given: Any, ready: Any) -> None:
    """In a process of its own: a vm worker's main process, as far as this goes."""
    drakvuf = Drakvuf(given)
    keeper = Keeper(drakvuf._section, drakvuf._tools, drakvuf._state)
    keeper.start()
    wait_until(Library(drakvuf._state).answers, "the resident answers")
    ready.put(resident_of(keeper))
    threading.Event().wait()


@pytest.mark.parametrize("order", [None, "hangs"])
def test_it_dies_with_its_worker(host: XenHost, tmp_path: Path, order: str | None) -> None:
    """Killed, with a call in hand or not: neither the resident nor a call of it goes on."""
    context = multiprocessing.get_context("spawn")
    ready: Any = context.Queue()
    worker = context.Process(target=_attend, args=(settings(host, tmp_path / "state"), ready))
    worker.start()
    pid = ready.get(timeout=PATIENCE)
    drakvuf = engine(host, tmp_path, drakvuf__tool_timeout=5)
    threads: list[threading.Thread] = []
    if order:
        host.fail("drakrun vm-start", order, times=1)
        threads.append(threading.Thread(target=_quietly, args=(lambda: drakvuf.prepare(make_job(tmp_path)),)))
        threads[0].start()
        wait_until(lambda: host.calls("drakrun vm-start") and not host.orders(), "it hangs")
    worker.kill()
    worker.join()
    wait_until(lambda: not is_alive(pid), "the resident is gone")
    for thread in threads:
        thread.join()
    drakvuf.destroy("vm-1")
    assert host.guests() == ()
    assert not host.processes()


# Screenshots


def test_screenshots_are_taken_beside_drakvuf(host: XenHost, tmp_path: Path) -> None:
    """Where asked for; the index has a line for each, and nothing goes on after the run."""
    drakvuf = engine(host, tmp_path, drakvuf__screenshots=1)
    with kept(drakvuf):
        job = make_job(tmp_path)
        outcome = detonate(drakvuf, job)
        assert outcome.reason is None
        lines = [json.loads(line) for line in (job.raw / "screenshots.json").read_text().splitlines()]
        names = sorted(path.name for path in (job.raw / "screenshots").iterdir())
        assert names == sorted(f"screenshot_{line['index']}.png" for line in lines)
        assert names
        (tmp_path / "out").mkdir()
        assert pack_extras(job.raw, tmp_path / "out").screenshots == len(names)
        assert {path.name for path in (tmp_path / "out").iterdir()} == {"screenshots.zip", "screenshots.json"}
        drakvuf.destroy("vm-1")


@pytest.mark.parametrize(("how", "details"), [("huge", {"size": 2000}), ("hangs", {})])
def test_screenshots_are_bounded(
    host: XenHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, details: dict[str, Any]
) -> None:
    """Too many bytes, or one that does not stop: the run goes on and ends."""
    monkeypatch.setattr(screenshots, "MOST_BYTES", 1000)
    monkeypatch.setattr(screenshots, "STOP_SECONDS", 0.5)
    drakvuf = engine(host, tmp_path, drakvuf__screenshots=1)
    with kept(drakvuf):
        host.fail("drakrun screenshots", how, times=2, **details)
        outcome = detonate(drakvuf, make_job(tmp_path, timeout=3))
        assert outcome.execution is Execution.EXECUTED
        assert not host.processes()
        drakvuf.destroy("vm-1")


def test_a_run_without_its_screenshots_is_a_run(host: XenHost, tmp_path: Path) -> None:
    """Nobody serves the library: the outcome says why there are none."""
    drakvuf = engine(host, tmp_path, drakvuf__screenshots=1)
    outcome = detonate(drakvuf, make_job(tmp_path))
    assert outcome.execution is Execution.EXECUTED
    assert outcome.reason == f"there are no screenshots: {screenshots.NO_LIBRARY}"
    drakvuf.destroy("vm-1")


def _quietly(work: Callable[[], object]) -> None:
    with suppress(EngineError):
        work()
