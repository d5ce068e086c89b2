"""The locale that a program sets: ``C``, or the one of the emulated Windows."""

from __future__ import annotations

import re
import struct

from drakcelery.engines.speakeasy_guest.crt.abi import Answer, Function
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime
from drakcelery.engines.speakeasy_guest.machine.locale import CRT_NAME

NAMES = re.compile(
    r"(?P<language>english|american|en|us|usa|english-(us|american)|enu|english_united states|en[-_]us)?"
    r"(?P<page>\.(\d{3,5}|utf-?8|acp|ocp))?",
    re.IGNORECASE,
)
"""Names that are accepted: a language, a code page, or both."""

CATEGORIES = range(6)
"""``LC_ALL`` to ``LC_TIME``."""

CHAR_MAX = 0x7F


def _known(name: str) -> str | None:
    """How the runtime calls a locale; None for one that Windows does not have."""
    if name in ("C", "POSIX"):
        return "C"
    if name == "":
        return CRT_NAME
    found = NAMES.fullmatch(name)
    if found is None:
        return None
    language = CRT_NAME.partition(".")[0]
    page = (found["page"] or ".1252").lower().replace("acp", "1252").replace("ocp", "437")
    return f"{language}{page}"


def _set_locale(width: int) -> Answer:
    def answer(crt: Runtime, category: int, name: int) -> int:
        if category not in CATEGORIES:
            return 0
        if name:
            known = _known(crt.machine.text(name, width))
            if known is None:
                return 0
            crt.process.locale = known
        return crt.variables.text(crt.process.locale, width)

    return answer


def _create(width: int) -> Answer:
    """``_create_locale``: there is one for all; its address says that it is there."""

    def answer(crt: Runtime, _category: int, name: int) -> int:
        known = name and _known(crt.machine.text(name, width)) is not None
        return crt.variables.shared("locale", 64) if known else 0

    return answer


def _conventions(crt: Runtime) -> int:
    """``struct lconv``: how numbers and amounts of money are written."""
    machine, size = crt.machine, crt.machine.size
    plain = crt.process.locale == "C"
    texts = [".", "", "", "", "", "", "", "", "", ""]
    numbers = [CHAR_MAX] * 8
    if not plain:
        texts = [".", ",", "\3", "USD", "$", ".", ",", "\3", "", "-"]
        numbers = [2, 2, 1, 0, 1, 0, 0, 0]
    wide = [texts[at] for at in (0, 1, 3, 4, 5, 6, 8, 9)]
    data = b"".join(crt.variables.text(text, 1).to_bytes(size, "little") for text in texts)
    data += struct.pack("<8B", *numbers)
    data += b"".join(crt.variables.text(text, 2).to_bytes(size, "little") for text in wide)
    buffer = crt.variables.shared("lconv", len(data))
    machine.write(buffer, data)
    return buffer


FUNCTIONS: dict[str, Function] = {
    "setlocale": Function("is", _set_locale(1)),
    "_wsetlocale": Function("iw", _set_locale(2)),
    "localeconv": Function("", _conventions),
    "_create_locale": Function("is", _create(1)),
    "_wcreate_locale": Function("iw", _create(2)),
    "_free_locale": Function("p", lambda _crt, _locale: 0),
    "_get_current_locale": Function("", lambda crt: crt.variables.shared("locale", 64)),
}
"""Functions by name."""
