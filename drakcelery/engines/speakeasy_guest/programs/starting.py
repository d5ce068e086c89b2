"""Which program a command line starts, as CreateProcess and cmd.exe read it. Pure."""

from __future__ import annotations

import ntpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MAX_LINE = 32 * 1024
"""Characters of a command line that are looked at: what Windows allows."""

MAX_COMMANDS = 256
"""Commands that are looked at for one line, those of batch files included."""

MAX_DEPTH = 4
"""So many shells within shells are followed."""

EXTENSIONS = ("", ".exe", ".com", ".bat", ".cmd")
SHELLS = frozenset({"cmd", "cmd.exe"})
LOADERS = frozenset({"rundll32", "rundll32.exe", "regsvr32", "regsvr32.exe"})

Find = Callable[[str], str | None]
"""The whole path of a file that is there, by a path in any form; None where there is none."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """A program or a DLL that a command line runs."""

    path: str
    command_line: str
    container: str = ""
    """The Windows program that loads a DLL."""
    export: str = ""
    """What it calls in it after ``DllMain``."""


def split(line: str) -> tuple[str, str]:
    """Program and arguments: up to the second quote, or up to the first blank."""
    line = line[:MAX_LINE].strip()
    if line.startswith('"'):
        program, _, rest = line[1:].partition('"')
        return program, rest.strip()
    program, _, rest = line.partition(" ")
    return program, rest.strip()


def program_of(line: str, find: Find) -> tuple[str, str]:
    """Program and arguments; without quotes also one whose path has blanks, if it is there."""
    program, rest = split(line)
    text = line[:MAX_LINE].strip()
    if text.startswith('"') or find(program):
        return program, rest
    for match in list(re.finditer(r" ", text))[:32]:
        if find(text[: match.start()]) or find(f"{text[: match.start()]}.exe"):
            return text[: match.start()], text[match.end() :].strip()
    return (text, "") if find(text) else (program, rest)


def followed(line: str, find: Find, read: Callable[[str], str]) -> Iterator[Started]:
    """What is there of the programs that *line* starts, through shells, batch files and loaders of DLLs.

    *read*: the text of a batch file.
    """
    return _Search(find, read).program(line, 0)


class _Search:
    """A search of one line for programs; batch files may run one another, so all of it is bounded."""

    def __init__(self, find: Find, read: Callable[[str], str]) -> None:
        self._find = find
        self._read = read
        self._left = MAX_COMMANDS

    def program(self, line: str, depth: int) -> Iterator[Started]:
        """What a line that names a program starts."""
        program, rest = program_of(line, self._find)
        name = ntpath.basename(program).lower()
        if depth > MAX_DEPTH or not program:
            return
        if name in SHELLS:
            yield from self._shell(rest, depth)
        elif name in LOADERS:
            yield from _of_loader(line, name, rest, self._find)
        elif name in ("explorer", "explorer.exe") and rest:
            yield from self.program(f'"{split(rest)[0]}"', depth + 1)
        elif path := next(filter(None, (self._find(program + ending) for ending in EXTENSIONS)), None):
            if path.lower().endswith((".bat", ".cmd")):
                yield from self._commands(self._read(path).splitlines(), depth)
            else:
                yield Started(path=path, command_line=line)

    def _shell(self, rest: str, depth: int) -> Iterator[Started]:
        """``/c`` or ``/k`` and commands, maybe all of them in quotes."""
        match = re.search(
            r"(?:^|\s|/[a-z:]+)/[ckr]\s*(?P<command>.*)$", f" {rest}", re.IGNORECASE | re.DOTALL
        )
        if match is None:
            return
        command = match["command"].strip()
        if command.startswith('"') and command.endswith('"') and len(command) > 1:
            inner = command[1:-1]
            # cmd keeps the quotes only around the one name of a program
            command = command if self._find(inner) else inner
        yield from self._commands(re.split(r"&&|\|\||&|\|", command), depth)

    def _commands(self, commands: list[str], depth: int) -> Iterator[Started]:
        """Commands of cmd.exe: ``start``, ``call``, or the program itself."""
        for one in commands:
            if self._left <= 0:
                return
            self._left -= 1
            command = one.strip().lstrip("@(").rstrip(")").strip()
            word, rest = split(command)
            if word.lower() == "call":
                command = rest
            elif word.lower() == "start":
                command = _without_options(rest)
            if command:
                yield from self.program(command, depth + 1)


def _without_options(rest: str) -> str:
    """What follows ``start``, without its title and options."""
    if rest.startswith('"'):
        _, rest = split(rest)
    while match := re.match(r'/(?:d\s*("[^"]*"|\S+)|\S+)\s*', rest, re.IGNORECASE):
        rest = rest[match.end() :]
    return rest.strip()


def _of_loader(line: str, name: str, rest: str, find: Find) -> Iterator[Started]:
    """``rundll32 x.dll,Export arguments`` and ``regsvr32 /s x.dll``."""
    container = name if name.endswith(".exe") else f"{name}.exe"
    if container == "rundll32.exe":
        match = re.match(
            r'(?:"(?P<quoted>[^"]+)"|(?P<plain>[^,"\s]+))(?:\s*,\s*|\s+)(?P<export>[^\s,]+)', rest
        )
        if match and (path := find(match["quoted"] or match["plain"])):
            yield Started(
                path=path, command_line=line, container=container, export=match["export"].strip('"')
            )
        return
    words = [one.strip('"') for one in re.findall(r'"[^"]*"|\S+', rest)]
    files = [one for one in words if not one.startswith(("/", "-"))]
    if files and (path := find(files[-1])):
        verb = "Unregister" if {"/u", "-u"} & {one.lower() for one in words} else "Register"
        yield Started(path=path, command_line=line, container=container, export=f"Dll{verb}Server")
