"""The commands that a Markdown file tells its reader to type. Pure: text in, commands out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

PROMPT = "$ "
TRANSCRIPTS = frozenset({"console"})
"""In these blocks a command stands behind a prompt, and what it prints below it."""
SCRIPTS = frozenset({"bash", "sh"})
"""In these every line is a command, but for comments."""

_FENCE = re.compile(r"(?P<indent> *)(?P<fence>`{3,}|~{3,}) *(?P<language>[\w+-]*)")


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command, as it is typed."""

    file: str
    line: int
    """Number of its first line, from 1."""
    language: str
    """Of the block that it stands in: ``console``, ``bash`` or ``sh``."""
    text: str
    """Without the prompt; lines that a backslash joins are one."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


@dataclass(frozen=True, kw_only=True)
class _Block:
    language: str
    first: int
    lines: tuple[str, ...]


def extract(markdown: str, file: str = "README.md") -> list[Command]:
    """All commands of *markdown*, in order.

    Raises:
        ValueError: a block is not closed, or a command ends in a backslash; names file and line.
    """
    return [
        Command(file=file, line=line, language=block.language, text=text)
        for block in _blocks(markdown, file)
        for line, text in _commands(block, file)
    ]


def _blocks(markdown: str, file: str) -> Iterator[_Block]:
    """The fenced blocks. As in CommonMark: a fence closes with one as long, and indentation is taken off."""
    lines = iter(enumerate(markdown.splitlines(), start=1))
    for number, line in lines:
        opening = _FENCE.match(line)
        if opening is None:
            continue
        fence = opening["fence"]
        closing = re.compile(rf" *{fence[0]}{{{len(fence)},}} *")
        content = []
        for _, inner in lines:
            if closing.fullmatch(inner):
                break
            content.append(re.sub(f"^ {{0,{len(opening['indent'])}}}", "", inner))
        else:
            raise ValueError(f"{file}:{number}: this block is not closed")
        yield _Block(language=opening["language"], first=number + 1, lines=tuple(content))


def _commands(block: _Block, file: str) -> Iterator[tuple[int, str]]:
    if block.language not in TRANSCRIPTS | SCRIPTS:
        return
    lines = iter(enumerate(block.lines, start=block.first))
    for number, line in lines:
        if line.startswith(PROMPT):
            text = line.removeprefix(PROMPT)
        elif block.language in SCRIPTS and line.strip() and not line.lstrip().startswith("#"):
            text = line
        else:
            continue
        while text.endswith("\\"):
            _, following = next(lines, (0, None))
            if following is None:
                raise ValueError(f"{file}:{number}: this command ends in a backslash")
            text = f"{text[:-1].rstrip()} {following.removeprefix('> ').strip()}"
        yield number, text.strip()
