"""What runs in DRAKVUF Sandbox's own interpreter, beside a vm worker: ``python resident.py FD DRAKRUN``.

Starting ``drakrun`` costs more than a second of processor time, for libraries that a command on one VM does
not use. This imports ``drakrun.lib`` once and does each call in a forked child, which has a process group of
its own, may hang or be killed like any tool, and shares what was imported. FD is a listening Unix socket
(``SOCK_SEQPACKET``). A call is a connection:

1. a JSON line, with the descriptors of its stdout and stderr: ``{"argv": […], "environment": {…}}``; an argv
   that begins with DRAKRUN is one of drakrun's own command lines, and any other a program to run;
2. the answer ``{"pid": …}`` of a child that waits, or ``{"refused": "why"}``;
3. ``go``, on which the child begins: by then the caller knows what to kill;
4. the answer ``{"code": …}``, as from ``subprocess``. The child stays a zombie until the caller closes the
   connection, so that no other process gets its id. Closing it earlier ends the call.

First it writes one line to stdout: ``{"version": …, "seconds": …}``, or ``{"unfit": "why"}`` if it does not
know this version of the library; with the FD ``check`` that is all. It ends with its parent (``launch.py``).

For Python 3.8 and newer, with the standard library and ``drakrun`` only: nothing of this package is imported.
Facts: ``drakrun/cli`` and ``drakrun/lib`` of DRAKVUF Sandbox v0.19.0 to v0.21.0.
"""

from __future__ import annotations

import os
import sys

if sys.path and sys.path[0] == os.path.dirname(os.path.abspath(__file__)):  # noqa: PTH100, PTH120 before any import
    del sys.path[0]  # the files beside this one are no modules of drakrun's

import contextlib
import ctypes
import functools
import importlib
import inspect
import json
import logging
import pathlib
import re
import select
import shlex
import signal
import socket
import struct
import subprocess
import threading
import time
import traceback
from types import SimpleNamespace
from typing import Any, Callable, NoReturn  # noqa: UP035 Python 3.8

VERSIONS = re.compile(r"0\.(19|20|21)\.\d+([+.-].*)?")
"""Versions of DRAKVUF Sandbox whose library was read."""
MOST_BYTES = 64 * 1024
"""Most bytes of a message."""
MOST_CALLS = 64
"""Most calls at once; more are refused."""
MOST_DESCRIPTORS = 1024
MOST_MEMORY = 1 << 30
"""Bytes of a call; this process itself may grow by a quarter of it."""
MOST_SERVED = 20_000
"""Calls after which another resident takes over."""
WATCH_SECONDS = 1.0
PR_SET_PDEATHSIG = 1
NOT_STARTED = 127
SCREENSHOT_PORT = 5900
"""VNC of ``vm-N`` is at this port plus N."""
SCREENSHOT_STOP_SECONDS = 5.0
CREDENTIALS = struct.Struct("3i")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Unfit(Exception):
    """This drakrun's library is not one that is known here."""


class Refused(Exception):
    """A call that is not done here; perhaps the command can do it."""


def load() -> SimpleNamespace:
    """The parts of ``drakrun`` that calls use. Raises :class:`Unfit`."""
    try:
        version = str(importlib.import_module("drakrun.version").__version__)
        if not VERSIONS.fullmatch(version):
            raise Unfit(f"drakrun is of version {version[:40]}, and its library is known from 0.19 to 0.21")
        names = [
            "config",
            "install_info",
            "vm",
            "libvmi",
            "injector",
            "drakshell",
            "drakvuf_cmdline",
            "paths",
        ]
        newest = not version.startswith(("0.19.", "0.20."))
        lib = SimpleNamespace(version=version, newest=newest)
        for name in names + (["version_detection"] if newest else []):
            setattr(lib, name, importlib.import_module("drakrun.lib." + name))
        if newest:
            lib.startup = importlib.import_module("drakrun.analyzer.startup_command")
        _test(lib)
    except Unfit:
        raise
    except Exception as error:
        raise Unfit(f"{type(error).__name__}: {str(error)[:300]}") from error
    return lib


def _test(lib: SimpleNamespace) -> None:
    """Check that the library's functions can be called as the calls do. Raises Unfit, TypeError or
    AttributeError."""
    vm, shell = lib.vm.VirtualMachine, lib.drakshell.Drakshell
    line = {"vmi_info": 0, "exec_cmd": 0}
    if lib.newest:
        names = ("drakvuf_version_info", "shellexec_args", "start_method", "working_dir")
        line.update(dict.fromkeys(names, 0))
    uses: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (lib.config.load_config, (), {}),
        (lib.install_info.InstallInfo.load, (0,), {}),
        (vm, (0, 0, 0), {}),
        (vm.restore, (0,), {}),
        (vm.destroy, (0,), {}),
        (lib.libvmi.VmiInfo.load, (0,), {}),
        (lib.injector.Injector, (0, 0, 0), {}),
        (lib.injector.Injector.write_file, (0, 0, 0), {}),
        (lib.drakshell.get_drakshell, (0, 0), {}),
        (shell.run_interactive, (0, 0, 0, 0, 0), {}),
        (lib.drakshell.DrakshellInteractiveProcess.join, (0,), {}),
        (lib.drakvuf_cmdline.get_base_drakvuf_cmdline, (0, 0), line),
    ]
    if lib.newest:
        uses.append((lib.version_detection.get_drakvuf_version, (), {}))
        uses.append((lib.startup.make_exec_parameters, (0, 0, 0, 0), {}))
    for function, arguments, named in uses:
        inspect.signature(function).bind(*arguments, **named)
    for owner, name in ((vm, "vm_name"), (vm, "is_running")):
        if not isinstance(getattr(owner, name), property):
            raise Unfit(f"{owner.__name__}.{name} is no property")
    for name in ("INSTALL_INFO_PATH", "VMI_INFO_PATH", "VMI_KERNEL_PROFILE_PATH"):
        if not isinstance(getattr(lib.paths, name), pathlib.PurePath):
            raise Unfit(f"drakrun.lib.paths.{name} is no path")


# The calls, as drakrun's own commands do them


class Calls:
    """What is done with the library, for each of drakrun's command lines."""

    def __init__(self, lib: SimpleNamespace) -> None:
        self._lib = lib
        self._known: dict[str, tuple[tuple[str, ...], Callable[[dict[str, str], list[str]], int]]] = {
            "vm-start": (("vm-id",), self._start),
            "vm-stop": (("vm-id",), self._stop),
            "drakshell": (("vm-id",), self._shell),
            "drakvuf-cmdline": (
                ("vm-id", "cmd", *(("method", "working-dir") if lib.newest else ())),
                self._line,
            ),
            "injector": ((), self._copy),
            "screenshots": (("vm-id", "directory", "most-files", "most-bytes", "seconds"), self._screenshots),
        }

    def find(self, words: list[str]) -> Callable[[], int]:
        """What *words* ask for. Raises :class:`Refused`."""
        if not words or words[0] not in self._known:
            raise Refused("not done by the library")
        options, work = self._known[words[0]]
        values, rest = parsed(words[1:], options)
        if options and not re.fullmatch("[1-9][0-9]{0,2}", values.get("vm-id", "")):
            raise Refused("expected the number of a VM")
        if words[0] == "injector" and (len(rest) != 3 or rest[0] != "copy"):
            raise Refused("only injector copy is done by the library")
        return lambda: work(values, rest)

    def _vm(self, number: int) -> Any:
        lib = self._lib
        install = lib.install_info.InstallInfo.load(lib.paths.INSTALL_INFO_PATH)
        return lib.vm.VirtualMachine(number, install, lib.config.load_config().network)

    def _injector(self, vm: Any) -> Any:
        lib = self._lib
        info = lib.libvmi.VmiInfo.load(lib.paths.VMI_INFO_PATH)
        return lib.injector.Injector(vm.vm_name, info, lib.paths.VMI_KERNEL_PROFILE_PATH)

    def _start(self, values: dict[str, str], _: list[str]) -> int:
        self._vm(int(values["vm-id"])).restore()
        return 0

    def _stop(self, values: dict[str, str], _: list[str]) -> int:
        self._vm(int(values["vm-id"])).destroy()
        return 0

    def _shell(self, values: dict[str, str], words: list[str]) -> int:
        vm = self._vm(int(values["vm-id"]))
        if not vm.is_running:
            raise SystemExit(f"{vm.vm_name} is not running")
        shell, _ = self._lib.drakshell.get_drakshell(vm, self._injector(vm))
        code = shell.run_interactive(words, None, sys.stdout, sys.stderr).join()
        sys.stderr.write(f"Process terminated with exit code {code}\n")
        return 0

    def _copy(self, _: dict[str, str], words: list[str]) -> int:
        match = re.fullmatch(r"vm-([1-9][0-9]{0,2}):(.+)", words[2], re.DOTALL)
        if match is None:
            raise SystemExit("expected vm-N:PATH to copy to")
        vm = self._vm(int(match.group(1)))
        if not vm.is_running:
            raise SystemExit(f"{vm.vm_name} is not running")
        local = pathlib.Path(words[1]).resolve()
        remote = str(pathlib.PureWindowsPath(match.group(2)))
        try:
            done = self._injector(vm).write_file(str(local), remote)
        except subprocess.CalledProcessError as error:
            for said in (error.stdout, error.stderr):
                sys.stderr.write((said or b"").decode("utf-8", "replace"))
            raise SystemExit(f"the injector ended with {error.returncode}") from None
        sys.stdout.write(done.stdout.decode("utf-8", "replace") + "\n")
        return 0

    def _line(self, values: dict[str, str], _: list[str]) -> int:
        lib = self._lib
        vm = self._vm(int(values["vm-id"]))
        more: dict[str, Any] = {}
        if lib.newest:
            version = lib.version_detection.get_drakvuf_version()
            how = lib.startup.make_exec_parameters(
                values.get("cmd", ""),
                values.get("method", "createproc"),
                values.get("working-dir"),
                version.supports_shellexec_verb,
            )
            more = {
                "drakvuf_version_info": version,
                "exec_cmd": how.command,
                "shellexec_args": how.shellexec_args,
                "start_method": how.start_method,
                "working_dir": how.working_dir,
            }
        words = lib.drakvuf_cmdline.get_base_drakvuf_cmdline(
            vm.vm_name,
            lib.paths.VMI_KERNEL_PROFILE_PATH.as_posix(),
            vmi_info=lib.libvmi.VmiInfo.load(lib.paths.VMI_INFO_PATH),
            **{"exec_cmd": values.get("cmd"), **more},
        )
        sys.stdout.write(" ".join(shlex.quote(word) for word in words) + "\n")
        return 0

    def _screenshots(self, values: dict[str, str], _: list[str]) -> int:
        """Write ``screenshots.json`` and ``screenshots/*.png`` until SIGTERM, or until there are
        *most-bytes*."""
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        number, directory = int(values["vm-id"]), pathlib.Path(values["directory"])
        lib = self._lib
        install = lib.install_info.InstallInfo.load(lib.paths.INSTALL_INFO_PATH)
        maker = importlib.import_module("drakrun.analyzer.screenshotter").Screenshotter(
            output_dir=directory,
            vnc_host="localhost",
            vnc_port=SCREENSHOT_PORT + number,
            vnc_password=install.vnc_passwd,
            loop_interval=float(values.get("seconds", "5")),
            max_screenshots=int(values["most-files"]),
        )
        maker.start()
        most = int(values["most-bytes"])
        while not stop.wait(WATCH_SECONDS):
            if threading.active_count() == 1:
                return 0  # it has made as many as were wanted, or has said that it could not connect
            if size_of(directory / "screenshots") > most:
                sys.stderr.write(f"more than {most} bytes of screenshots\n")
                break
        killer = threading.Timer(SCREENSHOT_STOP_SECONDS, os._exit, (0,))  # what is there is whole
        killer.daemon = True
        killer.start()
        maker.stop()
        return 0


def parsed(words: list[str], known: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """Options and arguments, as click takes them. Raises :class:`Refused`."""
    values: dict[str, str] = {}
    rest: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            return values, rest + left
        if not word.startswith("--"):
            rest.append(word)
            continue
        name, sign, value = word[2:].partition("=")
        if name not in known or (not sign and not left):
            raise Refused(f"option {word[:40]}")
        values[name] = value if sign else left.pop(0)
    return values, rest


def size_of(directory: pathlib.Path) -> int:
    """Bytes of the files in *directory*."""
    try:
        with os.scandir(directory) as entries:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
    except OSError:
        return 0


# The service


class Call:
    """A call that is being done."""

    def __init__(self, connection: socket.socket, pid: int, *, of_library: bool) -> None:
        self.connection = connection
        self.pid = pid
        self.of_library = of_library
        self.is_over = False
        self.is_left = False
        """Its caller has closed the connection."""

    def kill(self) -> None:
        """End it and what it started."""
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(self.pid, signal.SIGKILL)


class Server:
    """Takes calls, one child each. Single-threaded; it waits only for the next event."""

    def __init__(self, listener: socket.socket, drakrun: str, calls: Calls) -> None:
        self._listener = listener
        self._drakrun = drakrun
        self._calls = calls
        self._prctl = ctypes.CDLL(None).prctl
        self._running: dict[int, Call] = {}
        """Calls by the descriptor of their connection."""
        self._served = 0
        self._ending = False
        self._parent = os.getpid()
        self._most_memory = memory(self._parent) + MOST_MEMORY // 4

    def serve(self) -> None:
        """Serve until SIGTERM, or :data:`MOST_SERVED` calls, and until no call is left."""
        woken, wake = os.pipe()
        for end in (woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._end)
        self._listener.setblocking(False)
        while self._running or not self._is_done():
            poll = select.poll()
            poll.register(woken, select.POLLIN)
            if not self._is_done():
                poll.register(self._listener, select.POLLIN)
            for descriptor, call in self._running.items():
                if not call.is_left:
                    poll.register(descriptor, 0)  # reports when its caller closes it
            events = dict(poll.poll(WATCH_SECONDS * 1000 if self._running else None))
            if woken in events:
                with contextlib.suppress(BlockingIOError):
                    os.read(woken, 4096)
            for descriptor in [one for one in self._running if one in events]:
                self._running[descriptor].is_left = True
            if self._listener.fileno() in events:
                self._accept()
            self._check_calls()

    def _end(self, *_: Any) -> None:
        self._ending = True

    def _is_done(self) -> bool:
        return self._ending or self._served >= MOST_SERVED or memory(self._parent) > self._most_memory

    def _check_calls(self) -> None:
        """Tell callers whose call is over; end those whose caller is gone, or that have grown too large."""
        for descriptor, call in list(self._running.items()):
            if not call.is_over:
                status = os.waitid(os.P_PID, call.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if status is not None:
                    call.is_over = True
                    code = status.si_status if status.si_code == os.CLD_EXITED else -status.si_status
                    say(call.connection, {"code": code})
                elif call.is_left or (call.of_library and memory(call.pid) > MOST_MEMORY):
                    call.kill()
            if call.is_left and call.is_over:
                os.waitpid(call.pid, 0)
                call.connection.close()
                del self._running[descriptor]

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # it has given up meanwhile
            return
        descriptors: list[int] = []
        try:
            connection.settimeout(WATCH_SECONDS)
            self._begin(connection, descriptors)
        except Refused as error:
            say(connection, {"refused": str(error)})
            connection.close()
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            say(connection, {"refused": f"no call: {type(error).__name__}"})
            connection.close()
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _begin(self, connection: socket.socket, descriptors: list[int]) -> None:
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        if CREDENTIALS.unpack(found)[1] != os.geteuid():
            raise Refused("another user")
        data, ancillary, flags, _ = connection.recvmsg(MOST_BYTES, socket.CMSG_SPACE(4 * 8))
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                content = content[: len(content) // 4 * 4]
                descriptors.extend(memoryview(content).cast("i"))
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise Refused("too long")
        if data == b"ping":
            connection.sendall(b"pong")
            connection.close()
            return
        message = json.loads(data)
        argv, environment = message["argv"], message["environment"]
        if not argv or not all(
            isinstance(word, str) for word in [*argv, *environment, *environment.values()]
        ):
            raise Refused("expected words")
        if len(descriptors) != 2 or len(self._running) >= MOST_CALLS:
            raise Refused("expected stdout and stderr" if len(descriptors) != 2 else "too many calls at once")
        of_library = argv[0] == self._drakrun
        work = self._calls.find(argv[1:]) if of_library else functools.partial(execute, argv, environment)
        self._served += 1
        pid = os.fork()
        if pid == 0:
            self._child(connection, descriptors, environment, work)
        self._running[connection.fileno()] = Call(connection, pid, of_library=of_library)

    def _child(
        self,
        connection: socket.socket,
        descriptors: list[int],
        environment: dict[str, str],
        work: Callable[[], int],
    ) -> NoReturn:
        """Wait for the caller's ``go``, then do the work; the process ends with it."""
        code = NOT_STARTED
        try:
            os.setsid()
            self._prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != self._parent:
                os._exit(NOT_STARTED)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            for target, descriptor in ((1, descriptors[0]), (2, descriptors[1])):
                os.dup2(descriptor, target)
            say(connection, {"pid": os.getpid()})
            connection.settimeout(None)
            if connection.recv(16) != b"go":
                os._exit(NOT_STARTED)
            connection.close()
            os.closerange(3, MOST_DESCRIPTORS)
            os.environ.clear()
            os.environ.update(environment)
            code = done(work)
        finally:
            os._exit(code)


def done(work: Callable[[], int]) -> int:
    """The exit code of *work*; what went wrong is on stderr, as the command would have it there."""
    form = "[%(asctime)s][%(levelname)s] %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, stream=sys.stderr)
    try:
        code = work()
    except SystemExit as error:
        sys.stderr.write(f"{error}\n")
        code = 1
    except BaseException:  # noqa: BLE001 whatever it is, it is told and ends this process only
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    return code


def execute(argv: list[str], environment: dict[str, str]) -> int:
    """Become the program *argv*; returns only if it cannot be started."""
    try:
        os.execvpe(argv[0], argv, environment)  # noqa: S606 no shell is wanted
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
    return NOT_STARTED


def say(connection: socket.socket, message: dict[str, Any]) -> None:
    """A JSON line, unless its reader is gone."""
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(message).encode() + b"\n")


def memory(pid: int) -> int:
    """Bytes that a process has in memory; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return 0


def main(place: str, drakrun: str, extra: str | None = None) -> int:
    """Write the first line, then serve. *extra*: a module to import as well, since many calls will need
    it."""
    begun = time.monotonic()
    answers = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not look like an answer
    try:
        lib = load()
    except Unfit as error:
        hello: dict[str, Any] = {"unfit": str(error)}
    else:
        hello = {"version": lib.version, "seconds": round(time.monotonic() - begun, 3)}
    if extra and "unfit" not in hello:
        try:
            importlib.import_module(extra)
        except Exception as error:  # noqa: BLE001 whatever stands in the way, calls of it say so
            hello["lacks"] = f"{type(error).__name__}: {str(error)[:300]}"
    with os.fdopen(answers, "w", encoding="utf-8") as answer:
        answer.write(json.dumps(hello) + "\n")
    if place == "check" or "unfit" in hello:
        return 0
    with socket.socket(fileno=int(place)) as listener:
        Server(listener, drakrun, Calls(lib)).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
