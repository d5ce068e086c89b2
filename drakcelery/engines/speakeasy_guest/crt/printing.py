"""The ``printf`` family: of old runtimes by name, of the UCRT through ``__stdio_common_v…``."""

from __future__ import annotations

from collections.abc import Callable

from drakcelery.engines.speakeasy_guest.crt.abi import Answer, Function, Variadic
from drakcelery.engines.speakeasy_guest.crt.descriptors import ERANGE
from drakcelery.engines.speakeasy_guest.crt.formats import Formatter
from drakcelery.engines.speakeasy_guest.crt.machine import to_units
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime

STANDARD_SNPRINTF = 0x2
"""Option of the UCRT: the result is the whole length, and there is always a zero."""

LEGACY_VSPRINTF = 0x1
LEGACY_WIDE = 0x4
"""Option of the UCRT: ``%s`` of wide functions is wide."""

TRUNCATE = 0xFFFFFFFF
MAX_FORMAT = 64 * 1024
"""Characters of a format."""


def filled(
    crt: Runtime, form: int, arguments: Variadic, width: int, *, legacy: bool = True, digits: int = 3
) -> str:
    """The format at *form* with its arguments."""
    formatter = Formatter(crt.machine, wide=width == 2, legacy=legacy, digits=digits)
    return formatter.format(crt.machine.text(form, width, MAX_FORMAT), arguments)


def to_stream(crt: Runtime, address: int, text: str, width: int) -> int:
    """Write to a stream; the number of characters, or -1."""
    stream = crt.streams.get(address)
    if stream is None:
        return -1
    crt.streams.write_text(stream, text, width)
    return len(text)


def to_buffer(crt: Runtime, buffer: int, room: int, text: str, width: int, *, whole: bool = False) -> int:
    """Write to memory as ``_snprintf`` does: -1 if it does not fit, without a zero if it just fits.

    With *whole* as ``snprintf`` does: always a zero, and the length that it would have.
    """
    length = len(text)
    if whole:
        if buffer and room:
            crt.machine.put_text(buffer, text[: room - 1], width)
        return length
    if not buffer:
        return length
    if length < room:
        crt.machine.put_text(buffer, text, width)
        return length
    crt.machine.write(buffer, to_units(text[:room], width))
    return length if length == room else -1


def to_secure_buffer(crt: Runtime, buffer: int, room: int, count: int, text: str, width: int) -> int:
    """Write to memory as the ``_s`` functions do: cut only where that was asked for."""
    if not buffer or not room:
        return crt.fail(22)
    limit = room - 1 if count & TRUNCATE == TRUNCATE else min(count, room)
    if len(text) <= limit and len(text) < room:
        crt.machine.put_text(buffer, text, width)
        return len(text)
    if count & TRUNCATE == TRUNCATE or count < room:
        crt.machine.put_text(buffer, text[:limit], width)
        return -1
    crt.machine.put_text(buffer, "", width)
    return crt.fail(ERANGE)


def _print(width: int) -> Answer:
    def answer(crt: Runtime, form: int, arguments: Variadic) -> int:
        return to_stream(crt, crt.streams.standard(1), filled(crt, form, arguments, width), width)

    return answer


def _print_to(width: int) -> Answer:
    def answer(crt: Runtime, stream: int, form: int, arguments: Variadic) -> int:
        return to_stream(crt, stream, filled(crt, form, arguments, width), width)

    return answer


def _sprintf(width: int) -> Answer:
    def answer(crt: Runtime, buffer: int, form: int, arguments: Variadic) -> int:
        text = filled(crt, form, arguments, width)
        crt.machine.put_text(buffer, text, width)
        return len(text)

    return answer


def _snprintf(width: int, *, whole: bool = False) -> Answer:
    def answer(crt: Runtime, buffer: int, room: int, form: int, arguments: Variadic) -> int:
        return to_buffer(crt, buffer, room, filled(crt, form, arguments, width), width, whole=whole)

    return answer


def _sprintf_s(width: int) -> Answer:
    def answer(crt: Runtime, buffer: int, room: int, form: int, arguments: Variadic) -> int:
        return to_secure_buffer(crt, buffer, room, room, filled(crt, form, arguments, width), width)

    return answer


def _snprintf_s(width: int) -> Answer:
    def answer(crt: Runtime, buffer: int, room: int, count: int, form: int, arguments: Variadic) -> int:
        return to_secure_buffer(crt, buffer, room, count, filled(crt, form, arguments, width), width)

    return answer


def _length(width: int) -> Answer:
    return lambda crt, form, arguments: len(filled(crt, form, arguments, width))


def _common_print(width: int) -> Answer:
    def answer(crt: Runtime, options: int, stream: int, form: int, _locale: int, arguments: Variadic) -> int:
        text = filled(crt, form, arguments, width, legacy=bool(options & LEGACY_WIDE), digits=2)
        return to_stream(crt, stream, text, width)

    return answer


def _common_sprintf(width: int) -> Answer:
    def answer(
        crt: Runtime, options: int, buffer: int, room: int, form: int, _locale: int, arguments: Variadic
    ) -> int:
        text = filled(crt, form, arguments, width, legacy=bool(options & LEGACY_WIDE), digits=2)
        whole = bool(options & STANDARD_SNPRINTF)
        if options & LEGACY_VSPRINTF or whole or not buffer:
            return to_buffer(crt, buffer, room, text, width, whole=whole)
        if len(text) < room:
            crt.machine.put_text(buffer, text, width)
            return len(text)
        crt.machine.put_text(buffer, text[: max(room - 1, 0)], width)
        return -1

    return answer


def _common_sprintf_s(width: int) -> Answer:
    def answer(
        crt: Runtime, options: int, buffer: int, room: int, form: int, _locale: int, arguments: Variadic
    ) -> int:
        text = filled(crt, form, arguments, width, legacy=bool(options & LEGACY_WIDE), digits=2)
        return to_secure_buffer(crt, buffer, room, room, text, width)

    return answer


def _common_snprintf_s(width: int) -> Answer:
    def answer(
        crt: Runtime,
        options: int,
        buffer: int,
        room: int,
        count: int,
        form: int,
        _locale: int,
        arguments: Variadic,
    ) -> int:
        text = filled(crt, form, arguments, width, legacy=bool(options & LEGACY_WIDE), digits=2)
        return to_secure_buffer(crt, buffer, room, count, text, width)

    return answer


def _both(narrow: str, wide: str, signature: str, make: Callable[[int], Answer]) -> dict[str, Function]:
    """A function and its wide form; ``t`` in the signature is the format's letter."""
    return {
        narrow: Function(signature.replace("t", "s"), make(1)),
        wide: Function(signature.replace("t", "w"), make(2)),
    }


def _family(last: str, prefix: str) -> dict[str, Function]:
    """Functions that differ in how they get their arguments: directly, or as a ``va_list`` (``v…``)."""
    table: dict[str, Function] = {}
    for narrow, wide, signature, make in (
        ("printf", "wprintf", "t", _print),
        ("printf_s", "wprintf_s", "t", _print),
        ("fprintf", "fwprintf", "pt", _print_to),
        ("fprintf_s", "fwprintf_s", "pt", _print_to),
        ("sprintf_s", "swprintf_s", "ppt", _sprintf_s),
    ):
        table |= _both(prefix + narrow, prefix + wide, signature + last, make)
    under = "_" + prefix
    table |= _both(f"{under}snprintf", f"{under}snwprintf", f"ppt{last}", _snprintf)
    table |= _both(f"{under}snprintf_s", f"{under}snwprintf_s", f"pppt{last}", _snprintf_s)
    table |= _both(f"{under}scprintf", f"{under}scwprintf", f"t{last}", _length)
    table[f"{prefix}sprintf"] = Function(f"ps{last}", _sprintf(1))
    table[f"{under}swprintf"] = Function(f"pw{last}", _sprintf(2))
    table[f"{prefix}swprintf"] = Function(f"pw{last}", _sprintf(2))
    table[f"{prefix}snprintf"] = Function(f"pps{last}", _snprintf(1, whole=True))
    table[f"{under}swprintf_c"] = Function(f"ppw{last}", _snprintf(2, whole=True))
    return table


FUNCTIONS: dict[str, Function] = {
    **_family(".", ""),
    **_family("v", "v"),
    **_both("__stdio_common_vfprintf", "__stdio_common_vfwprintf", "qptpv", _common_print),
    **_both("__stdio_common_vfprintf_s", "__stdio_common_vfwprintf_s", "qptpv", _common_print),
    **_both("__stdio_common_vsprintf", "__stdio_common_vswprintf", "qpptpv", _common_sprintf),
    **_both("__stdio_common_vsprintf_s", "__stdio_common_vswprintf_s", "qpptpv", _common_sprintf_s),
    **_both("__stdio_common_vsnprintf_s", "__stdio_common_vsnwprintf_s", "qppptpv", _common_snprintf_s),
}
"""Functions by name."""
