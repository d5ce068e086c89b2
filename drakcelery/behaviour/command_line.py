r"""Command lines, as DRAKVUF's procmon writes them. Pure.

It escapes them once more before they become JSON, with GLib's ``g_strescape``
(``src/plugins/procmon/win.cpp``): ``\\``, ``\"``, ``\n`` and their kin, and three octal digits for a byte
that is no printable ASCII.
"""

from __future__ import annotations

import re

MOST = 32767
"""Characters of a command line in Windows (``UNICODE_STRING``)."""
_ESCAPED = re.compile(rb'(?:[^\\]|\\[bfnrtv\\"]|\\[0-3][0-7]{2})*')
_ESCAPE = re.compile(rb'\\([bfnrtv\\"]|[0-3][0-7]{2})')
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_TOKEN = re.compile(r'\s+|\\+|"+|[^\s\\"]+')


def unescape(text: str) -> str:
    """What was escaped; *text* itself if it is not escaped in this way."""
    if "\\" not in text:
        return text
    data = text.encode("utf-8", "replace")
    if _ESCAPED.fullmatch(data) is None:
        return text
    return _ESCAPE.sub(_character, data).decode("utf-8", "replace")


def _character(match: re.Match[bytes]) -> bytes:
    found = match[1]
    return bytes([int(found, 8)]) if len(found) == 3 else _LETTERS.get(found, found)


def split(text: str) -> list[str]:
    """The arguments, as a program that uses msvcrt.dll sees them, and as v0.21 has them.

    The rules are those of *Parsing C command-line arguments* in Microsoft's documentation, in their older
    form: two quotes in quoted text are one, and end it.
    """
    words: list[str] = []
    parts: list[str] = []
    quoted = in_word = False
    backslashes = 0
    for token in _TOKEN.findall(text):
        if token[0] == "\\":
            backslashes, in_word = len(token), True
            continue
        if token[0] == '"':
            sum_ = len(token) + quoted + 2 * (backslashes % 2)
            parts.append("\\" * (backslashes // 2) + '"' * (sum_ // 3))
            quoted, in_word = sum_ % 3 == 1, True
        else:
            parts.append("\\" * backslashes)
            if quoted or not token.isspace():
                parts.append(token)
                in_word = True
            elif in_word:
                words.append("".join(parts))
                parts, in_word = [], False
        backslashes = 0
    return [*words, "".join(parts) + "\\" * backslashes] if in_word else words
