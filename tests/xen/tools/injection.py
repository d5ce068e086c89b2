"""What injection prints and needs, the same for ``drakvuf`` and ``injector``."""

from __future__ import annotations

import fcntl
import os
import time

from tests.xen.tools.bare import Path, dumps, loads
from tests.xen.tools.machine import Machine, say

TYPE_CHECKING = False  # as in machine.py
if TYPE_CHECKING:
    from typing import Any

    from tests.xen.tools.records import Guest

METHODS = {
    "createproc": "CreateProc",
    "shellexec": "ShellExec",
    "writefile": "WriteFile",
    "shellcode": "Shellcode",
}


def timestamp() -> str:
    """Seconds and microseconds, as DRAKVUF writes them."""
    now = time.time_ns() // 1000
    return f"{now // 1_000_000}.{now % 1_000_000:06d}"


def record(method: str, status: str, **rest: object) -> bytes:
    """The line that an injection leaves on stdout with ``-o json``."""
    entry = {
        "Plugin": "inject",
        "TimeStamp": timestamp(),
        "Method": METHODS[method],
        "Status": status,
        **rest,
    }
    return dumps(entry, ensure_ascii=False).encode() + b"\n"


def success(method: str, command: str, target: str | None = None, *, pid: int = 0, tid: int = 0) -> bytes:
    """The line of an injection that went well. *target* is the path in the guest where one was expanded."""
    quoted = command.startswith('"')
    name, _, arguments = command[quoted:].partition('"' if quoted else " ")
    return record(
        method,
        "Success",
        ProcessName=target or name,
        Arguments=arguments.lstrip(" "),
        InjectedPid=pid,
        InjectedTid=tid,
    )


def attach(machine: Machine, domain: str, profile: str, kpgd: int) -> Guest | None:
    """drakvuf_init: the guest, watched by nobody else as long as this process lives; None, and said why."""
    guest = machine.guest(domain)
    if guest is None:
        os.write(1, b"Domain is not running, failed to get domID from name!\n")
        say("Failed to get domain info")
        return None
    if guest["restoring"] or not _profile_fits(machine, profile, kpgd):
        say("Failed to init LibVMI library.")
        return None
    lock = os.open(machine.state / "monitors" / str(guest["domid"]), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held, and never closed, until the process ends
    except BlockingIOError:
        say("xen_set_vm_event: the domain's event ring is in use (EBUSY)\nFailed to init LibVMI library.")
        return None
    return guest


def _profile_fits(machine: Machine, profile: str, kpgd: int) -> bool:
    try:
        loads(Path(profile).read_bytes())
    except (OSError, ValueError):
        say(f"{profile}: no JSON profile")
        return False
    return kpgd in (0, int(vmi_info(machine)["vmi_offsets"]["kpgd"], 16))


def vmi_info(machine: Machine) -> dict[str, Any]:
    """runtime.json: offsets, and the process to inject into."""
    info: dict[str, Any] = loads((machine.lib / "profiles" / "runtime.json").read_bytes())
    return info
