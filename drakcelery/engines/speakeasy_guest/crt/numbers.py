"""Numbers from text and text from numbers: ``strtol``, ``atoi``, ``_itoa`` and their kin."""

from __future__ import annotations

import re

from drakcelery.engines.speakeasy_guest.crt.abi import Answer, Function
from drakcelery.engines.speakeasy_guest.crt.descriptors import EINVAL, ERANGE
from drakcelery.engines.speakeasy_guest.crt.machine import to_units
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime

MAX_DIGITS = 4096
"""Characters of a number that are looked at."""

FLOAT = re.compile(
    r"\s*([+-]?(?:inf(?:inity)?|nan|(?:0x[0-9a-f]+(?:\.[0-9a-f]*)?(?:p[+-]?\d+)?)"
    r"|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?))",
    re.IGNORECASE,
)
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def parse_integer(text: str, base: int) -> tuple[int, int]:
    """The number that *text* starts with, and how many characters it takes; (0, 0) if there is none."""
    at = len(text) - len(text.lstrip(" \t\n\v\f\r"))
    negative = text[at : at + 1] == "-"
    at += text[at : at + 1] in ("+", "-") and text[at : at + 1] != ""
    prefix = text[at : at + 2].lower()
    if base in (0, 16) and prefix == "0x" and text[at + 2 : at + 3].lower() in set("0123456789abcdef"):
        base, at = 16, at + 2
    elif base == 0:
        base = 8 if text[at : at + 1] == "0" else 10
    end = at
    allowed = DIGITS[:base]
    while end < len(text) and text[end].lower() in allowed:
        end += 1
    if end == at:
        return 0, 0
    value = int(text[at:end], base)
    return (-value if negative else value), end


def parse_float(text: str) -> tuple[float, int]:
    """The number that *text* starts with, and how many characters it takes."""
    found = FLOAT.match(text)
    if found is None:
        return 0.0, 0
    word = found[1]
    try:
        value = float.fromhex(word) if "0x" in word.lower() else float(word)
    except OverflowError:
        value = float("inf")
    return value, found.end()


def _to_integer(width: int, bits: int, *, signed: bool = True) -> Answer:
    """``strtol`` and the like."""
    low = -(1 << (bits - 1)) if signed else -((1 << bits) - 1)
    high = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1

    def answer(crt: Runtime, text: int, end: int, base: int, *_locale: int) -> int:
        if base < 0 or base == 1 or base > 36:
            return crt.fail(EINVAL, 0)
        value, taken = parse_integer(crt.machine.text(text, width, MAX_DIGITS), base)
        crt.machine.put(end, text + taken * width)
        if low <= value <= high:
            return value
        crt.fail(ERANGE)
        return (low if value < low else high) if signed else high

    return answer


def _simple(width: int, bits: int) -> Answer:
    """``atoi`` and the like."""

    def answer(crt: Runtime, text: int, *_locale: int) -> int:
        value, _ = parse_integer(crt.machine.text(text, width, MAX_DIGITS), 10)
        return max(min(value, (1 << (bits - 1)) - 1), -(1 << (bits - 1)))

    return answer


def _to_float(width: int) -> Answer:
    def answer(crt: Runtime, text: int, end: int = 0, *_locale: int) -> float:
        value, taken = parse_float(crt.machine.text(text, width, MAX_DIGITS))
        crt.machine.put(end, text + taken * width)
        return value

    return answer


def _just_float(width: int) -> Answer:
    return lambda crt, text: parse_float(crt.machine.text(text, width, MAX_DIGITS))[0]


def digits(value: int, base: int) -> str:
    """*value* in *base*."""
    base = base if 2 <= base <= 36 else 10
    text = ""
    rest = abs(value)
    while rest or not text:
        rest, digit = divmod(rest, base)
        text = DIGITS[digit] + text
    return f"-{text}" if value < 0 else text


def _number_text(value: int, base: int, bits: int, *, signed: bool) -> str:
    return digits(value if signed and base == 10 else value & ((1 << bits) - 1), base)


def _to_text(width: int, bits: int, *, signed: bool = True) -> Answer:
    """``_itoa`` and the like."""

    def answer(crt: Runtime, value: int, buffer: int, base: int) -> int:
        crt.machine.put_text(buffer, _number_text(value, base, bits, signed=signed), width)
        return buffer

    return answer


def _to_text_s(width: int, bits: int, *, signed: bool = True) -> Answer:
    def answer(crt: Runtime, value: int, buffer: int, room: int, base: int) -> int:
        text = _number_text(value, base, bits, signed=signed)
        if not buffer or len(text) >= room:
            return crt.fail(ERANGE, ERANGE)
        crt.machine.put_text(buffer, text, width)
        return 0

    return answer


def _round_text(crt: Runtime, value: float, count: int, buffer: int) -> int:
    text = format(value, f".{max(min(count, 40), 1)}g")
    crt.machine.write(buffer, to_units(text + "\0", 1))
    return buffer


def _family() -> dict[str, Function]:
    table: dict[str, Function] = {}
    for width, letter, word, end in ((1, "s", "str", "a"), (2, "w", "wcs", "w")):
        for name, bits, is_signed in (
            ("tol", 32, True),
            ("toul", 32, False),
            ("toll", 64, True),
            ("toull", 64, False),
            ("toi64", 64, True),
            ("toui64", 64, False),
            ("toimax", 64, True),
            ("toumax", 64, False),
        ):
            under = "_" if "i64" in name or "ui64" in name else ""
            result = ">q" if bits == 64 else ""
            function = Function(f"{letter}pi{result}", _to_integer(width, bits, signed=is_signed))
            table[f"{under}{word}{name}"] = function
            table[f"_{word}{name}_l"] = Function(f"{letter}pip{result}", function.answer)
        table[f"{word}tod"] = Function(f"{letter}p>d", _to_float(width))
        table[f"_{word}tod_l"] = Function(f"{letter}pp>d", _to_float(width))
        table[f"{word}tof"] = Function(f"{letter}p>f", _to_float(width))
        for kind, bits, is_signed, first in (
            ("i", 32, True, "i"),
            ("l", 32, True, "i"),
            ("ul", 32, False, "u"),
            ("i64", 64, True, "q"),
            ("ui64", 64, False, "q"),
        ):
            name = f"_{kind}to{end}"
            table[name] = Function(f"{first}pi", _to_text(width, bits, signed=is_signed))
            table[f"{name}_s"] = Function(f"{first}ppi", _to_text_s(width, bits, signed=is_signed))
    return table


FUNCTIONS: dict[str, Function] = {
    **_family(),
    **dict.fromkeys(("itoa", "ltoa"), Function("ipi", _to_text(1, 32))),
    "ultoa": Function("upi", _to_text(1, 32, signed=False)),
    **dict.fromkeys(("atoi", "atol"), Function("s", _simple(1, 32))),
    **dict.fromkeys(("_wtoi", "_wtol"), Function("w", _simple(2, 32))),
    **dict.fromkeys(("_atoi64", "atoll"), Function("s>q", _simple(1, 64))),
    **dict.fromkeys(("_wtoi64", "_wtoll"), Function("w>q", _simple(2, 64))),
    "atof": Function("s>d", _just_float(1)),
    "_wtof": Function("w>d", _just_float(2)),
    "_gcvt": Function("dip", _round_text),
}
"""Functions by name."""
