"""``drakvuf``: starts the sample, writes what it "sees" until it is stopped, exits as src/main.cpp does."""

from __future__ import annotations

import os
import time

from tests.xen.tools import drakvuf_log, injection, windows
from tests.xen.tools.bare import SIG_DFL, SIG_IGN, SIGABRT, SIGHUP, SIGINT, SIGSEGV, SIGTERM, Path, signal
from tests.xen.tools.drakvuf_log import Log, Recording
from tests.xen.tools.drakvuf_options import Options, Quit, version
from tests.xen.tools.machine import Machine, not_simulated, say

TYPE_CHECKING = False  # as in machine.py
if TYPE_CHECKING:
    from tests.xen.tools.records import Guest, Order

SUCCESS, FAIL, INJECTION_TIMEOUT, INJECTION_ERROR, INJECTION_UNSUCCESSFUL = range(5)
WRITE_FILE_ERROR, KERNEL_PANIC, POWER_OFF = 6, 10, 11

ENDINGS = {"kernel_panic": KERNEL_PANIC, "power_off": POWER_OFF}
TRACES = {"ipt": "--ipt-dir", "codemon": "--codemon-dump-dir"}
"""Plugins that are not active without their directory, which they make."""
HANDLED = (SIGHUP, SIGTERM, SIGINT)
TICK = 0.05


def main(machine: Machine, argv: list[str]) -> int:
    """Run DRAKVUF; the exit status (src/exitcodes.h)."""
    say(f"{injection.timestamp()} DRAKVUF v{version(machine)} Simulated, by no means the real one")
    try:
        options = Options(machine, argv)
    except Quit as end:
        return int(str(end))
    if options.value("-o") != "json":
        return not_simulated("drakvuf without -o json")
    kpgd = int(options.value("-k") or "0", 0)
    guest = injection.attach(machine, options.value("-d") or "", options.value("-r") or "", kpgd)
    if guest is None:
        say("Failed to initialize DRAKVUF: drakvuf_init() failed")
        return FAIL
    return Run(machine, options, guest).all()


class Run:
    """One run over one guest."""

    def __init__(self, machine: Machine, options: Options, guest: Guest) -> None:
        self._machine = machine
        self._options = options
        self._guest = guest
        self._log = Log()
        self._caught: list[int] = []
        self._order: Order | None = machine.take("drakvuf", vm=guest["name"])
        self._how = self._order["how"] if self._order else None
        for number in HANDLED:
            signal(number, lambda caught, _: self._caught.append(caught))

    def all(self) -> int:
        """From injection to the end; the exit status."""
        if self._how == "fails":
            say(self._detail("stderr", "Failed to initialize DRAKVUF: drakvuf_init() failed"))
            return FAIL
        try:
            self._write_files()
            if self._options.value("-e"):
                self._inject(self._options.value("-e") or "")
            if self._caught:
                return SUCCESS
            self._start_plugins()
            self._caught.clear()  # the loop starts with a clear head, whatever came before
            return self._watch()
        except Quit as end:
            return int(str(end))
        finally:
            self._log.flush()

    def _detail(self, name: str, default: object) -> str:
        return str(self._order["details"].get(name, default) if self._order else default)

    def _write_files(self) -> None:
        for source, target in self._options.write_files:
            path = windows.expand(target)
            if not windows.can_be_written(path):
                say(f"File copying failed\nFailed to copy file ({source}) into VM!")
                raise Quit(str(WRITE_FILE_ERROR))
            with self._machine.locked():
                self._guest["files"][path] = "not kept"
                self._machine.save_guest(self._guest)
            self._log.printf(injection.success("writefile", target, path))

    def _inject(self, command: str) -> None:
        failures = {
            "injection_error": ("PrematureBreak", INJECTION_ERROR),
            "injection_timeout": ("Timeout", INJECTION_TIMEOUT),
        }
        method = self._options.method
        if self._how in failures:
            status, code = failures[self._how]
            self._not_injected(injection.record(method, status), code)
        if self._options.number("-i") != injection.vmi_info(self._machine)["inject_pid"]:
            self._wait_for_process(method)
        failure = windows.start(self._guest, method, command, self._options.value("-c"))
        if self._how == "not_executed":
            failure = int(self._detail("code", 193)), self._detail("error", windows.BAD_FORMAT[1])
        if failure:
            number, name = failure
            line = injection.record(method, "Error", ErrorCode=number, Error=name)
            self._not_injected(line, INJECTION_UNSUCCESSFUL)
        self._log.printf(injection.success(method, command, pid=4104, tid=4108))

    def _not_injected(self, line: bytes, code: int) -> None:
        self._log.printf(line)
        say("Process startup failed")
        raise Quit(str(code))

    def _wait_for_process(self, method: str) -> None:
        self._machine.warn(f"drakvuf: -i {self._options.value('-i')}: no such process, it waits for one")
        end = time.monotonic() + (self._options.number("-j") * self._machine.second or float("inf"))
        while time.monotonic() < end and not self._caught:
            time.sleep(TICK)
        self._not_injected(injection.record(method, "Timeout"), INJECTION_TIMEOUT)

    def _start_plugins(self) -> None:
        hooks, calls = self._options.value("--dll-hooks-list"), self._options.value("-S")
        if hooks and self._options.plugins & {"apimon", "memdump"} and not Path(hooks).is_file():
            say("terminate called after throwing an instance of 'std::runtime_error'")
            self._die(SIGABRT)
        if calls and "syscalls" in self._options.plugins and not Path(calls).is_file():
            say("[SYSCALLS] failed to open syscalls file, does it exist?\nPlugin syscalls startup failed!")
            raise Quit(str(FAIL))
        for plugin, option in TRACES.items():
            self._prepare_traces(plugin, self._options.value(option))
        profile = self._options.value("-T")
        if profile and "socketmon" in self._options.plugins and not Path(profile).is_file():
            say("Plugin socketmon startup failed!")
            raise Quit(str(FAIL))

    def _prepare_traces(self, plugin: str, directory: str | None) -> None:
        if plugin not in self._options.plugins:
            return
        if directory is None:
            self._machine.warn(f"drakvuf: {plugin} does nothing without {TRACES[plugin]}")
        elif not Path(directory).is_dir():
            try:
                os.mkdir(directory)  # noqa: PTH102 - without pathlib
            except OSError:
                say(f"Plugin {plugin} startup failed!")
                raise Quit(str(FAIL)) from None

    def _watch(self) -> int:
        """The main loop. 0 or no ``-t`` is no timeout at all."""
        timeout = self._options.number("-t") * self._machine.second
        started = time.monotonic()
        recording = Recording(self._machine, self._guest["name"], self._options.plugins)
        self._excess()
        if self._how == "hangs":
            for number in HANDLED:
                signal(number, SIG_IGN)
        half = len(recording.lines) // 2
        self._machine.watches(self._guest["name"])
        written = 0
        while not self._over(started, timeout):
            done = min(1.0, (time.monotonic() - started) / recording.seconds) if recording.seconds else 1.0
            until = int(len(recording.lines) * done)
            if self._how == "crashes" and (until > half or done == 1):
                self._play(recording, written, half)
                self._die(SIGSEGV)
            self._play(recording, written, until)
            written = max(written, until)
            if self._how in ENDINGS and done == 1:
                return ENDINGS[self._how]
            time.sleep(TICK)
        if self._how == "cut_line":
            self._log.line(b'{"Plugin":"procmon","TimeStamp":"17')
        if self._how == "dies_with_guest" and self._gone():
            say("Critical error in removing int3\nPlugin procmon stop failed!")
            return FAIL
        return SUCCESS

    def _over(self, started: float, timeout: float) -> bool:
        if self._how == "hangs":
            return False
        if self._caught or (timeout and time.monotonic() - started >= timeout):
            return True
        return self._how != "outlives_guest" and self._gone()

    def _gone(self) -> bool:
        return self._machine.guest(str(self._guest["domid"])) is None

    def _play(self, recording: Recording, first: int, until: int) -> None:
        directory = Path(self._options.value("--memdump-dir") or "/nowhere")
        if "memdump" in self._options.plugins and directory.is_dir():
            for number, (base, content) in enumerate(recording.dumps, start=1):
                line = drakvuf_log.write_dump(directory, base, content, number)
                if line:
                    self._log.line(line)
            recording.dumps.clear()
        for line in recording.lines[first:until]:
            self._log.line(line)

    def _excess(self) -> None:
        """Too much of something, where it was ordered."""
        directory = Path(self._options.value("--memdump-dir") or "/nowhere")
        if self._how in ("huge_log", "huge_line"):
            self._log.flush()
        if self._how == "huge_log":
            drakvuf_log.huge(int(self._detail("size", 256 * 1024**2)))
        if self._how == "huge_line":
            drakvuf_log.huge_line(int(self._detail("size", 100 * 1024**2)))
        if self._how == "huge_stderr":
            drakvuf_log.huge_stderr(int(self._detail("size", 4 * 1024**2)))
        if self._how == "hostile_dumps" and directory.is_dir():
            drakvuf_log.hostile_dumps(directory, self._machine.root)

    def _die(self, number: int) -> None:
        """As a crash does: what was buffered is lost."""
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal(number, SIG_DFL)
        os.kill(os.getpid(), number)
