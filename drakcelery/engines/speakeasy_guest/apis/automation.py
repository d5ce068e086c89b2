"""Automation's strings (BSTR) and variants: oleaut32.

A BSTR is a pointer to text with its length in bytes in front of it and a zero after it; NULL is an empty one.
"""

from __future__ import annotations

from typing import Any

from drakcelery.engines.speakeasy_guest.apis.api import MAX_DATA, Api, put, read_text
from drakcelery.engines.speakeasy_guest.machine import memory

LENGTH = 4
"""Bytes of the length in front of the text."""

VARIANT = {4: 16, 8: 24}
"""Size of a ``VARIANT``, by the size of a pointer."""

VT_BSTR = 8
VALUE = 8
"""Where a variant's value is, after its type and three reserved words."""

S_OK, E_INVALIDARG = 0, 0x80070057


def _new(emu: Any, data: bytes) -> int:
    block = emu.mem_map(LENGTH + len(data) + 2, tag="api.heap.bstr")
    emu.mem_write(block, len(data).to_bytes(LENGTH, "little") + data + b"\0\0")
    return int(block + LENGTH)


def _text(emu: Any, address: int) -> bytes:
    return read_text(emu, address, wide=True).encode("utf-16-le", "surrogatepass") if address else b""


def _bytes(emu: Any, string: int) -> int:
    """The length of a BSTR in bytes."""
    return int.from_bytes(emu.mem_read(string - LENGTH, LENGTH), "little") if string else 0


def _allocate(emu: Any, _name: str, argv: list[Any]) -> int:
    source = argv[0]
    if not source:
        return 0
    data = _text(emu, source)
    argv[0] = data.decode("utf-16-le", "replace")
    return _new(emu, data)


def _allocate_length(emu: Any, name: str, argv: list[Any]) -> int:
    """``SysAllocStringLen``, ``SysAllocStringByteLen``: *argv[1]* characters, whatever they are."""
    size = argv[1] * (1 if "Byte" in name else 2)
    if size > MAX_DATA:
        return 0
    return _new(emu, bytes(emu.mem_read(argv[0], size)) if argv[0] and size else bytes(size))


def _allocate_again(emu: Any, name: str, argv: list[Any]) -> int:
    """``SysReAllocString``, ``SysReAllocStringLen``: *argv[0]* is where the old one's address is."""
    if name.endswith("Len"):
        string = _allocate_length(emu, "SysAllocStringLen", argv[1:])
    else:
        string = _new(emu, _text(emu, argv[1]))
    emu.write_ptr(argv[0], string)
    return int(string != 0)


def _free(emu: Any, _name: str, argv: list[Any]) -> int:
    if argv[0] and memory.is_heap_block(emu, argv[0] - LENGTH):
        emu.mem_free(argv[0] - LENGTH)
    return 0


def _length(emu: Any, name: str, argv: list[Any]) -> int:
    return _bytes(emu, argv[0]) // (1 if "Byte" in name else 2)


def _clear_variant(emu: Any, _name: str, argv: list[Any]) -> int:
    emu.mem_write(argv[0], bytes(VARIANT[emu.get_ptr_size()]))
    return S_OK


def _copy_variant(emu: Any, _name: str, argv: list[Any]) -> int:
    if not argv[0] or not argv[1]:
        return E_INVALIDARG
    emu.mem_write(argv[0], bytes(emu.mem_read(argv[1], VARIANT[emu.get_ptr_size()])))
    if int.from_bytes(emu.mem_read(argv[1], 2), "little") == VT_BSTR:
        string = emu.read_ptr(argv[1] + VALUE)
        data = bytes(emu.mem_read(string, min(_bytes(emu, string), MAX_DATA))) if string else b""
        put(emu, argv[0] + VALUE, _new(emu, data), emu.get_ptr_size())
    return S_OK


APIS = {
    "SysAllocString": Api(words=1, answer=_allocate),
    "SysAllocStringLen": Api(words=2, answer=_allocate_length),
    "SysAllocStringByteLen": Api(words=2, answer=_allocate_length),
    "SysReAllocString": Api(words=2, answer=_allocate_again),
    "SysReAllocStringLen": Api(words=3, answer=_allocate_again),
    "SysFreeString": Api(words=1, answer=_free),
    "SysStringLen": Api(words=1, answer=_length),
    "SysStringByteLen": Api(words=1, answer=_length),
    "VariantInit": Api(words=1, answer=_clear_variant),
    "VariantClear": Api(words=1, answer=_clear_variant),
    "VariantCopy": Api(words=2, answer=_copy_variant),
}
