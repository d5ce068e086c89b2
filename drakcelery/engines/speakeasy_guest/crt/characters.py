"""Kinds of characters, and text between narrow and wide."""

from __future__ import annotations

from drakcelery.engines.speakeasy_guest.crt.abi import Answer, Function
from drakcelery.engines.speakeasy_guest.crt.descriptors import EINVAL, ERANGE
from drakcelery.engines.speakeasy_guest.crt.machine import from_units, to_units
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime
from drakcelery.engines.speakeasy_guest.crt.variables import (
    ALPHA,
    BLANK,
    CONTROL,
    DIGIT,
    HEX,
    LOWER,
    PUNCT,
    SPACE,
    UPPER,
    kind_of,
)

TRUNCATE = 0xFFFFFFFF

KINDS = {
    "alpha": ALPHA,
    "upper": UPPER,
    "lower": LOWER,
    "digit": DIGIT,
    "xdigit": HEX,
    "space": SPACE,
    "punct": PUNCT,
    "alnum": ALPHA | DIGIT,
    "print": BLANK | PUNCT | ALPHA | DIGIT,
    "graph": PUNCT | ALPHA | DIGIT,
    "cntrl": CONTROL,
}


def _is(bits: int) -> Answer:
    return lambda _crt, code, *_locale: kind_of(code) & bits if 0 <= code < 0x10000 else 0


def _is_blank(_crt: Runtime, code: int) -> int:
    return int(code in (9, 32))


def _is_type(_crt: Runtime, code: int, bits: int) -> int:
    return kind_of(code) & bits if 0 <= code < 0x10000 else 0


def _lower(_crt: Runtime, code: int, *_locale: int) -> int:
    return code + 32 if 65 <= code <= 90 else code


def _upper(_crt: Runtime, code: int, *_locale: int) -> int:
    return code - 32 if 97 <= code <= 122 else code


def _to_wide(crt: Runtime, target: int, source: int, count: int) -> int:
    if not target:
        return len(crt.machine.string(source))
    text = crt.machine.text(source, 1, count)
    crt.machine.write(target, to_units(text + ("\0" if len(text) < count else ""), 2))
    return len(text)


def _to_narrow(crt: Runtime, target: int, source: int, count: int) -> int:
    text = crt.machine.text(source, 2) if not target else crt.machine.text(source, 2, count)
    if target:
        crt.machine.write(target, to_units(text + ("\0" if len(text) < count else ""), 1))
    return len(text)


def _secure(given: int, wanted: int) -> Answer:
    """``mbstowcs_s`` and ``wcstombs_s``."""

    def answer(crt: Runtime, length: int, target: int, room: int, source: int, count: int) -> int:
        text = crt.machine.text(source, given)
        if count & TRUNCATE != TRUNCATE:
            text = text[:count]
        crt.machine.put(length, len(text) + 1)
        if not target:
            return 0
        if not room:
            return crt.fail(EINVAL, EINVAL)
        if len(text) >= room:
            cut = count & TRUNCATE == TRUNCATE
            crt.machine.put_text(target, text[: room - 1] if cut else "", wanted)
            return 80 if cut else crt.fail(ERANGE, ERANGE)
        crt.machine.put_text(target, text, wanted)
        return 0

    return answer


def _one_to_wide(crt: Runtime, target: int, source: int, count: int, *_state: int) -> int:
    if not source or not count:
        return 0
    data = crt.machine.read(source, 1)
    if target:
        crt.machine.write(target, to_units(from_units(data, 1), 2))
    return int(data != b"\0")


def _one_to_narrow(crt: Runtime, target: int, code: int, *_state: int) -> int:
    if target:
        crt.machine.write(target, to_units(chr(code & 0xFFFF), 1))
    return 1


def _one_to_narrow_s(crt: Runtime, length: int, target: int, _room: int, code: int) -> int:
    _one_to_narrow(crt, target, code)
    crt.machine.put(length, 1, 4)
    return 0


FUNCTIONS: dict[str, Function] = {
    **{f"is{name}": Function("i", _is(bits)) for name, bits in KINDS.items()},
    **{f"isw{name}": Function("i", _is(bits)) for name, bits in KINDS.items()},
    **{f"_is{name}_l": Function("ip", _is(bits)) for name, bits in KINDS.items()},
    **{f"_isw{name}_l": Function("ip", _is(bits)) for name, bits in KINDS.items()},
    "isblank": Function("i", _is_blank),
    "iswblank": Function("i", _is_blank),
    "isascii": Function("i", lambda _crt, code: int(0 <= code < 128)),
    "__isascii": Function("i", lambda _crt, code: int(0 <= code < 128)),
    "iswascii": Function("i", lambda _crt, code: int(0 <= code < 128)),
    "_isctype": Function("ii", _is_type),
    "iswctype": Function("ii", _is_type),
    "is_wctype": Function("ii", _is_type),
    "isleadbyte": Function("i", lambda _crt, _code: 0),
    "_isleadbyte_l": Function("ip", lambda _crt, _code, _locale: 0),
    "_ismbblead": Function("u", lambda _crt, _code: 0),
    "_ismbbtrail": Function("u", lambda _crt, _code: 0),
    **dict.fromkeys(("tolower", "_tolower", "towlower", "_mbctolower"), Function("i", _lower)),
    **dict.fromkeys(("toupper", "_toupper", "towupper", "_mbctoupper"), Function("i", _upper)),
    **dict.fromkeys(("_tolower_l", "_towlower_l"), Function("ip", _lower)),
    **dict.fromkeys(("_toupper_l", "_towupper_l"), Function("ip", _upper)),
    "mbstowcs": Function("psp", _to_wide),
    "wcstombs": Function("pwp", _to_narrow),
    "mbstowcs_s": Function("pppsp", _secure(1, 2)),
    "wcstombs_s": Function("pppwp", _secure(2, 1)),
    "mbtowc": Function("psp", _one_to_wide),
    "mbrtowc": Function("pspp", _one_to_wide),
    "wctomb": Function("pi", _one_to_narrow),
    "wcrtomb": Function("pip", _one_to_narrow),
    "wctomb_s": Function("pppi", _one_to_narrow_s),
    "mblen": Function("sp", lambda crt, text, _count: _one_to_wide(crt, 0, text, 1)),
    "btowc": Function("i", lambda _crt, code: code & 0xFF if code >= 0 else 0xFFFF),
    "wctob": Function("i", lambda _crt, code: code if 0 <= code < 256 else -1),
    "_mbsinc": Function("s", lambda _crt, text: text + 1),
    "_mbsdec": Function("ss", lambda _crt, start, text: text - 1 if text > start else 0),
    "_mbsnextc": Function("s", lambda crt, text: crt.machine.number(text, 1)),
}
"""Functions by name."""
