"""The files in a zip that somebody hands in. Whoever made it may be hostile: all of it is bounded.

A file is written to a place of ours, one at a time; its name in the zip becomes a label and no path.
"""

from __future__ import annotations

import errno
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from drakcelery.errors import BadTask
from drakcelery.model.extensions import EXTENSIONS
from drakcelery.model.text import clean

USUAL_PASSWORD = b"infected"
"""What everybody encrypts samples with, so that no mail server and no double click opens them."""
MOST_FILES = 1000
MOST_SIZES = 16
"""How many times the largest sample all files of a zip may have together, as the zip says itself."""
DIRECTORY_BYTES = 4 * 1024**2
"""The list of files in a zip is read at once, so it must not be larger."""
PIECE = 1024**2
_BEGINS = (b"PK\x03\x04", b"PK\x05\x06")
_IS_ENCRYPTED = 0x1
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2})
"""What needs little memory to unpack, whatever the file says: LZMA takes as much as it says."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of ours, not of the zip."""

Ask = Callable[[str], bytes | None]
"""Asks for the password of the zip of this name; None if nobody knows it."""


@dataclass(kw_only=True)
class Passwords:
    """The passwords that are tried, the usual one first; what has opened a zip stays in memory only."""

    given: Sequence[bytes] = field(default=(), repr=False)
    ask: Ask | None = None
    remedy: str = ""
    """How to give another one, in the words of where they come from."""

    def tried(self) -> tuple[bytes, ...]:
        """Those that need no question."""
        return tuple(dict.fromkeys((USUAL_PASSWORD, *self.given)))


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """One file of a zip."""

    name: str
    label: str
    """The zip, and what it calls the file."""
    trouble: str | None = None
    """Why it could not be unpacked, in a sentence."""


def is_zip(name: str, head: bytes, magic: str) -> bool:
    """Whether a file is a zip of samples, and not one itself, such as a document of Office or a JAR."""
    if not head.startswith(_BEGINS):
        return False
    suffix = name.rpartition(".")[2].lower() if "." in name else ""
    return suffix == "zip" or (suffix not in EXTENSIONS and magic.startswith("Zip archive data"))


def unpack(archive: Path, label: str, to: Path, *, passwords: Passwords, largest: int) -> Iterator[Unpacked]:
    """Write each file of *archive* to *to*, one after the other; it is there until the next one is asked for.

    *largest*: bytes of the largest sample that is accepted.

    Raises:
        BadTask: all of the zip is refused.
    """
    with _opened(archive, label) as content:
        files = _files(content, label, most=largest * MOST_SIZES)
        opener = _Opener(content=content, label=label, passwords=passwords)
        for info in files:
            name, inner = _base(info.filename), f"{label}: {clean(info.filename, 200)}"
            try:
                opener.write(info, to, name, largest)
            except _Broken as error:
                yield Unpacked(name=name, label=inner, trouble=str(error))
            else:
                yield Unpacked(name=name, label=inner)


@contextmanager
def _opened(archive: Path, label: str) -> Iterator[Any]:
    """The zip, its list of files read. Raises :class:`BadTask`."""
    import pyzipper  # here, as few submit zips

    with archive.open("rb") as file:
        try:
            content = pyzipper.AESZipFile(_Bounded(file))
        except Exception as error:  # noqa: BLE001 pyzipper checks few of the fields that it uses
            raise BadTask(f"the zip {label} cannot be read: {clean(error, 120)}") from None
        with content:
            yield content


class _Bounded:
    """A file of which little is read at once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        """Raises ValueError if it were too much."""
        if size > DIRECTORY_BYTES:
            raise ValueError("its list of files is too long")
        data = self._file.read(size if size >= 0 else DIRECTORY_BYTES + 1)
        if len(data) > DIRECTORY_BYTES:
            raise ValueError("it is no zip")
        return data

    def seekable(self) -> bool:
        """It is a file."""
        return True


def _files(content: Any, label: str, *, most: int) -> list[Any]:
    """The files that are samples. Raises :class:`BadTask` if the zip is made to do harm."""
    infos = content.infolist()
    if len(infos) > MOST_FILES:
        raise BadTask(f"the zip {label} has {len(infos)} files; at most {MOST_FILES} are accepted")
    for info in infos:
        _require_plain(info, label)
    files = [info for info in infos if not info.filename.endswith(("/", "\\")) and not _is_hidden(info)]
    if not files:
        raise BadTask(f"the zip {label} has no files")
    total = sum(info.file_size for info in files)
    if total > most:
        raise BadTask(
            f"the zip {label} would have {total} bytes unpacked; at most {most} are accepted, {MOST_SIZES} "
            "times [drakcelery] max_sample_size"
        )
    return files


def _require_plain(info: Any, label: str) -> None:
    """Raise :class:`BadTask` for a link, and for a name that leads out of where the zip is unpacked.

    Nothing of ours would follow either, but no honest zip of samples has them.
    """
    name = clean(info.filename, 80)
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a link" if kind == stat.S_IFLNK else "no plain file"
        raise BadTask(f"the zip {label} is refused: {name} in it is {what}")
    parts = re.split(r"[/\\]", info.filename)
    if parts[0] == "" or re.match(r"[A-Za-z]:", info.filename) or ".." in parts:
        raise BadTask(f"the zip {label} is refused: the name {name} in it leads out of it")


def _is_hidden(info: Any) -> bool:
    """What a Mac adds, and what is hidden; as in folders."""
    return any(part.startswith((".", "__MACOSX")) for part in re.split(r"[/\\]", info.filename))


def _base(name: str) -> str:
    return re.split(r"[/\\]", name)[-1]


class _Broken(Exception):
    """One file of a zip cannot be unpacked."""


@dataclass(kw_only=True)
class _Opener:
    """Unpacks the files of one zip, and remembers by which password."""

    content: Any
    label: str
    passwords: Passwords
    fitting: bytes | None = None
    asked: bool = False

    def write(self, info: Any, to: Path, name: str, largest: int) -> None:
        """Write one file to *to*. Raises :class:`_Broken`; :class:`BadTask` if no password fits the zip."""
        if info.file_size > largest:
            raise _Broken(
                f"the sample {clean(name, 80)!r} has {info.file_size} bytes; at most {largest} are accepted "
                "([drakcelery] max_sample_size)"
            )
        if info.compress_type not in _METHODS:
            raise _Broken(f"{clean(name, 80)} is packed in a way that is not unpacked here: use another one")
        if not info.flag_bits & _IS_ENCRYPTED:
            self._copy(info, to, None)
            return
        if not any(self._fits(info, to, password) for password in self._candidates()):
            raise BadTask(
                f"no known password opens the zip {self.label}, or it is damaged; 'infected' was tried"
                f"{self.passwords.remedy}"
            )

    def _candidates(self) -> Iterator[bytes]:
        if self.fitting is not None:
            yield self.fitting
        yield from self.passwords.tried()
        if self.passwords.ask is not None and not self.asked:
            self.asked = True
            if (password := self.passwords.ask(self.label)) is not None:
                yield password

    def _fits(self, info: Any, to: Path, password: bytes) -> bool:
        try:
            self._copy(info, to, password)
        except _Broken:
            return False
        self.fitting = password
        return True

    def _copy(self, info: Any, to: Path, password: bytes | None) -> None:
        """Raises :class:`_Broken`, also for another password; OSError if there is no room for the file."""
        with to.open("wb") as out:
            try:
                with self.content.open(info, pwd=password) as packed:
                    left = info.file_size
                    while left > 0 and (piece := packed.read(min(PIECE, left))):
                        out.write(piece)
                        left -= len(piece)
                    packed.read(1)  # at the end its checksum is compared
            except Exception as error:
                if isinstance(error, OSError) and error.errno in _NO_ROOM:
                    raise
                raise _Broken(
                    f"{clean(_base(info.filename), 80)} cannot be unpacked: {clean(error, 120)}"
                ) from None
