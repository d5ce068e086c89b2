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
    """The arguments, as Windows' programs see them; the whole line if old and new ones see different ones.

    The rules are those of *Parsing C command-line arguments* in Microsoft's documentation; two quotes in
    quoted text end it for programs of msvcrt.dll, and do not for those of the Universal C Runtime.
    """
    words = _words(text, ends=False)
    return words if words == _words(text, ends=True) else [text]


def _words(text: str, *, ends: bool) -> list[str]:
    words: list[str] = []
    parts: list[str] = []
    quoted = in_word = False
    backslashes = 0
    for token in _TOKEN.findall(text):
        kind = token[0]
        if kind == "\\":
            backslashes, in_word = len(token), True
            continue
        if kind == '"':
            literal, quoted = _quotes(len(token), escaped=backslashes % 2, quoted=quoted, ends=ends)
            parts.append("\\" * (backslashes // 2) + '"' * literal)
            in_word = True
        else:
            parts.append("\\" * backslashes)
            if not kind.isspace() or quoted:
                parts.append(token)
                in_word = True
            elif in_word:
                words.append("".join(parts))
                parts, in_word = [], False
        backslashes = 0
    if in_word:
        words.append("".join(parts) + "\\" * backslashes)
    return words


def _quotes(number: int, *, escaped: int, quoted: bool, ends: bool) -> tuple[int, bool]:
    """How many of *number* quotes are part of the text, and whether text is quoted after them."""
    literal = escaped
    number -= escaped
    while number:
        if quoted and number >= 2:
            literal += 1
            number -= 2
            quoted = not ends
        else:
            quoted = not quoted
            number -= 1
    return literal, quoted
