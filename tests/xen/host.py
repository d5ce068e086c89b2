"""A simulated Xen host with DRAKVUF Sandbox: what tests use. README.md says what the programs do."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.waiting import wait_until
from tests.xen import layout
from tests.xen.tools import iptables
from tests.xen.tools.drakrun_vm import start_network
from tests.xen.tools.drakvuf_log import encode
from tests.xen.tools.machine import Machine, started_ticks
from tests.xen.tools.records import Order

VERSIONS = ("0.19.0", "0.20.0", "0.21.0")
FAILURES = {
    "drakrun vm-start": {"fails", "hangs", "hangs_with_guest"},
    "drakrun vm-stop": {"survives", "survives_quietly", "zombie", "hangs"},
    "drakrun injector copy": {"no_json", "fails", "times_out", "hangs", "garbage"},
    "drakrun drakvuf-cmdline": {"fails", "hangs"},
    "drakrun drakshell": {"fails", "exit_code", "hangs"},
    "drakrun screenshots": {"huge", "hangs"},
    "drakvuf": {
        "not_executed",
        "injection_error",
        "injection_timeout",
        "fails",
        "crashes",
        "hangs",
        "dies_with_guest",
        "outlives_guest",
        "huge_log",
        "huge_line",
        "cut_line",
        "hostile_dumps",
        "huge_stderr",
        "kernel_panic",
        "power_off",
    },
    "injector": {"fails", "no_json", "hangs", "times_out", "garbage"},
    "xl list": {"hangs", "fails"},
    "xl info": {"hangs", "fails"},
    "xl destroy": {"hangs", "fails"},
    "xl restore": {"hangs", "hangs_with_guest", "fails"},
    "vmi-dump-memory": {"fails", "hangs"},
    "iptables": {"open"},
    "iptables-save": {"fails"},
    "tcpdump": {"fails", "denied", "hangs", "crashes"},
}
"""What can be ordered."""


@dataclass(frozen=True, kw_only=True)
class Guest:
    """A domain that is there; a dying one is called ``(null)``."""

    name: str
    domid: int
    files: Mapping[str, str]
    commands: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Call:
    """A command line that was made."""

    tool: str
    argv: tuple[str, ...]
    pid: int
    cwd: Path
    by: str | None
    """The program of the host that made it, if one did."""


@dataclass(frozen=True, kw_only=True)
class End:
    """A call that ended: UNIX times, and the processor time between, without its interpreter's start."""

    words: tuple[str, ...]
    started: float
    """When its process was made, to a hundredth of a second or so."""
    begun: float
    ended: float
    processor: float


@dataclass(frozen=True, kw_only=True)
class Process:
    """A program that runs now."""

    tool: str
    argv: tuple[str, ...]
    pid: int
    watches: str | None
    """The guest that DRAKVUF has begun to watch, the bridge that tcpdump listens on; None before that."""


class XenHost:
    """A host: orders what its programs do, and tells what they did."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._machine = Machine(str(root))
        self.bin = Path(self._machine.bin)
        self.etc = Path(self._machine.etc)
        self.lib = Path(self._machine.lib)
        self.run = Path(self._machine.run)
        self.version = self._machine.version

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        slots: int = 2,
        version: str = "0.21.0",
        restore_seconds: float = 0.1,
        second: float = 1,
        import_seconds: float = 0,
        iptables_seconds: float = 0,
    ) -> Self:
        """Make a host below *directory*, with memory for *slots* guests.

        *second* is how long a second of DRAKVUF's own timeouts takes: less makes tests faster.
        *import_seconds* is the processor time that each start of drakrun costs (1.25 for the real one), and
        *iptables_seconds* how long it takes from one call of iptables to the next while it makes its chains.
        """
        if version not in VERSIONS:
            raise ValueError(f"{version}: there are {', '.join(VERSIONS)}")
        root = directory.resolve()
        layout.build(
            root,
            slots=slots,
            version=version,
            restore_seconds=restore_seconds,
            second=second,
            import_seconds=import_seconds,
            iptables_seconds=iptables_seconds,
        )
        return cls(root)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def path(self) -> str:
        """A value for ``PATH``: the host's programs first."""
        return f"{self.bin}{os.pathsep}{os.environ.get('PATH', os.defpath)}"

    @property
    def install_json(self) -> Path:
        """DRAKVUF Sandbox's install.json."""
        return self.etc / "install.json"

    @property
    def kernel_profile(self) -> Path:
        """The guest kernel's profile."""
        return self.lib / "profiles" / "kernel.json"

    @property
    def runtime_json(self) -> Path:
        """Offsets, and the process to inject into."""
        return self.lib / "profiles" / "runtime.json"

    @property
    def snapshot(self) -> Path:
        """The memory of the snapshot."""
        return self.lib / "volumes" / "snapshot.sav"

    @property
    def disk(self) -> Path:
        """The disk of the snapshot."""
        return self.lib / "volumes" / "vm-0.img"

    @property
    def interpreter(self) -> Path:
        """Python of the environment that ``drakrun`` is installed in."""
        return self.root / layout.ENVIRONMENT / "bin" / "python3"

    def tool(self, name: str) -> Path:
        """A program's absolute path."""
        return self.bin / name

    def play(
        self,
        *,
        log: Iterable[Mapping[str, object] | bytes] | None = None,
        dumps: Mapping[str, bytes] | Iterable[tuple[str, bytes]] = (),
        packets: Iterable[bytes] = (),
        seconds: float = 0,
        vm: str | None = None,
    ) -> None:
        """Say what the next runs record, in *vm* or in any. Without *log*: the built-in lines."""
        directory = self.root / "state" / "recordings" / (vm or "any")
        (directory / "dumps").mkdir(parents=True, exist_ok=True)
        for old in (directory / "log", *(directory / "dumps").iterdir()):
            old.unlink(missing_ok=True)
        if log is not None:
            lines = (entry if isinstance(entry, bytes) else encode(entry) for entry in log)
            (directory / "log").write_bytes(b"".join(lines))
        pairs = dumps.items() if isinstance(dumps, Mapping) else dumps
        for number, (base, content) in enumerate(pairs):
            (directory / "dumps" / f"{number:06d}-{base}").write_bytes(content)
        (directory / "packets.json").write_text(json.dumps([packet.hex() for packet in packets]))
        (directory / "seconds.json").write_text(json.dumps(seconds))

    def fail(
        self, tool: str, how: str, *, times: int | None = 1, vm: str | None = None, **details: object
    ) -> None:
        """Order a failure: the next *times* uses of *tool* (None: all), for *vm* or for any.

        Raises:
            ValueError: it cannot fail so.
        """
        if how not in FAILURES.get(tool, set()):
            known = "; ".join(f"{name}: {', '.join(sorted(hows))}" for name, hows in FAILURES.items())
            raise ValueError(f"{tool} cannot fail as {how}. {known}")
        order = Order(tool=tool, how=how, vm=vm, times=times, details=details)
        with self._machine.locked():
            self._machine.write("orders.json", [*self._machine.read("orders.json", []), order])

    def orders(self) -> tuple[Order, ...]:
        """The failures that are not used up."""
        return tuple(self._machine.read("orders.json", []))

    def heal(self) -> None:
        """Withdraw every order, and let what is dying die."""
        with self._machine.locked():
            self._machine.write("orders.json", [])
            for guest in self._machine.guests():
                if guest["dying"]:
                    self._machine.end_guest(guest)

    def guests(self) -> tuple[Guest, ...]:
        """The domains that are there, those that are being restored or are dying too."""
        return tuple(
            Guest(
                name=guest["name"],
                domid=guest["domid"],
                files=guest["files"],
                commands=tuple(guest["commands"]),
            )
            for guest in self._machine.guests()
        )

    def boot(self, xen_command_line: str) -> None:
        """Say what Xen was started with; the default is what DRAKVUF Sandbox recommends."""
        self._machine.write("xen_commandline.json", xen_command_line)

    def iptables(self, command: str) -> int:
        """Do what ``iptables`` does; the exit status."""
        return iptables.call(self._machine, *command.split())

    def rules(self) -> str:
        """What ``iptables-save`` prints."""
        return iptables.save(self._machine)

    def start(self, vm: str) -> None:
        """A guest and its bridge that nobody here asked for, as a worker that died leaves them."""
        network = {"dns_server": "use-gateway-address", "out_interface": "default", "net_enable": False}
        with self._machine.locked():
            self._machine.new_guest(vm, 2048, restoring=False)
        start_network(self._machine, int(vm.removeprefix("vm-")), network, lambda *_: None)

    def destroy(self, vm: str) -> None:
        """End a guest under whoever uses it. Its bridge stays, as ``xl destroy`` leaves it."""
        with self._machine.locked():
            guest = self._machine.guest(vm)
            if guest is not None:
                self._machine.end_guest(guest)

    def calls(self, tool: str | None = None) -> tuple[Call, ...]:
        """The command lines that were made, oldest first; *tool*: those that begin with these words."""
        found = []
        for entry in self._journal("calls.jsonl"):
            words = f"{entry['tool']} {' '.join(entry['argv'])} "
            if tool is None or words.startswith(f"{tool} "):
                call = Call(
                    tool=entry["tool"],
                    argv=tuple(entry["argv"]),
                    pid=entry["pid"],
                    cwd=Path(entry["cwd"]),
                    by=entry["by"],
                )
                found.append(call)
        return tuple(found)

    def ends(self) -> tuple[End, ...]:
        """The calls that ended, in their order; none that was killed, and none that the library did."""
        return tuple(
            End(
                words=(entry["tool"], *entry["argv"]),
                started=entry["started"],
                begun=entry["time"],
                ended=entry["ended"],
                processor=entry["processor"],
            )
            for entry in self._journal("ends.jsonl")
        )

    def warnings(self) -> tuple[str, ...]:
        """What the real tools would have skipped in silence."""
        return tuple(self._journal("warnings.jsonl"))

    def processes(self) -> tuple[Process, ...]:
        """The programs that run now. One that was killed and not yet waited for does not."""
        found = []
        for path in (self.root / "state" / "processes").glob("*.json"):
            mark = self._machine.read(f"processes/{path.name}", None)
            if mark is not None and started_ticks(int(path.stem)) == mark["ticks"]:
                process = Process(
                    tool=mark["tool"],
                    argv=tuple(mark["argv"]),
                    pid=int(path.stem),
                    watches=mark["watches"],
                )
                found.append(process)
        return tuple(sorted(found, key=lambda process: process.pid))

    def close(self) -> None:
        """Kill, by pid, what still runs."""
        for process in self.processes():
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:  # it ended by itself
                continue
        wait_until(lambda: not self.processes(), "the host's programs are gone")

    def _journal(self, name: str) -> list[Any]:
        try:
            lines = (self.root / "state" / name).read_bytes().splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines]
