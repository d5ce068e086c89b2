"""The process in drakrun's interpreter (H3): how it is found, what it does with odd callers."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from drakcelery.engines.drakvuf import library, resident
from drakcelery.engines.drakvuf.base_lines import COMMAND, DIRECTORY, Ask, BaseLines
from drakcelery.engines.drakvuf.cell import Cell, Held, start_ticks
from drakcelery.engines.drakvuf.library import SOCKET, Call, Library, reached
from drakcelery.engines.drakvuf.residence import Hello, NoLibrary, interpreter, understood
from drakcelery.engines.drakvuf.tools import Tools
from drakcelery.errors import EngineError
from drakcelery.settings.sections import DrakvufSection
from tests.waiting import PATIENCE, wait_until

DRAKRUN = "/opt/drakrun/bin/drakrun"
ENVIRONMENT = {"PATH": os.environ["PATH"]}

SERVE = """\
import importlib.util, pathlib, socket, sys, time
spec = importlib.util.spec_from_file_location("resident", sys.argv[1])
resident = importlib.util.module_from_spec(spec)
spec.loader.exec_module(resident)
resident.MOST_MEMORY, resident.WATCH_SECONDS, resident.MOST_CALLS = 96 << 20, 0.05, 4
resident.MOST_SERVED = int(sys.argv[4])

def hog(most):
    kept = []
    while True:
        kept.append(bytearray(b"x" * (1 << 20)))

class Calls:
    def find(self, words):
        if words[0] == "refuse":
            raise resident.Refused("not here")
        return {
            "say": lambda: print(*words[1:]) or 3,
            "fail": lambda: 1 // 0,
            "hog": lambda: hog(1),
            "sleep": lambda: time.sleep(3600),
            "child": lambda: __import__("subprocess").run(["sleep", "3600"]).returncode,
            "environment": lambda: print(sorted(resident.os.environ)) or 0,
            "die": lambda: resident.os.kill(resident.os.getppid(), 9) or time.sleep(3600),
        }[words[0]]

with socket.socket(fileno=int(sys.argv[2])) as listener:
    resident.Server(listener, sys.argv[3], Calls()).serve()
"""


@contextlib.contextmanager
def serving(
    directory: Path, *, most: int = 1000, drakrun: str = DRAKRUN
) -> Iterator[subprocess.Popen[bytes]]:
    """A resident whose library is one of the test's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        with reached(directory) as path:
            listener.bind(path)
        listener.listen(16)
        place = listener.fileno()
        words = [sys.executable, "-c", SERVE, resident.__file__, str(place), drakrun, str(most)]
        with subprocess.Popen(words, pass_fds=(place,)) as process:
            try:
                yield process
            finally:
                process.kill()


def run(directory: Path, *words: str, program: str = DRAKRUN, seconds: float = 20) -> tuple[int, str, str]:
    """Code, stdout and stderr of a call that is done by the resident."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        call = Library(directory).start([program, *words], environment=ENVIRONMENT, stdout=out, stderr=errors)
        assert call is not None
        code = call.wait(seconds)
        out.seek(0)
        errors.seek(0)
        return code, out.read().decode(), errors.read().decode()


def begun(directory: Path, *words: str) -> Call | None:
    """A call that goes on."""
    with Path(os.devnull).open("wb") as null:
        return Library(directory).start([DRAKRUN, *words], environment=ENVIRONMENT, stdout=null, stderr=null)


def is_alive(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


# What runs in another interpreter


def test_it_is_one_file_for_older_pythons() -> None:
    """It is Python 3.8, and imports nothing but the standard library by name."""
    tree = ast.parse(Path(resident.__file__).read_text(), feature_version=(3, 8))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#!{python}\nimport sys\n", ["{python}"]),
        ("#!{python} -sP\n", ["{python}", "-sP"]),
        ("#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\nimport sys\n", ["{python}"]),
        ("#!/bin/sh\n'''exec' {python} -I \"$0\" \"$@\"\n' '''\n", ["{python}", "-I"]),
    ],
)
def test_the_interpreter_is_the_scripts(tmp_path: Path, text: str, words: list[str]) -> None:
    """Also where pip has put it behind a shell, and with the options that it has there."""
    script = tmp_path / "drakrun"
    script.write_text(text.format(python=sys.executable))
    assert interpreter(script) == [word.format(python=sys.executable) for word in words]


@pytest.mark.parametrize(
    "text",
    ["", "\x7fELF\x02\x01", "#!/bin/sh\nexec something\n", "#!\n", "#!/bin/sh\n'\n", "#!/nowhere/python3\n"],
)
def test_what_is_no_python_script_is_not_taken_for_one(tmp_path: Path, text: str) -> None:
    """A wrapper, a program, a script whose interpreter is gone: the commands do."""
    script = tmp_path / "drakrun"
    script.write_text(text)
    with pytest.raises(NoLibrary):
        interpreter(script)
    with pytest.raises(NoLibrary, match="cannot be read"):
        interpreter(tmp_path / "missing")


HUGE = b'{"version": "0.21.0", "seconds": 1' + b"0" * 400 + b"}"


def test_the_first_line_is_understood() -> None:
    """What is known, what is not, and what is no answer at all."""
    known = understood(b'{"version": "0.21.0", "seconds": 0.2}')
    assert known == Hello(version="0.21.0", seconds=0.2, lacks=None)
    assert understood(b'{"version": "0.19.0", "seconds": 1, "lacks": "no\\u001b"}').lacks == r"no\x1b"
    with pytest.raises(NoLibrary, match=r"^it is of version 9$"):
        understood(b'{"unfit": "it is of version 9"}')
    for garbage in (b"", b"Traceback\x1b[2J", b"[1]", b'{"version": 1}', HUGE, b"[" * 100_000, b"\xff" * 100):
        with pytest.raises(NoLibrary, match="its interpreter says") as caught:
            understood(garbage)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 600


@pytest.mark.parametrize("version", ["0.18.1", "0.22.0", "1.0", "", "0.21"])
def test_an_unknown_version_is_not_used(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Only those whose library was read."""
    module = type(sys)("drakrun.version")
    module.__version__ = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "drakrun", type(sys)("drakrun"))
    monkeypatch.setitem(sys.modules, "drakrun.version", module)
    with pytest.raises(resident.Unfit, match=r"known from 0\.19 to 0\.21"):
        resident.load()


def test_an_interpreter_without_drakrun_is_not_used() -> None:
    """Whatever goes wrong at importing is a sentence."""
    with pytest.raises(resident.Unfit, match="ModuleNotFoundError: No module named 'drakrun'"):
        resident.load()


def test_words_are_taken_as_click_takes_them() -> None:
    """Options with a blank or ``=``, others refused, and nothing is an option after ``--``."""
    words = ["--vm-id", "3", "--cmd=a b", "x", "--", "-e", "--vm-id"]
    assert resident.parsed(words, ("vm-id", "cmd")) == (
        {"vm-id": "3", "cmd": "a b"},
        ["x", "-e", "--vm-id"],
    )
    for wrong in (["--help"], ["--vm-id"], ["--other=1"]):
        with pytest.raises(resident.Refused):
            resident.parsed(wrong, ("vm-id",))


# Calls


def test_a_call_ends_as_a_command_would(tmp_path: Path) -> None:
    """Exit code and both streams; an error is a traceback; nothing of another environment is seen."""
    with serving(tmp_path):
        assert run(tmp_path, "say", "hello") == (3, "hello\n", "")
        code, _, said = run(tmp_path, "fail")
        assert (code, said.strip().splitlines()[-1]) == (
            1,
            "ZeroDivisionError: integer division or modulo by zero",
        )
        assert "PATH" in run(tmp_path, "environment")[1]
        assert "HOME" not in run(tmp_path, "environment")[1]
        assert run(tmp_path, "-c", "kill -9 $$", program="/bin/sh")[0] == -signal.SIGKILL
        assert run(tmp_path, program="/nowhere/xl") == (127, "", "/nowhere/xl: No such file or directory\n")


def test_what_is_not_done_here_is_left_to_the_command(tmp_path: Path) -> None:
    """Refused, nobody there, nobody listening, too long: nothing has begun."""
    assert begun(tmp_path, "say") is None
    assert not Library(tmp_path).answers()
    with serving(tmp_path):
        assert Library(tmp_path).answers()
        assert begun(tmp_path, "refuse") is None
        assert begun(tmp_path, "say", "x" * 70_000) is None
    assert begun(tmp_path, "say") is None


def test_a_hanging_call_is_killed_with_its_children(tmp_path: Path) -> None:
    """The caller kills its group, as a tool's; others go on meanwhile."""
    with serving(tmp_path):
        call = begun(tmp_path, "child")
        assert call is not None
        with pytest.raises(subprocess.TimeoutExpired):
            call.wait(0.2)
        assert run(tmp_path, "say")[0] == 3
        os.killpg(call.pid, signal.SIGKILL)
        assert call.wait() == -signal.SIGKILL
        assert not is_alive(call.pid)


def test_a_call_ends_with_its_caller(tmp_path: Path) -> None:
    """A pool process that is killed leaves no call behind."""
    with serving(tmp_path):
        call = begun(tmp_path, "child")
        assert call is not None
        pid = call.pid
        wait_until(lambda: is_alive(pid), "it runs")
        call.leave()
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "it was ended, and waited for")


def test_a_call_ends_with_the_resident(tmp_path: Path) -> None:
    """A call that is lost is said to be, and nothing of it goes on."""
    with serving(tmp_path) as process:
        call = begun(tmp_path, "child")
        assert call is not None
        process.kill()
        assert call.wait(PATIENCE) == -signal.SIGKILL
        assert call.is_lost
        wait_until(lambda: not is_alive(call.pid), "its process is gone")


def test_a_call_that_was_lost_is_made_by_the_command(tmp_path: Path) -> None:
    """The library's process dies in the middle: the same words are run as a program."""
    program = tmp_path / "drakrun"
    program.write_text('#!/bin/sh\necho "by the command: $*"\n')
    program.chmod(0o755)
    cell = Cell(tmp_path / "cells" / "vm-1", lock_limit=1)
    cell.acquire(Held(holder="a", snapshot_version=1, snapshot_sha256="b"))
    tools = Tools(library=Library(tmp_path))
    with serving(tmp_path, drakrun=str(program)):
        assert tools.run([str(program), "say", "a"], seconds=20, cell=cell, holder="a").output == "a\n"
        done = tools.run([str(program), "die"], seconds=20, cell=cell, holder="a")
        assert (done.code, done.output) == (0, "by the command: die\n")
    assert not list((tmp_path / "cells").glob("*/*.process"))


def test_a_call_that_grows_is_killed(tmp_path: Path) -> None:
    """Memory is bounded, call by call."""
    with serving(tmp_path):
        assert run(tmp_path, "hog")[0] == -signal.SIGKILL
        assert run(tmp_path, "say")[0] == 3


def test_too_many_calls_at_once_are_refused(tmp_path: Path) -> None:
    """The command does; a place that is free again is given."""
    with serving(tmp_path):
        calls = [call for _ in range(4) if (call := begun(tmp_path, "sleep"))]
        assert len(calls) == 4
        assert begun(tmp_path, "say") is None
        calls.pop().leave()
        calls.append(wait_until(lambda: begun(tmp_path, "say"), "there is room"))
        for call in calls:
            call.leave()


def test_another_takes_over_after_many_calls(tmp_path: Path) -> None:
    """It ends by itself when no call is left, and with 0."""
    with serving(tmp_path, most=2) as process:
        call = begun(tmp_path, "sleep")
        assert call is not None
        assert run(tmp_path, "say")[0] == 3
        assert process.poll() is None
        os.killpg(call.pid, signal.SIGKILL)
        call.wait()
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"{",
        b"[]",
        b'{"argv": []}',
        b'{"argv": [], "environment": {}}',
        b'{"argv": [1], "environment": {}}',
        b'{"argv": ["x"], "environment": {"a": 1}}',
        b'{"argv": "xy", "environment": 5}',
        b'{"argv": ["x"], "environment": ["a"]}',
        b"[" * 60_000,
        b"\xff\x00" * 100,
    ],
)
def test_an_odd_caller_stops_nobody(tmp_path: Path, message: bytes) -> None:
    """What is no call is refused, and the next one is served."""
    with serving(tmp_path):
        connection = Library(tmp_path)._connect()
        assert connection is not None
        with connection:
            if message:
                connection.sendall(message)
                assert "refused" in json.loads(connection.recv(1000))
        assert run(tmp_path, "say")[0] == 3


@contextlib.contextmanager
def answering(directory: Path, *answers: bytes) -> Iterator[None]:
    """Somebody in the resident's place who says *answers* to whoever comes, then hangs up."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    for answer in answers:
                        connection.recv(70_000)
                        connection.sendall(answer)
                    connection.recv(100)

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        with reached(directory) as path:
            listener.bind(path)
        listener.listen(4)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage",
        b"[]",
        b"{}",
        b'{"pid": "1"}',
        b'{"pid": true}',
        b'{"pid": 0}',
        b'{"pid": -1}',
        b'{"pid": 1e9}',
    ],
)
def test_garbage_instead_of_an_answer_is_no_call(tmp_path: Path, answer: bytes) -> None:
    """Nobody is killed by a number that is none of ours; the command does."""
    with answering(tmp_path, answer):
        assert begun(tmp_path, "say") is None


@pytest.mark.parametrize("code", [b"garbage", b"{}", b'{"code": null}', b'{"code": 99999999999}'])
def test_garbage_instead_of_an_exit_code_is_a_lost_call(tmp_path: Path, code: bytes) -> None:
    """What became of it nobody knows."""
    with subprocess.Popen(["/bin/sleep", "3600"], start_new_session=True) as process:
        pid = json.dumps({"pid": process.pid}).encode()
        with answering(tmp_path, pid, code):
            call = begun(tmp_path, "say")
            assert call is not None
            assert call.wait(PATIENCE) == -signal.SIGKILL
        assert call.is_lost
        assert process.wait(PATIENCE) == -signal.SIGKILL


def test_a_number_that_is_anothers_by_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resident has died, and what has the number of its call is neither asked to end nor killed."""
    started = iter([1])
    monkeypatch.setattr(library, "start_ticks", lambda pid: next(started, None) or start_ticks(pid))
    with subprocess.Popen(["/bin/sleep", "3600"], start_new_session=True) as other:
        with answering(tmp_path, json.dumps({"pid": other.pid}).encode(), b""):
            call = begun(tmp_path, "say")
            assert call is not None
            call.terminate()
            assert call.wait(PATIENCE) == -signal.SIGKILL
        assert call.is_lost
        assert other.poll() is None
        other.kill()


def test_a_stuck_resident_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped in the middle: the command does, after a while that is bounded."""
    monkeypatch.setattr("drakcelery.engines.drakvuf.library.ANSWER_SECONDS", 0.2)
    with serving(tmp_path) as process:
        process.send_signal(signal.SIGSTOP)
        assert begun(tmp_path, "say") is None
        assert not Library(tmp_path).answers()
        process.send_signal(signal.SIGCONT)
        wait_until(Library(tmp_path).answers, "it goes on, and what nobody waits for has not begun")


def test_another_users_socket_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who listens there decides what root runs."""
    with answering(tmp_path, b'{"pid": 5}'):
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
        assert begun(tmp_path, "say") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_users_call_is_refused(tmp_path: Path) -> None:
    """Even where the directory's rights would let it in."""
    with serving(tmp_path):
        for directory in (tmp_path, *tmp_path.parents[:2]):
            directory.chmod(0o755)
        (tmp_path / SOCKET).chmod(0o666)
        asks = (
            "import os, socket, sys\nos.setuid(65534)\n"
            "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
            "s.connect(sys.argv[1])\ntry: s.send(b'ping'); print(s.recv(100))\nexcept OSError as e: print(e)"
        )
        here = os.path.relpath(tmp_path / SOCKET, tmp_path)
        done = subprocess.run(
            [sys.executable, "-c", asks, here], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert "pong" not in done.stdout
        assert Library(tmp_path).answers()


def test_a_link_in_place_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    """Nor is one in place of the socket's directory."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with answering(tmp_path / "real", b'{"pid": 5}'):
        assert begun(tmp_path / "link", "say") is None
    assert SOCKET in os.listdir(tmp_path / "real")  # noqa: PTH208 a name is all that is asked


# Base command lines


def lines_of(tmp_path: Path) -> tuple[BaseLines, list[tuple[str, str | None]]]:
    """Lines, and what was asked for."""
    section = DrakvufSection(etc_dir=tmp_path, lib_dir=tmp_path)
    return BaseLines(section, lambda _: None), []


def asker(asked: list[tuple[str, str | None]], vm: str = "vm-1") -> Ask:
    """What drakrun answers."""

    def ask(command: str, directory: str | None) -> Sequence[str]:
        asked.append((command, directory))
        return ["drakvuf", "-d", vm, "-e", command, *(("-c", directory) if directory else ()), "-I", "5"]

    return ask


def test_a_base_line_is_asked_for_once(tmp_path: Path) -> None:
    """VM, command and directory are put in; another snapshot, profile or configuration asks again."""
    lines, asked = lines_of(tmp_path)
    ask = asker(asked)
    for number in (1, 2):
        line = lines.line(
            asker(asked, f"vm-{number}"),
            f"vm-{number}",
            "C:\\a b.exe -d",
            method="createproc",
            directory="C:\\d e",
        )
        assert line == ["drakvuf", "-d", f"vm-{number}", "-e", "C:\\a b.exe -d", "-c", "C:\\d e", "-I", "5"]
    assert asked == [(COMMAND, DIRECTORY)]
    assert lines.line(ask, "vm-1", '"C:\\a b.exe"', method="shellexec", directory=None)[4] == "C:\\a b.exe"
    assert asked[1:] == [(COMMAND, None)]
    (tmp_path / "install.json").write_text("{}")
    lines.line(ask, "vm-1", "x", method="createproc", directory="y")
    assert asked[2:] == [(COMMAND, DIRECTORY)]


@pytest.mark.parametrize("command", ['"a.exe" -x', "a.exe -x", '"a" "b"', 'a"b'])
def test_what_drakrun_splits_is_asked_for_each_time(tmp_path: Path, command: str) -> None:
    """By ShellExecute a program and its arguments are two options, by its own rules."""
    lines, asked = lines_of(tmp_path)
    lines.line(asker(asked), "vm-1", command, method="shellexec", directory=None)
    assert asked == [(command, None)]


def test_an_odd_base_line_is_not_kept(tmp_path: Path) -> None:
    """A line in which the marks are not where they should be is asked for as it is."""
    lines, asked = lines_of(tmp_path)
    for answer in (["drakvuf", "-d", "vm-1"], ["drakvuf", "-d"], ["drakvuf", COMMAND, COMMAND, "-d", "vm-1"]):

        def ask(command: str, directory: str | None, words: Sequence[str] = answer) -> Sequence[str]:
            asked.append((command, directory))
            return words

        assert lines.line(ask, "vm-1", "x", method=None, directory=None) == answer
    assert [command for command, _ in asked] == [COMMAND, "x"] * 3


def test_what_cannot_be_asked_is_an_error(tmp_path: Path) -> None:
    """And is asked again the next time."""
    lines, asked = lines_of(tmp_path)

    def ask(command: str, directory: str | None) -> Sequence[str]:
        asked.append((command, directory))
        raise EngineError("no")

    for _ in range(2):
        with pytest.raises(EngineError):
            lines.line(ask, "vm-1", "x", method=None, directory=None)
    assert len(asked) == 2
