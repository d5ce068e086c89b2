"""DRAKVUF's base command line, which each process asks for once for each way of starting a sample.

What differs from run to run is the VM, the command and its directory. drakrun is asked with placeholders for
the latter two, and the answer is kept until something changes on which it depends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drakcelery.settings import DrakvufSection

COMMAND = "drakcelery-command.exe"
DIRECTORY = "drakcelery-directory"

Ask = Callable[[str, str | None], Sequence[str]]
"""The words for a command and its directory."""
Identity = tuple[object, ...]


@dataclass(frozen=True, kw_only=True)
class _Kept:
    identity: Identity
    words: tuple[str, ...]


class BaseLines:
    """The lines of one host."""

    def __init__(self, section: DrakvufSection, find: Callable[[str], Path | None]) -> None:
        """*find* returns where a program is."""
        self._section = section
        self._find = find
        self._kept: dict[tuple[str | None, bool], _Kept] = {}

    def line(
        self, ask: Ask, vm: str, command: str, *, method: str | None, directory: str | None
    ) -> Sequence[str]:
        """The words that start *command* in *vm*. Raises as *ask* does."""
        given = _plain(command) if method not in (None, "createproc") else command
        if given is None:
            return ask(command, directory)  # it is split into program and arguments, by drakrun's own rules
        key, identity = (method, directory is not None), self._identity()
        kept = self._kept.get(key)
        if kept is None or kept.identity != identity:
            words = tuple(ask(COMMAND, DIRECTORY if directory is not None else None))
            if not _is_template(words, vm, has_directory=directory is not None):
                return ask(command, directory)
            kept = self._kept[key] = _Kept(identity=identity, words=words)
        put = {COMMAND: given, DIRECTORY: directory or ""}
        at = kept.words.index("-d") + 1
        words = tuple(put.get(word, word) for word in kept.words)
        return [*words[:at], vm, *words[at + 1 :]]

    def _identity(self) -> Identity:
        section = self._section
        profiles = section.lib_dir / "profiles"
        paths = (
            *(section.etc_dir / name for name in ("install.json", "config.toml")),
            *(profiles, profiles / "runtime.json", profiles / "kernel.json"),
            *(self._find(program) for program in (section.drakrun, section.drakvuf)),
        )
        return tuple(path and _status(path) for path in paths)


def _plain(command: str) -> str | None:
    """The path that *command* is, in quotes or not; None if arguments follow."""
    inside = command.removeprefix('"').removesuffix('"')
    is_quoted = command == f'"{inside}"'
    return inside if '"' not in inside and (is_quoted or " " not in inside) else None


def _is_template(words: Sequence[str], vm: str, *, has_directory: bool) -> bool:
    """Whether each placeholder is there once, and the VM is where it should be."""
    return (
        words.count(COMMAND) == 1
        and words.count(DIRECTORY) == int(has_directory)
        and words.count("-d") == 1
        and words[words.index("-d") + 1 :][:1] == (vm,)
    )


def _status(path: Path) -> object:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
