"""What the programs of one host share: its guests, the failures ordered, what was called and who runs.

All of it is files below ``<root>/state``. A file is written whole and renamed, under one lock that the
kernel drops with its holder: any program may be killed at any instruction, and several run at once.

A test run starts these programs thousands of times: what each of them imports is little.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import sys
import time

from tests.xen.tools.bare import Path, dumps, loads

TYPE_CHECKING = False  # as in bare.py
if TYPE_CHECKING:
    from typing import Any, BinaryIO

    from tests.xen.tools.records import Guest, Order

CALLER = "XEN_SIMULATION_CALLER"
"""Environment variable: which program started this one, where a program of the host did."""

DYING = "(null)"
"""The name that ``xl list`` shows for a domain that was destroyed and is not gone yet."""


class Machine:
    """The host whose files are below *root*."""

    def __init__(self, root: str) -> None:
        self.root = root = Path(root)
        self.state = root / "state"
        self.bin = root / "bin"
        self.etc = root / "etc" / "drakrun"
        self.lib = root / "var" / "lib" / "drakrun"
        self.run = root / "var" / "run" / "drakrun"
        settings: dict[str, Any] = loads((self.state / "host.json").read_bytes())
        self.version: str = settings["version"]
        self.slots: int = settings["slots"]
        self.restore_seconds: float = settings["restore_seconds"]
        self._mark: dict[str, Any] = {}
        self._call: dict[str, Any] = {}
        self._before = 0.0
        self.second: float = settings["second"]
        """How long a second of DRAKVUF's ``-t`` and ``-j`` takes."""
        self.import_seconds: float = settings.get("import_seconds", 0)
        """Processor time that each start of drakrun costs."""
        self.iptables_seconds: float = settings.get("iptables_seconds", 0)
        """How long drakrun takes from one call of iptables to the next, while it makes its chains."""
        self.has_xen: bool = settings.get("has_xen", False)
        """The guests are Xen's own, and ``xl`` is: the host is a real dom0 (tests/xen/real)."""

    @property
    def newest(self) -> bool:
        """DRAKVUF Sandbox 0.21 with the DRAKVUF that it was tested with."""
        return self.version == "0.21.0"

    def locked(self) -> BinaryIO:
        """Alone among the programs of this host, for as long as what this returns is open."""
        lock = (self.state / "lock").open_bytes()
        fcntl.flock(lock, fcntl.LOCK_EX)
        return lock

    def guests(self) -> list[Guest]:
        """Every domain but Domain-0, by domain id; those that are being restored or are dying too."""
        found = []
        for path in (self.state / "guests").entries(".json"):
            try:
                guest: Guest = loads(path.read_bytes())
            except FileNotFoundError:  # ended between the listing and the look
                continue
            found.append(guest)
        return sorted(self._of_xen(found) if self.has_xen else found, key=lambda guest: guest["domid"])

    def _of_xen(self, noted: list[Guest]) -> list[Guest]:
        """The domains that Xen has, with what is noted of them."""
        import subprocess

        listed = subprocess.run([self.bin / "xl", "list"], capture_output=True, text=True, check=True)
        rows = [line.split() for line in listed.stdout.splitlines()[1:]]
        known = {guest["domid"]: guest for guest in noted}
        return [
            known.get(int(row[1])) or _guest(row[0], int(row[1]), int(row[2]), dying=row[0] == DYING)
            for row in rows
            if row[1] != "0"
        ]

    def guest(self, name: str) -> Guest | None:
        """The domain called *name*, or with that domain id; None if there is none, or it is dying."""
        for guest in self.guests():
            if not guest["dying"] and name in (guest["name"], str(guest["domid"])):
                return guest
        return None

    def save_guest(self, guest: Guest) -> None:
        """Write the guest's file. Under :meth:`locked`."""
        self.write(f"guests/{guest['domid']}.json", guest)

    def new_guest(self, name: str, memory: int, *, restoring: bool) -> Guest:
        """Make the domain *name*. Under :meth:`locked`."""
        domid = self.read("domid.json", 0) + 1
        self.write("domid.json", domid)
        guest = _guest(name, domid, memory, started=time.time(), restoring=restoring)
        self.save_guest(guest)
        return guest

    def end_guest(self, guest: Guest) -> None:
        """The domain is gone. Under :meth:`locked`."""
        (self.state / "guests" / f"{guest['domid']}.json").unlink(missing_ok=True)

    def bridge(self, name: str) -> Path:
        """The file that stands for the bridge *name*; it exists while the bridge does."""
        return self.state / "bridges" / name

    def take(self, *tools: str, vm: str | None) -> Order | None:
        """Use up the first order that is for one of *tools* and for *vm*; None if there is none."""
        if not self.read("orders.json", []):
            return None
        with self.locked():
            orders: list[Order] = self.read("orders.json", [])
            for order in orders:
                if order["tool"] in tools and order["vm"] in (None, vm):
                    if order["times"] is not None:
                        order["times"] -= 1
                    self.write("orders.json", [kept for kept in orders if kept["times"] != 0])
                    return order
        return None

    def warn(self, text: str) -> None:
        """Note what the real tool would have skipped in silence."""
        self._append("warnings.jsonl", text)

    def enter(self, tool: str, argv: list[str]) -> None:
        """Note this call, and that this process runs until it ends."""
        self._call = {
            "tool": tool,
            "argv": argv,
            "cwd": os.getcwd(),  # noqa: PTH109 - a string for the journal
            "pid": os.getpid(),
            "by": os.environ.get(CALLER),
            "time": time.time(),
        }
        self._append("calls.jsonl", self._call)
        self._mark = {"tool": tool, "argv": argv, "ticks": started_ticks(os.getpid()), "watches": None}
        self.write(f"processes/{os.getpid()}.json", self._mark)
        self._before = time.process_time()
        atexit.register(self.leave)

    def leave(self) -> None:
        """Note when the call ended and what it took, but for a call that was killed."""
        (self.state / "processes" / f"{os.getpid()}.json").unlink(missing_ok=True)
        # Half a tick, so that it is neither too early nor too late on the whole
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - (self._mark["ticks"] + 0.5) / os.sysconf("SC_CLK_TCK")
        ended = time.time()
        took = {"started": ended - age, "ended": ended, "processor": time.process_time() - self._before}
        self._append("ends.jsonl", {**self._call, **took})

    def watches(self, what: str) -> None:
        """Note that this process has begun to watch the guest or the bridge *what*."""
        self.write(f"processes/{os.getpid()}.json", {**self._mark, "watches": what})

    def read(self, name: str, default: Any) -> Any:
        """What the state file *name* holds, or *default*."""
        try:
            return loads((self.state / name).read_bytes())
        except FileNotFoundError:
            return default

    def write(self, name: str, value: object) -> None:
        """Replace the state file *name*, whole or not at all."""
        path = self.state / name
        part = path.parent / f".{path.name}.{os.getpid()}"
        part.write_text(dumps(value))
        os.rename(part, path)  # noqa: PTH104 - without pathlib

    def _append(self, name: str, value: object) -> None:
        line = dumps(value).encode() + b"\n"
        with self.locked():
            descriptor = os.open(self.state / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.write(descriptor, line)  # in one piece: a kill comes before or after it
            os.close(descriptor)


def _guest(
    name: str,
    domid: int,
    memory: int,
    *,
    started: float = 0,
    restoring: bool = False,
    dying: bool = False,
) -> Guest:
    return {
        "name": name,
        "domid": domid,
        "started": started,
        "memory": memory,
        "restoring": restoring,
        "dying": dying,
        "files": {},
        "commands": [],
    }


def started_ticks(pid: int) -> int | None:
    """When process *pid* started, in clock ticks since boot; None if there is none, or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def say(text: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def not_simulated(what: str) -> int:
    """Refuse what the real tool has and this one does not, so that nobody takes it for the real answer."""
    say(f"simulation: {what} is not simulated")
    return 70
