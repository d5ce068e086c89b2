"""DRAKVUF's ``injector``: writes a file into the guest, or starts a command in it."""

from __future__ import annotations

import os
import time

from tests.xen.tools import gnu, injection, windows
from tests.xen.tools.bare import SIG_IGN, SIGHUP, SIGINT, SIGTERM, Path, sha256, signal
from tests.xen.tools.injection import record
from tests.xen.tools.machine import CALLER, Machine, not_simulated, say
from tests.xen.tools.xl import hang

TYPE_CHECKING = False  # as in machine.py
if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.xen.tools.records import Guest, Order

METHODS = ("shellexec", "createproc", "shellcode", "execproc", "readfile", "writefile")
SUCCESS, FAIL, TIMEOUT = 0, 1, 2


def main(machine: Machine, argv: list[str]) -> int:
    """Run the injector; the exit status."""
    say(f"DRAKVUF {machine.bin / 'injector'} v1.1-simulated")
    if len(argv) < 3:
        return _help()
    verb = "V:" if machine.newest else ""
    scan = gnu.Scan("injector", argv, f"r:d:i:I:e:m:B:P:{verb}f:k:vlgo:w", {"timeout": True})
    try:
        given = {option: value or "" for option, value in scan}
    except gnu.Refused as refused:
        say(f"{refused}\nUnrecognized option: ?")
        return SUCCESS  # so the real one does: only its empty stdout says that nothing happened
    method = given.get("-m", "createproc")
    if not method.startswith(METHODS):
        say("Unrecognized injection method")
        return SUCCESS
    if not all(given.get(option) for option in ("-r", "-d", "-i", "-e")) or not gnu.atoi(given["-i"]):
        return _help()
    if "-f" in given and not method.startswith(("execproc", "shellexec")):
        os.write(1, b"Arguments not supported! \n")
        return _help()
    return _inject(machine, method, given)


def _help() -> int:
    say("Required input: -r <path to json>, -d <domain>, -i <injection pid>, -e <inject_file>")
    return FAIL


def _inject(machine: Machine, method: str, given: dict[str, str]) -> int:
    if given.get("-o") != "json":
        return not_simulated("injector without -o json")
    actions: dict[str, Callable[[Machine, Guest, dict[str, str]], int]] = {
        "writefile": _write_file,
        "createproc": _create_process,
    }
    if method not in actions:
        return not_simulated(f"injector -m {method}")
    guest = injection.attach(machine, given["-d"], given["-r"], int(given.get("-k") or "0", 0))
    if guest is None:
        say(f"Failed to initialize on domain {given['-d']}")
        return FAIL
    tools = ["injector"]
    if os.environ.get(CALLER) == "drakrun injector copy":
        tools.append("drakrun injector copy")
    order = machine.take(*tools, vm=guest["name"])
    if order is not None:
        return _told(order, method)
    if gnu.atoi(given["-i"]) != injection.vmi_info(machine)["inject_pid"]:
        machine.warn(f"injector: there is no process {given['-i']} in {guest['name']}: it waits for one")
        return _no_such_process(method, gnu.atoi(given.get("--timeout", "0")))
    return actions[method](machine, guest, given)


def _told(order: Order, method: str) -> int:
    how = order["how"]
    if how == "hangs":
        for number in (SIGTERM, SIGINT, SIGHUP):
            signal(number, SIG_IGN)  # its handler only asks a loop that does not turn
        hang()
    if how == "no_json":
        return SUCCESS
    if how == "garbage":
        os.write(1, b'{"Plugin": "inject", "Status": \x1b[31mS\x00\xff\xfe\n')
        return SUCCESS
    if how == "times_out":
        os.write(1, record(method, "Timeout"))
        return TIMEOUT
    if "code" in order["details"]:
        os.write(1, record(method, "Error", ErrorCode=order["details"]["code"], Error="ERROR_X"))
        return FAIL
    os.write(1, record(method, "PrematureBreak"))
    return FAIL


def _no_such_process(method: str, timeout: int) -> int:
    if not timeout:
        hang()
    time.sleep(timeout)
    os.write(1, record(method, "Timeout"))
    return TIMEOUT


def _write_file(machine: Machine, guest: Guest, given: dict[str, str]) -> int:
    target, source = windows.expand(given["-e"]), Path(given.get("-B", ""))
    if not windows.can_be_written(target) or not source.is_file():
        os.write(1, record("writefile", "PrematureBreak"))
        return FAIL
    digest = sha256(source.read_bytes())
    with machine.locked():
        now = machine.guest(str(guest["domid"]))
        if now is not None:
            machine.save_guest({**now, "files": {**now["files"], target: digest}})
    if now is None:
        os.write(1, record("writefile", "PrematureBreak"))
        return FAIL
    os.write(1, injection.success("writefile", given["-e"], target))
    return SUCCESS


def _create_process(_machine: Machine, guest: Guest, given: dict[str, str]) -> int:
    failure = windows.start(guest, "createproc", given["-e"], None)
    if failure:
        code, name = failure
        os.write(1, record("createproc", "Error", ErrorCode=code, Error=name))
        return FAIL
    os.write(1, injection.success("createproc", given["-e"], pid=4104, tid=4108))
    return SUCCESS
