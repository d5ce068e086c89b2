"""``DnsQuery`` and its kin: each name has one address, and no other record but text."""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, constant, put, read_text

TYPE_A, TYPE_TEXT = 1, 16
ERROR_INVALID_PARAMETER: Final = 87
NO_RECORDS: Final = 9501
"""``DNS_INFO_NO_RECORDS``."""

LIVES: Final = 3600
"""Seconds for which an answer holds."""

IN_ANSWER: Final = 1
"""``DnsSectionAnswer``, in the flags of a ``DNS_RECORD``."""


def _query(emu: Any, name: str, argv: list[Any]) -> int:
    kind = argv[1] & 0xFFFF
    if not argv[0]:
        return ERROR_INVALID_PARAMETER
    if kind == TYPE_TEXT:
        return int(emu.original("dnsapi", name, argv))
    place = argv[0]
    host = read_text(emu, place, wide=name.endswith("W"))
    argv[0] = host
    address = emu.get_network_manager().name_lookup(host.lower()) or ""
    emu.recorder.log_dns(None, host, address)
    if kind != TYPE_A or not address:
        put(emu, argv[4], 0, emu.get_ptr_size())
        return NO_RECORDS
    put(emu, argv[4], _record(emu, place, address), emu.get_ptr_size())
    return 0


def _record(emu: Any, name: int, address: str) -> int:
    """A ``DNS_RECORD`` with an address."""
    size = emu.get_ptr_size()
    fields = (TYPE_A | 4 << 16, IN_ANSWER, LIVES, 0)
    head = bytes(size) + name.to_bytes(size, "little")
    data = b"".join(one.to_bytes(4, "little") for one in fields) + ipaddress.IPv4Address(address).packed
    place = int(emu.heap_alloc(len(head + data) + size, heap="HeapAlloc"))
    emu.mem_write(place, head + data)
    return place


APIS = {
    **dict.fromkeys(("DnsQuery_A", "DnsQuery_W", "DnsQuery_UTF8"), Api(words=6, answer=_query)),
    **dict.fromkeys(("DnsFree", "DnsRecordListFree"), Api(words=2, answer=constant(0))),
}
