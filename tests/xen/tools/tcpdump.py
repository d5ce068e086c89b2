"""``tcpdump``: records what is told to come over a guest's bridge into a pcap file, until stopped."""

from __future__ import annotations

import os
import struct
import sys
import time

from tests.xen.tools import gnu
from tests.xen.tools.bare import SIG_IGN, SIGINT, SIGSEGV, SIGTERM, Path, loads, signal
from tests.xen.tools.machine import Machine, not_simulated, say

SHORT = "aAbB:c:C:dDeE:fF:G:hHi:IJj:KlLm:M:nNOpqQ:r:s:StT:uUvV:w:W:xXy:Yz:Z:#"
LONG = {
    "absolute-tcp-sequence-numbers": False,
    "buffer-size": True,
    "count": False,
    "direction": True,
    "dont-verify-checksums": False,
    "help": False,
    "immediate-mode": False,
    "interface": True,
    "lengths": False,
    "linktype": True,
    "list-data-link-types": False,
    "list-interfaces": False,
    "list-time-stamp-types": False,
    "micro": False,
    "monitor-mode": False,
    "nano": False,
    "no-optimize": False,
    "no-promiscuous-mode": False,
    "number": False,
    "packet-buffered": False,
    "print": False,
    "relinquish-privileges": True,
    "snapshot-length": True,
    "time-stamp-precision": True,
    "time-stamp-type": True,
    "version": False,
}
ALIASES = {"--interface": "-i", "--packet-buffered": "-U", "--snapshot-length": "-s", "--help": "-h"}
USED = {"-i", "-w", "-U", "-n", "-s", "-p", "--no-promiscuous-mode", "-Z", "--relinquish-privileges", "-q"}
"""What a recording to a file may be asked with, and means here."""

HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
"""pcap: microseconds, version 2.4, 262144 bytes a packet, Ethernet."""


def main(machine: Machine, argv: list[str]) -> int:
    """Run tcpdump; the exit status."""
    scan = gnu.Scan("tcpdump", argv, SHORT, LONG)
    try:
        given = {ALIASES.get(option, option): value for option, value in scan}
    except gnu.Refused as refused:
        say(f"{refused}\ntcpdump version 4.99.3\nUsage: tcpdump [-{SHORT.replace(':', '')}]")
        return 1
    if given.keys() & {"--version", "-h"}:
        sys.stdout.write("tcpdump version 4.99.3\nlibpcap version 1.10.3 (with TPACKET_V3)\n")
        return 0
    interface, target = given.get("-i"), given.get("-w")
    if interface is None or target is None or given.keys() - USED:
        return not_simulated(f"tcpdump {' '.join(argv)}")
    if scan.rest:
        machine.warn(f"tcpdump: the filter {' '.join(scan.rest)!r} is not applied here")
    return _record(machine, interface, Path(target), at_once="-U" in given)


def _record(machine: Machine, interface: str, target: Path, *, at_once: bool) -> int:
    vm = interface.replace("drak", "vm-")
    order = machine.take("tcpdump", vm=vm)
    how = order["how"] if order else None
    bridge = machine.bridge(interface)
    if not bridge.exists():
        say(f"tcpdump: {interface}: No such device exists\n(SIOCGIFHWADDR: No such device)")
        return 1
    if how == "fails":
        say(
            f"tcpdump: {interface}: You don't have permission to perform this capture on that device\n"
            "(socket: Operation not permitted)"
        )
        return 1
    if how == "denied" or not target.parent.is_dir():
        why = "Permission denied" if how == "denied" else "No such file or directory"
        say(f"tcpdump: {target}: {why}")
        return 1
    stopped: list[int] = []
    for number in (SIGINT, SIGTERM):
        signal(number, SIG_IGN if how == "hangs" else lambda caught, _: stopped.append(caught))
    file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    say(f"tcpdump: listening on {interface}, link-type EN10MB (Ethernet), snapshot length 262144 bytes")
    machine.watches(interface)
    packets = _packets(machine, vm)
    if at_once:
        os.write(file, HEADER + packets)
    if how == "crashes":
        os.kill(os.getpid(), SIGSEGV)
    while not stopped and bridge.exists():
        time.sleep(0.05)
    if not at_once:
        os.write(file, HEADER + packets)
    os.close(file)
    if not stopped:
        say("tcpdump: pcap_loop: The interface disappeared")
    count = len(_frames(machine, vm))
    say(f"\n{count} packets captured\n{count} packets received by filter\n0 packets dropped by kernel")
    return 0 if stopped else 1


def _frames(machine: Machine, vm: str) -> list[bytes]:
    for key in (vm, "any"):
        path = machine.state / "recordings" / key / "packets.json"
        if path.exists():
            return [bytes.fromhex(frame) for frame in loads(path.read_bytes())]
    return []


def _packets(machine: Machine, vm: str) -> bytes:
    now = int(time.time())
    return b"".join(
        struct.pack("<IIII", now, number, len(frame), len(frame)) + frame
        for number, frame in enumerate(_frames(machine, vm))
    )
