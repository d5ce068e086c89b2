"""``printf``'s formats, with what Microsoft's runtimes add: ``%S``, ``%I64d``, ``%ws`` and so on."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from drakcelery.engines.speakeasy_guest.crt.abi import Variadic
from drakcelery.engines.speakeasy_guest.crt.machine import Machine

MAX_OUTPUT = 1024 * 1024
"""Characters that one call produces at most."""

MAX_PRECISION = 4096

SPECIFICATION = re.compile(
    r"%(?P<flags>[-+ #0']*+)(?P<width>\*|[0-9]++)?(?:\.(?P<precision>\*|-?[0-9]*+))?"
    r"(?P<size>hh|h|ll|l|L|I64|I32|I|w|j|z|t|q|F|N)?(?P<kind>[a-zA-Z])"
)
SIZES = {"hh": 1, "h": 2, "ll": 8, "I64": 8, "j": 8, "q": 8, "L": 8}
POINTER_SIZES = ("I", "z", "t")


@dataclass
class Field:
    """One conversion."""

    flags: str
    width: int
    precision: int | None
    size: str
    kind: str

    def padded(self, text: str, *, sign: str = "") -> str:
        """*text* in the field's width; zeros go between *sign* and digits."""
        missing = self.width - len(text) - len(sign)
        if missing <= 0:
            return sign + text
        if "-" in self.flags:
            return sign + text + " " * missing
        if "0" in self.flags and not (self.kind in "diuxXo" and self.precision is not None):
            return sign + "0" * missing + text
        return " " * missing + sign + text


class Formatter:
    """Fills formats with the arguments of a call."""

    def __init__(self, machine: Machine, *, wide: bool, legacy: bool = True, digits: int = 3) -> None:
        self._machine = machine
        self._wide = wide
        self._legacy = legacy
        self._digits = digits

    def format(self, text: str, arguments: Variadic) -> str:
        """The text that ``printf`` writes; :data:`MAX_OUTPUT` characters at most."""
        parts: list[str] = []
        length = at = 0
        while at < len(text) and length < MAX_OUTPUT:
            percent = text.find("%", at)
            piece = text[at:] if percent < 0 else text[at:percent]
            at = len(text) if percent < 0 else percent
            if percent >= 0 and not piece:
                piece, at = self._conversion(text, percent, arguments)
            parts.append(piece)
            length += len(piece)
        return "".join(parts)[:MAX_OUTPUT]

    def _conversion(self, text: str, at: int, arguments: Variadic) -> tuple[str, int]:
        found = SPECIFICATION.match(text, at)
        if found is None:
            skipped = 2 if text[at + 1 : at + 2] == "%" else 1
            return "%" if skipped == 2 else text[at + 1 : at + 2], at + max(skipped, 2)
        flags = found["flags"]
        width = arguments.integer() if found["width"] == "*" else int((found["width"] or "0")[:9])
        if width < 0:
            flags += "-"
        precision: int | None = None
        if found["precision"] is not None:
            given = found["precision"]
            precision = arguments.integer() if given == "*" else int(given.lstrip("-")[:9] or "0")
            precision = None if precision < 0 or given[:1] == "-" else precision
        field = Field(flags, min(abs(width), MAX_OUTPUT), precision, found["size"] or "", found["kind"])
        return self._one(field, arguments), found.end()

    def _one(self, field: Field, arguments: Variadic) -> str:
        match field.kind:
            case "d" | "i":
                return self._signed(field, arguments)
            case "u" | "x" | "X" | "o" | "b":
                return self._unsigned(field, arguments)
            case "c" | "C":
                code = arguments.integer(4, signed=False)
                return field.padded(chr(code & (0xFFFF if self._is_wide(field) else 0xFF)))
            case "s" | "S":
                return self._string(field, arguments.pointer())
            case "Z":
                return field.padded(self._counted(arguments.pointer()))
            case "p":
                return field.padded(f"{arguments.pointer():0{2 * self._machine.size}X}")
            case "n":
                arguments.pointer()
                return ""
            case "e" | "E" | "f" | "F" | "g" | "G" | "a" | "A":
                return self._double(field, arguments.double())
            case _:
                return field.kind

    def _bytes(self, field: Field) -> int:
        if field.size in POINTER_SIZES:
            return self._machine.size
        return SIZES.get(field.size, 4)

    def _signed(self, field: Field, arguments: Variadic) -> str:
        value = arguments.integer(self._bytes(field))
        sign = "-" if value < 0 else "+" if "+" in field.flags else " " if " " in field.flags else ""
        return field.padded(_digits(str(abs(value)), field.precision), sign=sign)

    def _unsigned(self, field: Field, arguments: Variadic) -> str:
        value = arguments.integer(self._bytes(field), signed=False)
        digits = format(value, {"u": "d", "b": "b"}.get(field.kind, field.kind))
        prefix = ""
        if "#" in field.flags and value:
            prefix = {"x": "0x", "X": "0X", "o": "0"}.get(field.kind, "")
        return field.padded(_digits(digits, field.precision), sign=prefix)

    def _is_wide(self, field: Field) -> bool:
        if field.size in ("h", "hh"):
            return False
        if field.size in ("l", "w", "ll"):
            return True
        own = self._wide and self._legacy  # without the old meaning, %s is narrow everywhere
        return not own if field.kind in "SC" else own

    def _string(self, field: Field, address: int) -> str:
        limit = MAX_OUTPUT if field.precision is None else min(field.precision, MAX_OUTPUT)
        if not address:
            return field.padded("(null)"[:limit])
        return field.padded(self._machine.text(address, 2 if self._is_wide(field) else 1, limit))

    def _counted(self, address: int) -> str:
        """An ``ANSI_STRING`` or, with ``%wZ``, a ``UNICODE_STRING``."""
        if not address:
            return "(null)"
        length = self._machine.number(address, 2)
        buffer = self._machine.number(address + self._machine.size)
        data = self._machine.read(buffer, length)
        return data.decode("utf-16-le" if self._wide else "latin-1", "replace")

    def _double(self, field: Field, value: float) -> str:
        sign = "-" if math.copysign(1, value) < 0 else "+" if "+" in field.flags else ""
        sign = sign or (" " if " " in field.flags else "")
        if math.isnan(value) or math.isinf(value):
            text = "nan" if math.isnan(value) else "inf"
            return Field(field.flags.replace("0", ""), field.width, None, "", "s").padded(
                text.upper() if field.kind.isupper() else text, sign=sign
            )
        precision = 6 if field.precision is None else min(field.precision, MAX_PRECISION)
        if field.kind in "aA":
            text = abs(value).hex()
            text = text.upper() if field.kind == "A" else text
        else:
            text = format(abs(value), f"{'#' if '#' in field.flags else ''}.{precision}{field.kind}")
            if self._digits == 3:
                text = re.sub(r"([eE][+-])(\d\d)$", r"\g<1>0\2", text)
        return field.padded(text, sign=sign)


def _digits(text: str, precision: int | None) -> str:
    if precision is None:
        return text
    return "" if precision == 0 and text == "0" else text.zfill(min(precision, MAX_OUTPUT))
