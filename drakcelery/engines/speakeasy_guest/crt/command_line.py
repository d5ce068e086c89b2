"""How a C runtime splits a command line into ``argv``. Pure."""

from __future__ import annotations

MAX_ARGUMENTS = 8192


def split(line: str) -> list[str]:
    r"""The parts of a command line, as Visual C++ documents it.

    The first part, the program, ends at its closing quote or at a blank. In the others, ``\"`` is a quote, a
    backslash elsewhere is itself, and ``""`` within quotes is a quote.
    """
    program, rest = _program(line.lstrip(" \t"))
    return [program, *_parts(rest)] if program or rest else []


def _program(line: str) -> tuple[str, str]:
    if line.startswith('"'):
        program, _, rest = line[1:].partition('"')
        return program, rest
    end = next((number for number, char in enumerate(line) if char in " \t"), len(line))
    return line[:end], line[end:]


def _parts(line: str) -> list[str]:
    parts: list[str] = []
    at = 0
    while len(parts) < MAX_ARGUMENTS:
        while at < len(line) and line[at] in " \t":
            at += 1
        if at >= len(line):
            break
        part, at = _part(line, at)
        parts.append(part)
    return parts


def _part(line: str, at: int) -> tuple[str, int]:
    text = ""
    quoted = False
    while at < len(line) and (quoted or line[at] not in " \t"):
        slashes = _slashes(line, at)
        at += slashes
        if at < len(line) and line[at] == '"':
            text += "\\" * (slashes // 2)
            if slashes % 2:
                text += '"'
            elif quoted and line[at + 1 : at + 2] == '"':
                text += '"'
                at += 1
            else:
                quoted = not quoted
            at += 1
        else:
            text += "\\" * slashes
            if not slashes:
                text += line[at]
                at += 1
    return text, at


def _slashes(line: str, at: int) -> int:
    end = at
    while line[end : end + 1] == "\\":
        end += 1
    return end - at
