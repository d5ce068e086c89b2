"""What the programs need of pathlib, json, hashlib and signal, without these: importing them takes twice as
long as a bare interpreter's start and all that a program does. Names and meanings are theirs."""

from __future__ import annotations

import os
from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner
from _signal import (  # type: ignore[import-not-found] # what the module signal wraps
    SIG_DFL,
    SIG_IGN,
    SIGABRT,
    SIGHUP,
    SIGINT,
    SIGPIPE,
    SIGSEGV,
    SIGTERM,
    pause,
    signal,
)

TYPE_CHECKING = False  # typing's own name for it: importing that takes longer than most programs run
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO, Never

__all__ = [
    "SIGABRT",
    "SIGHUP",
    "SIGINT",
    "SIGPIPE",
    "SIGSEGV",
    "SIGTERM",
    "SIG_DFL",
    "SIG_IGN",
    "Path",
    "dumps",
    "loads",
    "pause",
    "quote",
    "sha256",
    "signal",
]


class Path(str):
    """A path, as far as the programs use one."""

    __slots__ = ()

    def __truediv__(self, name: str) -> Path:
        """What is called *name* below it."""
        return Path(name if name.startswith("/") else f"{self}/{name}")

    @property
    def name(self) -> str:
        """Its last part."""
        return self.rpartition("/")[2]

    @property
    def parent(self) -> Path:
        """All but its last part."""
        return Path(os.path.dirname(self) or ".")  # noqa: PTH120 - this is the module that stands for pathlib

    def exists(self) -> bool:
        """Whether something is there."""
        return os.path.exists(self)  # noqa: PTH110 - as above

    def is_file(self) -> bool:
        """Whether a file is there."""
        return os.path.isfile(self)  # noqa: PTH113 - as above

    def is_dir(self) -> bool:
        """Whether a directory is there."""
        return os.path.isdir(self)  # noqa: PTH112 - as above

    def open_bytes(self) -> BinaryIO:
        """The file, to be read."""
        return open(self, "rb")  # noqa: PTH123 - as above

    def read_bytes(self) -> bytes:
        """What is in it."""
        with open(self, "rb") as file:  # noqa: PTH123 - as above
            return file.read()

    def read_text(self) -> str:
        """What is in it."""
        return self.read_bytes().decode()

    def write_bytes(self, content: bytes) -> None:
        """Replace what is in it."""
        with open(self, "wb") as file:  # noqa: PTH123 - as above
            file.write(content)

    def write_text(self, content: str) -> None:
        """Replace what is in it."""
        self.write_bytes(content.encode())

    def touch(self) -> None:
        """Make the file, empty."""
        os.close(os.open(self, os.O_WRONLY | os.O_CREAT, 0o644))

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Remove the file."""
        try:
            os.unlink(self)  # noqa: PTH108 - as above
        except FileNotFoundError:
            if not missing_ok:
                raise

    def entries(self, suffix: str = "") -> Iterator[Path]:
        """What is in the directory, in the order of the names: those that end in *suffix*."""
        for name in sorted(os.listdir(self)):  # noqa: PTH208 - as above
            if name.endswith(suffix) and not name.startswith("."):
                yield self / name


class _Reading:
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = {"-Infinity": float("-inf"), "Infinity": float("inf"), "NaN": float("nan")}.__getitem__
    memo: dict[str, str] = {}  # noqa: RUF012 - the reader wants one


_scan = make_scanner(_Reading)  # type: ignore[arg-type] # it only asks for these


def loads(text: str | bytes) -> Any:
    """json.loads. Raises ValueError."""
    whole = (text.decode("utf-8", "surrogatepass") if isinstance(text, bytes) else text).strip(" \t\n\r")
    try:
        value, end = _scan(whole, 0)
    except (StopIteration, SystemError):  # the latter: Python 3.11 looks for an error of the module json
        raise ValueError(f"no JSON: {whole[:40]!r}") from None
    if end != len(whole):
        raise ValueError(f"more than JSON: {whole[end : end + 40]!r}")
    return value


def _unknown(value: object) -> Never:
    raise TypeError(f"{type(value).__name__} is nothing that JSON has")


def dumps(value: object, *, separators: tuple[str, str] = (", ", ": "), ensure_ascii: bool = True) -> str:
    """json.dumps."""
    write = encode_basestring_ascii if ensure_ascii else encode_basestring
    encode = make_encoder(None, _unknown, write, None, separators[1], separators[0], False, False, True)
    return "".join(encode(value, 0))


def sha256(content: bytes) -> str:
    """The digest, in hexadecimal: hashlib has OpenSSL loaded."""
    try:
        from _sha2 import sha256 as digest  # type: ignore[import-not-found] # from Python 3.12
    except ImportError:
        from _sha256 import sha256 as digest  # type: ignore[import-not-found] # Python 3.11
    return str(digest(content).hexdigest())


def quote(word: str) -> str:
    """shlex.quote."""
    if word and all(
        character.isascii() and (character.isalnum() or character in "_@%+=:,./-") for character in word
    ):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"
