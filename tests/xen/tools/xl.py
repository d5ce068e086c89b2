"""``xl``: list, info, destroy, restore, domid, domname, pause, unpause. Read in Xen's tools/xl."""

from __future__ import annotations

import os
import sys
import time

from tests.xen.tools import gnu
from tests.xen.tools.bare import Path, pause
from tests.xen.tools.machine import CALLER, DYING, Machine, not_simulated, say

TYPE_CHECKING = False  # as in machine.py
if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.xen.tools.records import Guest

HEADING = "Name                                        ID   Mem VCPUs\tState\tTime(s)"


class Exit(Exception):
    """Ends with this status."""


def main(machine: Machine, argv: list[str]) -> int:
    """Run xl; the exit status."""
    scan = gnu.Scan("xl", argv, "vftTN", {}, permute=False)
    try:
        for _ in scan:
            pass
    except gnu.Refused:
        say("unknown global option")
        return 2
    if not scan.rest:
        say("Usage xl [-vfNtT] <subcommand> [args]")
        return 1
    name, *words = scan.rest
    if name not in COMMANDS:
        return not_simulated(f"xl {name}") if name in REAL else _not_implemented()
    try:
        return COMMANDS[name](machine, words)
    except Exit as end:
        return int(str(end))


def _not_implemented() -> int:
    say("command not implemented")
    return 1


def _options(
    name: str, words: list[str], short: str, long: dict[str, bool], least: int
) -> tuple[set[str], list[str]]:
    """xl's def_getopt: the options given, and the words; ends with 2 as it does."""
    scan = gnu.Scan(name, words, short, long)
    try:
        given = {option for option, _ in scan}
    except gnu.Refused as refused:
        say(f"option `{refused.option[:1]}' not supported.")
        raise Exit("2") from None
    if len(scan.rest) < least:
        say(f"'xl {name}' requires at least {least} argument{'s' if least > 1 else ''}.\n")
        raise Exit("2")
    return given, scan.rest


def _find(machine: Machine, name: str) -> Guest | None:
    """The domain, None for Domain-0; ends with 1 where there is none."""
    if name in ("0", "Domain-0"):
        return None
    guest = machine.guest(name)
    if guest is None:
        say(f"{name} is an invalid domain identifier (rc=-6)")
        raise Exit("1")
    return guest


def _told(machine: Machine, tool: str, vm: str | None) -> None:
    """Fail as ordered for a command that can only fail or hang."""
    order = machine.take(tool, vm=vm)
    if order is None:
        return
    if order["how"] == "hangs":
        hang()
    say("libxl: error: libxl_utils.c:815:libxl__xs_transaction_abort: xenstore is not there: Broken pipe")
    raise Exit("1")


def _how(machine: Machine, tool: str, caller: str, vm: str) -> str | None:
    """The failure ordered for *tool*, or for *caller* where it is that which runs it."""
    tools = [tool, caller] if os.environ.get(CALLER) == caller else [tool]
    order = machine.take(*tools, vm=vm)
    return order["how"] if order else None


def hang() -> None:
    """Never return. A signal that is not caught ends the process."""
    while True:
        pause()


def _list(machine: Machine, words: list[str]) -> int:
    long = {"long": False, "verbose": False, "context": False, "cpupool": False, "numa": False}
    given, rest = _options("list", words, "lvhZcn", long, 0)
    _told(machine, "xl list", rest[0] if rest else None)
    if len(rest) > 1:
        say("Usage: xl [-vf] list [options] [Domain]")
        return 1
    domains: list[Guest | None] = [None, *machine.guests()] if not rest else [_find(machine, rest[0])]
    if given & {"-l", "--long"}:
        import json

        sys.stdout.write(json.dumps([_config(guest) for guest in domains], indent=4) + "\n")
        return 0
    if given:
        return not_simulated(f"xl list {' '.join(sorted(given))}")
    sys.stdout.write(HEADING + "\n" + "".join(_row(guest) for guest in domains))
    return 0


def _row(guest: Guest | None) -> str:
    if guest is None:
        return f"{'Domain-0':<40} {0:5} {4096:5} {4:5}     {'r-----'}  {1234.5:8.1f}\n"
    state = "--ps-d" if guest["dying"] else "--p---" if guest["restoring"] else "-b----"
    seconds = time.time() - guest["started"]
    return f"{guest['name']:<40} {guest['domid']:5} {guest['memory']:5} {2:5}     {state}  {seconds:8.1f}\n"


def _config(guest: Guest | None) -> dict[str, object]:
    if guest is None:
        return {"domid": 0, "config": {"c_info": {"type": "pv", "name": "Domain-0"}}}
    memory = guest["memory"] * 1024
    config = {
        "c_info": {"type": "hvm", "name": guest["name"]},
        "b_info": {"max_vcpus": 2, "max_memkb": memory, "target_memkb": memory},
    }
    return {"domid": guest["domid"], "config": config}


def _info(machine: Machine, words: list[str]) -> int:
    _options("info", words, "hn", {"numa": False}, 0)
    _told(machine, "xl info", None)
    used = sum(guest["memory"] for guest in machine.guests())
    total = 4096 * (machine.slots + 1)
    facts = {
        "host": "xen-simulation",
        "nr_cpus": 8,
        "virt_caps": "pv hvm hvm_directio pv_directio hap shadow vmtrace gnttab-v1 gnttab-v2",
        "total_memory": total,
        "free_memory": total - 4096 - used,
        "xen_major": 4,
        "xen_minor": 17,
        "xen_extra": ".3-simulated",
        "xen_version": "4.17.3-simulated",
        "xen_caps": "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64",
        "xen_commandline": machine.read("xen_commandline.json", ""),
    }
    sys.stdout.write("".join(f"{key:<23}: {value}\n" for key, value in facts.items()))
    return 0


def _destroy(machine: Machine, words: list[str]) -> int:
    _, rest = _options("destroy", words, "hf", {}, 1)
    guest = _find(machine, rest[0])
    if guest is None:
        say("Not destroying domain 0; use -f to force.")
        return 1
    how = _how(machine, "xl destroy", "drakrun vm-stop", guest["name"])
    if how == "hangs":
        hang()
    if how in ("fails", "survives"):
        said = f"domain_destroy_callback: Domain {guest['domid']}:Unable to destroy guest"
        say(f"libxl: error: libxl_domain.c:1137:{said}")
        say("destroy failed (rc=-3)")
        return 1
    if how == "survives_quietly":
        return 0
    with machine.locked():
        if how == "zombie":
            machine.save_guest({**guest, "name": DYING, "dying": True})
        else:
            machine.end_guest(guest)
    return 0


def _restore(machine: Machine, words: list[str]) -> int:
    long = {"vncviewer": False, "vncviewer-autopass": False}
    given, rest = _options("restore", words, "FhcpdeVA", long, 1)
    config, snapshot = (rest[0], rest[1]) if len(rest) > 1 else (None, rest[0])
    if config is None:
        return not_simulated("xl restore without a configuration file")
    if not Path(snapshot).is_file():
        say("Can't open restore file: No such file or directory")
        return 1
    say(f"Loading new save file {snapshot} (new xl fmt info 0x3/0x0/1579)")
    say(" Savefile contains xl domain config in JSON format")
    if not Path(config).is_file():
        say(f"Failed to read config file: {config}: No such file or directory")
        return 1
    say(f"Parsing config from {config}")
    text = Path(config).read_text()
    name, memory = _value(text, "name"), int(_value(text, "memory") or 4096)
    if name is None:
        say(f"{config}: the domain has no name")
        return 1
    how = _how(machine, "xl restore", "drakrun vm-start", name)
    if how == "hangs":
        hang()
    guest = _make(machine, name, memory)
    if guest is None:
        return 1
    say("xc: info: Restoring domain")
    time.sleep(machine.restore_seconds)
    if how == "hangs_with_guest":
        hang()
    return _finish(machine, guest, failed=how == "fails", paused="-p" in given)


def _value(config: str, key: str) -> str | None:
    """A value of an xl.cfg, without its quotes."""
    for line in config.splitlines():
        name, equals, value = line.partition("=")
        if equals and name.rstrip() == key:
            return value.strip().strip("\"'")
    return None


def _make(machine: Machine, name: str, memory: int) -> Guest | None:
    """The domain, still without its memory; None, and said why, where it cannot be made."""
    with machine.locked():
        if machine.guest(name):
            domid = machine.read("domid.json", 0) + 1
            machine.write("domid.json", domid)
            said = f'libxl_domain.c:81:libxl__domain_rename: Domain {domid}:Domain with name "{name}"'
            say(f"libxl: error: {said} already exists.")
            said = f"initiate_domain_create: Domain {domid}:cannot make domain: -6"
            say(f"libxl: error: libxl_create.c:1296:{said}")
            _clear_up(domid)
            return None
        if len(machine.guests()) >= machine.slots:
            say("xc: error: panic: xc_dom_boot.c:122: can't allocate low memory for domain: Out of memory")
            return None
        return machine.new_guest(name, memory, restoring=True)


def _clear_up(domid: int) -> None:
    """What xl says after the reason, while it takes away a domain that did not come to be."""
    for place, said in (
        ("libxl_domain.c:1183:libxl__destroy_domid", "Non-existant domain"),
        ("libxl_domain.c:1137:domain_destroy_callback", "Unable to destroy guest"),
        ("libxl_domain.c:1064:domain_destroy_cb", "Destruction of domain failed"),
    ):
        say(f"libxl: error: {place}: Domain {domid}:{said}")


def _finish(machine: Machine, guest: Guest, *, failed: bool, paused: bool) -> int:
    with machine.locked():
        if failed:
            machine.end_guest(guest)
            domid = guest["domid"]
            say("xc: error: Failed to read Record Header from stream (0 = Success): Internal error")
            say("xc: error: Restore failed (0 = Success): Internal error")
            said = "libxl__xc_domain_restore_done: restoring domain: Success"
            say(f"libxl: error: libxl_stream_read.c:850:{said}")
            said = f"domcreate_rebuild_done: Domain {domid}:cannot (re-)build domain: -3"
            say(f"libxl: error: libxl_create.c:1640:{said}")
            _clear_up(domid)
            return 1
        if machine.guest(guest["name"]) is None:
            _clear_up(guest["domid"])
            return 1
        machine.save_guest({**guest, "restoring": paused})
    say("xc: info: Restore successful")
    return 0


def _domid(machine: Machine, words: list[str]) -> int:
    _, rest = _options("domid", words, "h", {}, 1)
    if rest[0] == "Domain-0":
        sys.stdout.write("0\n")
        return 0
    guest = machine.guest(rest[0])
    if guest is None:
        say(f"Can't get domid of domain name '{rest[0]}', maybe this domain does not exist.")
        return 1
    sys.stdout.write(f"{guest['domid']}\n")
    return 0


def _domname(machine: Machine, words: list[str]) -> int:
    _, rest = _options("domname", words, "h", {}, 1)
    guest = machine.guest(rest[0])
    if guest is None:
        say(f"Can't get domain name of domain id '{rest[0]}', maybe this domain does not exist.")
        return 1
    sys.stdout.write(f"{guest['name']}\n")
    return 0


def _pause(machine: Machine, words: list[str]) -> int:
    return _set_paused(machine, "pause", words, paused=True)


def _unpause(machine: Machine, words: list[str]) -> int:
    return _set_paused(machine, "unpause", words, paused=False)


def _set_paused(machine: Machine, name: str, words: list[str], *, paused: bool) -> int:
    _, rest = _options(name, words, "h", {}, 1)
    guest = _find(machine, rest[0])
    if guest is not None:
        with machine.locked():
            machine.save_guest({**guest, "restoring": paused})
    return 0


COMMANDS: dict[str, Callable[[Machine, list[str]], int]] = {
    "destroy": _destroy,
    "domid": _domid,
    "domname": _domname,
    "info": _info,
    "list": _list,
    "pause": _pause,
    "restore": _restore,
    "unpause": _unpause,
}

REAL = {
    *("cd-eject", "cd-insert", "console", "create", "dmesg", "dump-core", "help", "migrate", "reboot"),
    *("qemu-monitor-command", "rename", "save", "shutdown", "uptime", "vcpu-list", "vm-list", "vncviewer"),
}
"""Commands that xl has and this does not."""
