"""``sscanf`` and its kin."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from drakcelery.engines.speakeasy_guest.crt.abi import Answer, Function, Variadic
from drakcelery.engines.speakeasy_guest.crt.machine import to_units
from drakcelery.engines.speakeasy_guest.crt.numbers import MAX_DIGITS, parse_float, parse_integer
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime

SPECIFICATION = re.compile(
    r"%(?P<skip>\*)?(?P<width>[0-9]++)?(?P<size>hh|h|ll|l|L|I64|I32|I|w|j|z|t)?"
    r"(?P<kind>\[\^?\]?[^\]]*\]|[a-zA-Z%])"
)
SIZES = {"hh": 1, "h": 2, "ll": 8, "I64": 8, "j": 8, "L": 8}
BASES = {"d": 10, "u": 10, "i": 0, "x": 16, "X": 16, "o": 8, "p": 16}
MAX_INPUT = 1024 * 1024
MAX_FORMAT = 64 * 1024


@dataclass
class Input:
    """What is read, and how far."""

    text: str
    at: int = 0

    def skip_blanks(self) -> None:
        """To the next character that is none."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1


class Scanner:
    """Reads one text by one format."""

    def __init__(self, crt: Runtime, *, wide: bool, secure: bool) -> None:
        self._crt = crt
        self._wide = wide
        self._secure = secure

    def scan(self, source: Input, form: str, arguments: Variadic) -> int:
        """How many conversions worked; -1 at the end of the text before the first."""
        done = at = 0
        while at < len(form):
            if form[at].isspace():
                source.skip_blanks()
                at += 1
                continue
            found = SPECIFICATION.match(form, at) if form[at] == "%" else None
            if found is None or found["kind"] == "%":
                if source.text[source.at : source.at + 1] != form[at]:
                    break
                source.at += 1
                at += 1 if found is None else 2
                continue
            at = found.end()
            worked = self._one(source, found, arguments)
            if worked is None:
                break
            done += worked
        return -1 if not done and source.at >= len(source.text) and at else done

    def _one(self, source: Input, found: re.Match[str], arguments: Variadic) -> int | None:
        """One conversion: 1, 0 if it counts for nothing, None if the text does not fit."""
        kind = found["kind"]
        if kind not in ("c", "C", "n") and kind[0] != "[":
            source.skip_blanks()
        if kind == "n":
            self._crt.machine.put(arguments.pointer(), source.at, 4)
            return 0
        if source.at >= len(source.text):
            return None
        if kind in BASES or kind in "eEfgGaA":
            return self._number(source, found, arguments)
        return self._text(source, found, arguments)

    def _number(self, source: Input, found: re.Match[str], arguments: Variadic) -> int | None:
        size, kind = found["size"] or "", found["kind"]
        room = int((found["width"] or "")[:9] or MAX_DIGITS)
        piece = source.text[source.at : source.at + room]
        data: bytes
        if kind in BASES:
            value, taken = parse_integer(piece, BASES[kind])
            pointer = size in ("I", "z", "t") or kind == "p"
            width = self._crt.machine.size if pointer else SIZES.get(size, 4)
            data = (value & ((1 << (8 * width)) - 1)).to_bytes(width, "little")
        else:
            number, taken = parse_float(piece)
            data = struct.pack("<d" if size in ("l", "L", "ll") else "<f", number)
        if not taken:
            return None
        source.at += taken
        if found["skip"]:
            return 0
        self._crt.machine.write(arguments.pointer(), data)
        return 1

    def _text(self, source: Input, found: re.Match[str], arguments: Variadic) -> int | None:
        kind = found["kind"]
        room = int((found["width"] or "")[:9] or (1 if kind in "cC" else MAX_INPUT))
        piece = source.text[source.at : source.at + room]
        if kind[0] == "[":
            piece = _leading(piece, kind[1:-1])
        elif kind in "sS":
            piece = piece.split(None, 1)[0] if piece.split(None, 1) else ""
        if not piece:
            return None
        source.at += len(piece)
        if found["skip"]:
            return 0
        target = arguments.pointer()
        limit = arguments.integer(4, signed=False) if self._secure else MAX_INPUT
        text = piece if kind in "cC" else piece + "\0"
        if len(text) > limit:
            return None
        self._crt.machine.write(target, to_units(text, self._width(found)))
        return 1

    def _width(self, found: re.Match[str]) -> int:
        if found["size"] in ("l", "w", "ll"):
            return 2
        if found["size"] in ("h", "hh"):
            return 1
        other = found["kind"] in ("S", "C")
        return 2 if self._wide != other else 1


def _leading(text: str, members: str) -> str:
    """What of *text* belongs to a set such as ``^a-z``."""
    unwanted = members.startswith("^")
    members = members.removeprefix("^")
    allowed: set[str] = set()
    at = 0
    while at < len(members):
        if members[at + 1 : at + 2] == "-" and at + 2 < len(members):
            allowed.update(map(chr, range(ord(members[at]), min(ord(members[at + 2]), 0xFFFF) + 1)))
            at += 3
        else:
            allowed.add(members[at])
            at += 1
    end = next((number for number, char in enumerate(text) if (char in allowed) == unwanted), len(text))
    return text[:end]


def _scan_text(width: int, *, secure: bool = False) -> Answer:
    def answer(crt: Runtime, text: int, form: int, arguments: Variadic) -> int:
        source = Input(crt.machine.text(text, width, MAX_INPUT))
        scanner = Scanner(crt, wide=width == 2, secure=secure)
        return scanner.scan(source, crt.machine.text(form, width, MAX_FORMAT), arguments)

    return answer


def _scan_stream(
    crt: Runtime, address: int, form: str, arguments: Variadic, width: int, *, secure: bool
) -> int:
    stream = crt.streams.get(address)
    if stream is None:
        return -1
    data = crt.streams.read(stream, MAX_INPUT)
    source = Input(data.decode("latin-1"))
    result = Scanner(crt, wide=width == 2, secure=secure).scan(source, form, arguments)
    if source.at < len(data):
        crt.streams.push_back(stream, data[source.at :])
    return result


def _scan_file(width: int, *, secure: bool = False) -> Answer:
    def answer(crt: Runtime, stream: int, form: int, arguments: Variadic) -> int:
        text = crt.machine.text(form, width, MAX_FORMAT)
        return _scan_stream(crt, stream, text, arguments, width, secure=secure)

    return answer


def _common_text(width: int) -> Answer:
    def answer(
        crt: Runtime, options: int, text: int, room: int, form: int, _locale: int, arguments: Variadic
    ) -> int:
        source = Input(crt.machine.text(text, width, min(room, MAX_INPUT)))
        scanner = Scanner(crt, wide=width == 2, secure=bool(options & 1))
        return scanner.scan(source, crt.machine.text(form, width, MAX_FORMAT), arguments)

    return answer


def _common_file(width: int) -> Answer:
    def answer(crt: Runtime, options: int, stream: int, form: int, _locale: int, arguments: Variadic) -> int:
        text = crt.machine.text(form, width, MAX_FORMAT)
        return _scan_stream(crt, stream, text, arguments, width, secure=bool(options & 1))

    return answer


FUNCTIONS: dict[str, Function] = {
    "sscanf": Function("ss.", _scan_text(1)),
    "sscanf_s": Function("ss.", _scan_text(1, secure=True)),
    "vsscanf": Function("ssv", _scan_text(1)),
    "swscanf": Function("ww.", _scan_text(2)),
    "swscanf_s": Function("ww.", _scan_text(2, secure=True)),
    "fscanf": Function("ps.", _scan_file(1)),
    "fscanf_s": Function("ps.", _scan_file(1, secure=True)),
    "fwscanf": Function("pw.", _scan_file(2)),
    "fwscanf_s": Function("pw.", _scan_file(2, secure=True)),
    **dict.fromkeys(("scanf", "scanf_s"), Function("s.", lambda _crt, _form, _more: -1)),
    **dict.fromkeys(("wscanf", "wscanf_s"), Function("w.", lambda _crt, _form, _more: -1)),
    "__stdio_common_vsscanf": Function("qspspv", _common_text(1)),
    "__stdio_common_vswscanf": Function("qwpwpv", _common_text(2)),
    "__stdio_common_vfscanf": Function("qpspv", _common_file(1)),
    "__stdio_common_vfwscanf": Function("qpwpv", _common_file(2)),
}
"""Functions by name."""
