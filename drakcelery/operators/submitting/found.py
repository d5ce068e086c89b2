"""Which files are meant by what somebody types: files, folders, patterns."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drakcelery.model.text import clean

MOST = 10_000
"""How many samples may be handed in at once."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A file that may be a sample."""

    path: Path
    name: str
    """What the sample is called."""
    label: str
    """What it is called in messages."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """What was not handed in, and why, in a sentence."""

    label: str
    reason: str

    @property
    def sentence(self) -> str:
        """The reason, with what was refused."""
        return self.reason if self.label.rpartition("/")[2] in self.reason else f"{self.label}: {self.reason}"


def find(words: tuple[str, ...]) -> Iterator[Found | Refused]:
    """Each file once that *words* mean, in their order; what means none, with the reason.

    Of a folder all files in it and below it are meant, but for hidden ones and links, by their names.
    """
    seen = set()
    for word in words:
        for one in _meant(word):
            if isinstance(one, Found):
                place = one.path.resolve()  # patterns follow links, also such that lead in a circle
                if place in seen:
                    continue
                seen.add(place)
            yield one


def _meant(word: str) -> Iterator[Found | Refused]:
    if not word:  # of a shell's empty variable; as a path it would be the working directory
        yield Refused(label="''", reason="is no name: an empty word names nothing")
        return
    path = Path(word)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        yield from _matching(word)
        return
    except (OSError, ValueError) as error:
        yield Refused(label=clean(word), reason=f"cannot be read: {_said(error)}")
        return
    if stat.S_ISDIR(mode):
        yield from _below(path)
    elif stat.S_ISREG(mode):
        yield _found(path)
    else:
        yield Refused(
            label=clean(word), reason="is neither a file nor a folder; `-` stands for standard input"
        )


def _found(path: Path) -> Found:
    return Found(path=path, name=path.name, label=clean(str(path)))


def _matching(pattern: str) -> Iterator[Found | Refused]:
    """The files that a pattern names which the shell has left as it is."""
    if not glob.has_magic(pattern):
        yield Refused(label=clean(pattern), reason="there is no such file or folder")
        return
    named = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 pathlib's takes no absolute pattern
    files = [path for one in named if (path := Path(one)).is_file()]
    if not files:
        yield Refused(label=clean(pattern), reason="no file matches this pattern")
    yield from map(_found, files)


def _below(folder: Path) -> Iterator[Found | Refused]:
    """Files of a folder and those below it, in order."""
    troubles: list[OSError] = []
    empty = True
    for directory, names, files in os.walk(folder, onerror=troubles.append):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(files):
            path = Path(directory, name)
            if not name.startswith(".") and stat.S_ISREG(_mode(path)):
                empty = False
                yield _found(path)
    for error in troubles:
        yield Refused(
            label=clean(os.fsdecode(error.filename or folder)), reason=f"cannot be read: {_said(error)}"
        )
    if empty and not troubles:
        yield Refused(
            label=clean(str(folder)),
            reason="there is no file in this folder (hidden ones and links do not count)",
        )


def _mode(path: Path) -> int:
    """Of the file itself, not of what it links to; 0 if it is gone."""
    try:
        return path.lstat().st_mode
    except OSError:
        return 0


def _said(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
