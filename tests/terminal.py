"""A program on a terminal of its own, as a person runs it; what it showed can be kept as a recording."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.text import Text

HOME = "\x1b[H"
"""What a full-screen program begins each frame with."""


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """A running program, and all that it has written."""

    process: subprocess.Popen[bytes]
    columns: int
    lines: int
    written: list[tuple[float, str]] = field(default_factory=list)
    """What it wrote, and when: seconds from its start."""
    _handle: int
    _begun: float

    def read(self) -> str:
        """All that it has written up to now."""
        with contextlib.suppress(BlockingIOError):  # nothing new
            text = os.read(self._handle, 65536).decode(errors="replace")
            self.written.append((time.monotonic() - self._begun, text))
        return "".join(text for _, text in self.written)

    def shows(self, pattern: str) -> bool:
        """Whether it has ever shown that; colours and movements of the cursor do not count."""
        return re.search(pattern, plain(self.read())) is not None

    def type(self, keys: str) -> None:
        """Press *keys*."""
        os.write(self._handle, keys.encode())

    def keep(self, path: Path) -> None:
        """Write the recording (asciicast, version 2) to *path*."""
        head = {"version": 2, "width": self.columns, "height": self.lines}
        events = [[round(at, 3), "o", text] for at, text in self.written]
        path.write_text("".join(f"{json.dumps(line)}\n" for line in (head, *events)), encoding="utf-8")

    def last_frame(self) -> str:
        """What it showed last, as SVG for a browser to photograph."""
        frames = "".join(text for _, text in self.written).replace("\r", "").split(HOME)
        console = Console(record=True, width=self.columns, file=io.StringIO())
        console.print(Text.from_ansi(max(frames[-4:], key=len).rstrip()))  # the last ones clear the screen
        picture = console.export_svg(title="drakcelery top")
        # The browser loads no fonts from elsewhere
        return re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)


def plain(text: str) -> str:
    """Without colours and movements of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def on_terminal(*program: str | Path, own: bool = False, directory: Path | None = None) -> tuple[str, str]:
    """What *program*, started in *directory*, writes to its output, and to a terminal of 80 columns: there is
    only its standard error, unless the terminal is its *own*."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    with (
        tempfile.TemporaryFile("w+") as out,
        subprocess.Popen(
            program,
            stdin=subprocess.DEVNULL,
            stdout=theirs if own else out,
            stderr=theirs,
            env={**kept, "TERM": "xterm-256color"},
            cwd=directory,
        ) as process,
    ):
        os.close(theirs)
        written = b""
        with contextlib.suppress(OSError):  # the terminal is gone with the process
            while block := os.read(ours, 65536):
                written += block
        os.close(ours)
        assert process.wait(60) == 0, written
        out.seek(0)
        return out.read(), written.decode().replace("\r", "")


@contextlib.contextmanager
def terminal(program: Sequence[str | Path], *, columns: int = 80, lines: int = 24) -> Iterator[Terminal]:
    """Start *program* on a terminal of that size; who uses it ends it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    begun = time.monotonic()
    with subprocess.Popen(
        program,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environment, "TERM": "xterm-256color"},
    ) as process:
        os.close(theirs)
        os.set_blocking(ours, False)
        try:
            yield Terminal(process=process, columns=columns, lines=lines, _handle=ours, _begun=begun)
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(30)
            os.close(ours)
