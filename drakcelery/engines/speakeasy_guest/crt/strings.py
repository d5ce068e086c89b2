"""Strings, narrow and wide: one implementation for both, by the width of a character."""

from __future__ import annotations

from collections.abc import Callable

from drakcelery.engines.speakeasy_guest.crt.abi import Answer, Function
from drakcelery.engines.speakeasy_guest.crt.descriptors import EINVAL, ERANGE
from drakcelery.engines.speakeasy_guest.crt.machine import MAX_STRING, to_units
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime

TRUNCATE = 0xFFFFFFFF
STRUNCATE = 80


def compared(left: str, right: str) -> int:
    """-1, 0 or 1."""
    return (left > right) - (left < right)


def lowered(text: str) -> str:
    """In small letters, each character by itself."""
    return "".join(char.lower() if len(char.lower()) == 1 else char for char in text)


def _length(width: int) -> Answer:
    return lambda crt, text: len(crt.machine.string(text, width)) // width


def _length_limited(width: int) -> Answer:
    def answer(crt: Runtime, text: int, limit: int) -> int:
        return len(crt.machine.string(text, width, limit)) // width if text else 0

    return answer


def _copy(width: int, *, to_end: bool = False) -> Answer:
    def answer(crt: Runtime, target: int, source: int) -> int:
        data = crt.machine.string(source, width)
        crt.machine.write(target, data + bytes(width))
        return target + len(data) if to_end else target

    return answer


def _copy_limited(width: int) -> Answer:
    def answer(crt: Runtime, target: int, source: int, count: int) -> int:
        data = crt.machine.string(source, width, count)
        crt.machine.write(target, data)
        crt.machine.fill(target + len(data), b"\0", count * width - len(data))
        return target

    return answer


def _append(width: int) -> Answer:
    def answer(crt: Runtime, target: int, source: int, count: int = MAX_STRING) -> int:
        end = target + len(crt.machine.string(target, width))
        crt.machine.write(end, crt.machine.string(source, width, count) + bytes(width))
        return target

    return answer


def _secure(width: int, *, append: bool) -> Answer:
    """``strcpy_s``, ``strncpy_s``, ``strcat_s``, ``strncat_s``."""

    def answer(crt: Runtime, target: int, room: int, source: int, count: int | None = None) -> int:
        if not target or not room or not source:
            if target and room:
                crt.machine.put(target, 0, width)
            return crt.fail(EINVAL, EINVAL)
        start = crt.machine.text(target, width, room) if append else ""
        cut = count is not None and count & TRUNCATE == TRUNCATE
        limit = room if count is None or cut else count
        text = start + crt.machine.text(source, width, min(limit, room) if not cut else room)
        if len(text) < room:
            crt.machine.put_text(target, text, width)
            return 0
        crt.machine.put_text(target, text[: room - 1] if cut else "", width)
        return STRUNCATE if cut else crt.fail(ERANGE, ERANGE)

    return answer


def _compare(width: int, *, caseless: bool = False) -> Answer:
    def answer(crt: Runtime, left: int, right: int, count: int = MAX_STRING) -> int:
        one, two = crt.machine.text(left, width, count), crt.machine.text(right, width, count)
        return compared(lowered(one), lowered(two)) if caseless else compared(one, two)

    return answer


def _find(width: int, *, last: bool = False) -> Answer:
    def answer(crt: Runtime, text: int, code: int) -> int:
        mask = 0xFF if width == 1 else 0xFFFF
        content = crt.machine.text(text, width) + "\0"
        found = content.rfind(chr(code & mask)) if last else content.find(chr(code & mask))
        return text + found * width if found >= 0 else 0

    return answer


def _find_text(width: int) -> Answer:
    def answer(crt: Runtime, text: int, wanted: int) -> int:
        found = crt.machine.text(text, width).find(crt.machine.text(wanted, width))
        return text + found * width if found >= 0 else 0

    return answer


def _span(width: int, *, of: bool) -> Answer:
    def span(crt: Runtime, text: int, characters: int) -> int:
        wanted = set(crt.machine.text(characters, width))
        content = crt.machine.text(text, width)
        ends = (number for number, char in enumerate(content) if (char in wanted) != of)
        return next(ends, len(content))

    return span


def _find_any(width: int) -> Answer:
    def answer(crt: Runtime, text: int, characters: int) -> int:
        wanted = set(crt.machine.text(characters, width))
        content = crt.machine.text(text, width)
        found = next((number for number, char in enumerate(content) if char in wanted), -1)
        return text + found * width if found >= 0 else 0

    return answer


def _token(width: int, *, place: str) -> Answer:
    """``strtok``; with a *place* of its own (``own``) or one that the caller keeps (``given``)."""

    def answer(crt: Runtime, text: int, characters: int, context: int = 0) -> int:
        machine = crt.machine
        given = place == "given"
        start = text or (machine.number(context) if given else crt.process.tokens.get(width, 0))
        if not start:
            return 0
        ends = set(machine.text(characters, width))
        content = machine.text(start, width)
        first = next((number for number, char in enumerate(content) if char not in ends), len(content))
        last = next(
            (number for number in range(first, len(content)) if content[number] in ends), len(content)
        )
        after = start + (last + 1 if last < len(content) else last) * width
        if last < len(content):
            machine.put(start + last * width, 0, width)
        if given:
            machine.put(context, after)
        else:
            crt.process.tokens[width] = after
        return start + first * width if first < len(content) else 0

    return answer


def _changed(width: int, change: Callable[[str], str]) -> Answer:
    def answer(crt: Runtime, text: int, *_room: int) -> int:
        content = change(crt.machine.text(text, width))
        crt.machine.write(text, to_units(content, width))
        return text

    return answer


def _changed_s(width: int, change: Callable[[str], str]) -> Answer:
    def answer(crt: Runtime, text: int, room: int) -> int:
        crt.machine.write(text, to_units(change(crt.machine.text(text, width, room)), width))
        return 0

    return answer


def _filled(width: int) -> Answer:
    def answer(crt: Runtime, text: int, code: int, count: int = MAX_STRING) -> int:
        length = len(crt.machine.string(text, width, count)) // width
        crt.machine.fill(text, (code & (0xFF if width == 1 else 0xFFFF)).to_bytes(width, "little"), length)
        return text

    return answer


def _transform(width: int) -> Answer:
    def answer(crt: Runtime, target: int, source: int, count: int) -> int:
        data = crt.machine.string(source, width)
        if count and target:
            crt.machine.write(target, (data + bytes(width))[: count * width])
        return len(data) // width

    return answer


def _upper(text: str) -> str:
    return "".join(char.upper() if len(char.upper()) == 1 else char for char in text)


def _reversed(text: str) -> str:
    return text[::-1]


def _family(width: int) -> dict[str, tuple[str, Answer]]:
    """Functions with ``str`` in their names, and their signatures (``t``: text)."""
    caseless = _compare(width, caseless=True)
    return {
        "strlen": ("t", _length(width)),
        "strnlen": ("tp", _length_limited(width)),
        "strcpy": ("pt", _copy(width)),
        "strncpy": ("ptp", _copy_limited(width)),
        "strcat": ("tt", _append(width)),
        "strncat": ("ttp", _append(width)),
        "strcpy_s": ("ppt", _secure(width, append=False)),
        "strncpy_s": ("pptp", _secure(width, append=False)),
        "strcat_s": ("ppt", _secure(width, append=True)),
        "strncat_s": ("pptp", _secure(width, append=True)),
        "strcmp": ("tt", _compare(width)),
        "strncmp": ("ttp", _compare(width)),
        "strcoll": ("tt", _compare(width)),
        "_strncoll": ("ttp", _compare(width)),
        "_stricmp": ("tt", caseless),
        "_strnicmp": ("ttp", caseless),
        "_stricoll": ("tt", caseless),
        "_strnicoll": ("ttp", caseless),
        "strchr": ("ti", _find(width)),
        "strrchr": ("ti", _find(width, last=True)),
        "strstr": ("tt", _find_text(width)),
        "strspn": ("tt", _span(width, of=True)),
        "strcspn": ("tt", _span(width, of=False)),
        "strpbrk": ("tt", _find_any(width)),
        "strtok_s": ("ttp", _token(width, place="given")),
        "strtok_r": ("ttp", _token(width, place="given")),
        "_strlwr": ("t", _changed(width, lowered)),
        "_strupr": ("t", _changed(width, _upper)),
        "_strrev": ("t", _changed(width, _reversed)),
        "_strlwr_s": ("tp", _changed_s(width, lowered)),
        "_strupr_s": ("tp", _changed_s(width, _upper)),
        "_strset": ("ti", _filled(width)),
        "_strnset": ("tip", _filled(width)),
        "strxfrm": ("ptp", _transform(width)),
    }


def _all() -> dict[str, Function]:
    table = {}
    for width, letter, word in ((1, "s", "str"), (2, "w", "wcs")):
        for name, (signature, answer) in _family(width).items():
            named = name.replace("str", word, 1)
            function = Function(signature.replace("t", letter), answer)
            table[named] = function
            if named.startswith("_"):
                table[named[1:]] = function
            if word == "str":
                table[name.replace("str", "_mbs", 1).replace("__", "_")] = function
    return table


FUNCTIONS: dict[str, Function] = {
    **_all(),
    "strtok": Function("ss", _token(1, place="own")),
    "_mbstok": Function("ss", _token(1, place="own")),
    "wcstok": Function("ww", _token(2, place="own")),  # the UCRT's third argument is not needed
    "_strcmpi": Function("ss", _compare(1, caseless=True)),
    "strcmpi": Function("ss", _compare(1, caseless=True)),
    "stpcpy": Function("ps", _copy(1, to_end=True)),
}
"""Functions by name."""
