"""Who runs the program: tokens, security identifiers and descriptors. The user is an administrator, elevated
unless the guest is another.

Layouts: *[MS-DTYP]*, SID and SECURITY_DESCRIPTOR; values of the token: Microsoft's *TOKEN_INFORMATION_CLASS*.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put, read_text
from drakcelery.engines.speakeasy_guest.naming import USER_SID
from drakcelery.model.emulated_guest import EmulatedGuest

ERROR_INVALID_PARAMETER, ERROR_INSUFFICIENT_BUFFER, ERROR_INVALID_SID = 87, 122, 1337
ADMINISTRATORS, USERS, EVERYONE, HIGH = "S-1-5-32-544", "S-1-5-32-545", "S-1-1-0", "S-1-16-12288"
MEDIUM: Final = "S-1-16-8192"
GROUP: Final = 0x7
"""``SE_GROUP_MANDATORY``, enabled, and by default."""

OWNS, DENY_ONLY = 0x8, 0x10
"""Further attributes of a group; the second is that of administrators who are not elevated."""

INTEGRITY: Final = 0x20
USER, GROUPS, PRIVILEGES, OWNER, PRIMARY_GROUP, TYPE = 1, 2, 3, 4, 5, 8
SESSION, ELEVATION_TYPE, ELEVATION, INTEGRITY_LEVEL = 12, 18, 20, 25
NUMBERS: Final = {TYPE: 1, SESSION: 1, ELEVATION_TYPE: 2, ELEVATION: 1}
"""A primary token, the first session, whole rights."""

LIMITED: Final = {**NUMBERS, ELEVATION_TYPE: 3, ELEVATION: 0}

CHANGE_NOTIFY: Final = 23
"""The privilege that everybody has; 3: enabled, and by default."""

SELF_RELATIVE, DACL_PRESENT = 0x8000, 0x4
MAX_PARTS: Final = 15


def packed(text: str) -> bytes | None:
    """A SID from its text, ``S-1-5-32-544``; None for what is none."""
    head, *parts = text.upper().split("-")
    if head != "S" or not 2 <= len(parts) <= 2 + MAX_PARTS or not all(part.isdigit() for part in parts):
        return None
    revision, authority, *rest = map(int, parts)
    if revision != 1 or authority >= 1 << 48 or any(part >= 1 << 32 for part in rest):
        return None
    return struct.pack(f"<BB6s{len(rest)}I", revision, len(rest), authority.to_bytes(6, "big"), *rest)


def read(emu: Any, place: int) -> str | None:
    """The text of the SID at an address; None for what is none."""
    if not place:
        return None
    revision, count = bytes(emu.mem_read(place, 2))
    if revision != 1 or count > MAX_PARTS:
        return None
    authority = int.from_bytes(emu.mem_read(place + 2, 6), "big")
    parts = struct.unpack(f"<{count}I", emu.mem_read(place + 8, 4 * count))
    return "-".join(("S-1", str(authority), *map(str, parts)))


def _information(emu: Any, _name: str, argv: list[Any]) -> int:
    """``GetTokenInformation``."""
    _token, kind, target, room, length = argv
    data = _described(kind & 0xFFFFFFFF, target, emu.get_ptr_size(), emu.guest)
    if data is None:
        emu.set_last_error(ERROR_INVALID_PARAMETER)
        return 0
    put(emu, length, len(data), 4)
    if not target or room & 0xFFFFFFFF < len(data):
        emu.set_last_error(ERROR_INSUFFICIENT_BUFFER)
        return 0
    emu.mem_write(target, data)
    return 1


def _described(kind: int, target: int, size: int, guest: EmulatedGuest) -> bytes | None:
    numbers, level = (NUMBERS, HIGH) if guest.elevated else (LIMITED, MEDIUM)
    if kind in numbers:
        return numbers[kind].to_bytes(4, "little")
    if kind == PRIVILEGES:
        return struct.pack("<IIII", 1, CHANGE_NOTIFY, 0, 3)
    if kind == GROUPS:
        ours = GROUP | OWNS if guest.elevated else DENY_ONLY
        return _listed([(EVERYONE, GROUP), (ADMINISTRATORS, ours), (USERS, GROUP)], target, size, size)
    one = {USER: (USER_SID, 0), INTEGRITY_LEVEL: (level, INTEGRITY)}.get(kind)
    if one is not None:
        return _listed([one], target, size, 0)
    if kind in (OWNER, PRIMARY_GROUP):
        owner = ADMINISTRATORS if guest.elevated else USER_SID
        return _listed([(owner if kind == OWNER else USERS, 0)], target, size, 0)
    return None


def _listed(entries: list[tuple[str, int]], target: int, size: int, before: int) -> bytes:
    """``SID_AND_ATTRIBUTES`` (behind their count, if *before* is not 0), and the SIDs behind them."""
    table = len(entries).to_bytes(before, "little") if before else b""
    sids = b""
    place = target + before + 2 * size * len(entries)
    for text, attributes in entries:
        table += (place + len(sids)).to_bytes(size, "little") + attributes.to_bytes(size, "little")
        sids += packed(text) or b""
    return table + sids


def _allocate(emu: Any, _name: str, argv: list[Any]) -> int:
    """``AllocateAndInitializeSid``: an authority, how many parts there are, and eight of them."""
    count = argv[1] & 0xFF
    if not 1 <= count <= 8:
        emu.set_last_error(ERROR_INVALID_SID)
        return 0
    parts = [part & 0xFFFFFFFF for part in argv[2 : 2 + count]]
    place = emu.mem_map(0x100, tag="api.struct.SID")
    head = struct.pack("<BB", 1, count) + bytes(emu.mem_read(argv[0], 6))
    emu.mem_write(place, head + struct.pack(f"<{count}I", *parts))
    emu.write_ptr(argv[10], place)
    return 1


def _membership(emu: Any, _name: str, argv: list[Any]) -> int:
    """``CheckTokenMembership``: the user is in every group, but no administrator where he is not elevated."""
    put(emu, argv[2], int(emu.guest.elevated or read(emu, argv[1]) != ADMINISTRATORS), 4)
    return int(bool(argv[2]))


def _given(emu: Any, data: bytes, target: int) -> int:
    """A copy that the program frees with LocalFree."""
    place = emu.heap_alloc(len(data), heap="LocalAlloc")
    emu.mem_write(place, data)
    emu.write_ptr(target, place)
    return 1


def _to_text(emu: Any, name: str, argv: list[Any]) -> int:
    """``ConvertSidToStringSid``."""
    text = read(emu, argv[0])
    if text is None:
        emu.set_last_error(ERROR_INVALID_SID)
        return 0
    argv[0] = text
    return _given(emu, f"{text}\0".encode("utf-16-le" if name.endswith("W") else "ascii"), argv[1])


def _from_text(emu: Any, name: str, argv: list[Any]) -> int:
    """``ConvertStringSidToSid``."""
    argv[0] = read_text(emu, argv[0], wide=name.endswith("W")) if argv[0] else ""
    sid = packed(argv[0])
    if sid is None:
        emu.set_last_error(ERROR_INVALID_SID)
        return 0
    return _given(emu, sid, argv[1])


def _descriptor(emu: Any, name: str, argv: list[Any]) -> int:
    """A descriptor from its text: one that lets everybody in."""
    if not argv[0] or not argv[2]:
        emu.set_last_error(ERROR_INVALID_PARAMETER)
        return 0
    argv[0] = read_text(emu, argv[0], wide=name.endswith("W"))
    data = struct.pack("<BBHIIII", 1, 0, SELF_RELATIVE | DACL_PRESENT, 0, 0, 0, 0)
    put(emu, argv[3], len(data), 4)
    return _given(emu, data, argv[2])


def _initialize(emu: Any, _name: str, argv: list[Any]) -> int:
    """``InitializeSecurityDescriptor``: revision, control, and four pointers."""
    size = emu.get_ptr_size()
    emu.mem_write(argv[0], b"\x01".ljust(size, b"\0") + bytes(4 * size))
    return 1


def _set_dacl(emu: Any, _name: str, argv: list[Any]) -> int:
    """``SetSecurityDescriptorDacl``."""
    size = emu.get_ptr_size()
    put(emu, argv[0] + 2, DACL_PRESENT if argv[1] & 0xFFFFFFFF else 0, 2)
    put(emu, argv[0] + 4 * size, argv[2], size)
    return 1


APIS = {
    "GetTokenInformation": Api(words=5, answer=_information),
    "AllocateAndInitializeSid": Api(words=11, answer=_allocate),
    "CheckTokenMembership": Api(words=3, answer=_membership),
    "ConvertSidToStringSid": Api(words=2, answer=_to_text),
    "ConvertStringSidToSid": Api(words=2, answer=_from_text),
    "ConvertStringSecurityDescriptorToSecurityDescriptor": Api(words=4, answer=_descriptor),
    "InitializeSecurityDescriptor": Api(words=2, answer=_initialize),
    "SetSecurityDescriptorDacl": Api(words=4, answer=_set_dacl),
}
