"""How a resident is started in drakrun's own interpreter, and what its first line says."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from drakcelery.engines.drakvuf import launch, resident
from drakcelery.engines.drakvuf.tool_output import ending, readable
from drakcelery.engines.drakvuf.tools import Tools

if TYPE_CHECKING:
    from drakcelery.settings import DrakvufSection

HELLO_SECONDS = 60.0
"""For the first line; a slow disk reads the libraries for seconds."""
HELLO_BYTES = 64 * 1024
SCRIPT_BYTES = 4096
SCREENSHOTS = "drakrun.analyzer.screenshotter"
"""Takes most of a second to import, so only if screenshots are wanted."""
_OPENS_A_SHELL = ("sh", "bash", "dash")


class NoLibrary(Exception):
    """Why drakrun's library is not used, as the end of a sentence."""


@dataclass(frozen=True, kw_only=True)
class Hello:
    """What a resident says about the library that it has imported."""

    version: str
    seconds: float
    lacks: str | None
    """Why screenshots cannot be made."""


def interpreter(script: Path) -> list[str]:
    """The interpreter of an installed Python script, and its options.

    pip writes ``#!/path/python``, or, if that is too long or has blanks, a shell that runs
    ``'''exec' "/path/python" "$0" "$@"``.

    Raises:
        NoLibrary: it is none.
    """
    try:
        with script.open("rb") as file:
            lines = file.read(SCRIPT_BYTES).decode("utf-8", "replace").splitlines()
        first = shlex.split(lines[0].removeprefix("#!")) if lines and lines[0].startswith("#!") else []
        words = first
        if first and Path(first[0]).name in _OPENS_A_SHELL and len(lines) > 1:
            words = [word for word in shlex.split(lines[1])[1:] if word not in ("$0", "$@")]
    except (OSError, ValueError) as error:
        raise NoLibrary(f"{script} cannot be read: {error}") from None
    if not words or not words[0].startswith("/") or not Path(words[0]).name.startswith("python"):
        raise NoLibrary(f"{script} is no script of a Python environment")
    if not os.access(words[0], os.X_OK):
        raise NoLibrary(f"{words[0]}, which {script} names, cannot be executed")
    return words


def understood(line: bytes) -> Hello:
    """The resident's first line. Raises :class:`NoLibrary`."""
    try:
        said = json.loads(line)
        if isinstance(said, dict) and isinstance(said.get("unfit"), str):
            raise NoLibrary("; ".join(readable(said["unfit"])))
        lacks = said.get("lacks")
        return Hello(
            version="".join(readable(str(said["version"]))),
            seconds=float(said["seconds"]),
            lacks="; ".join(readable(str(lacks))) if lacks else None,
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise NoLibrary(f"its interpreter says {'; '.join(readable(repr(line[:100])))}") from None


class Residence:
    """How a resident is started for ``[drakvuf] drakrun``."""

    def __init__(self, section: DrakvufSection, tools: Tools) -> None:
        self._section = section
        self._tools = tools

    @property
    def script(self) -> Path:
        """The script ``drakrun`` itself. Raises :class:`NoLibrary`."""
        found = self._tools.find(self._section.drakrun)
        if found is None:
            raise NoLibrary(f"there is no {self._section.drakrun}")
        return found.resolve()

    def identity(self) -> tuple[object, ...]:
        """An identifier that changes if another drakrun is installed. Raises :class:`NoLibrary`."""
        script = self.script
        try:
            statuses = [path.stat() for path in (script, Path(interpreter(script)[0]))]
        except OSError as error:
            raise NoLibrary(str(error)) from None
        return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in statuses)

    def spawn(self, place: str, *, stderr: int, descriptors: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
        """Start a resident. Its first line is for :meth:`hello`. Raises :class:`NoLibrary`."""
        words = [*interpreter(self.script), resident.__file__, place, self._section.drakrun]
        extra = [SCREENSHOTS] if self._section.screenshots else []
        return subprocess.Popen(
            [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), *words, *extra],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**self._tools.environment, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            cwd="/",
            start_new_session=True,
            pass_fds=descriptors,
        )

    def hello(self, process: subprocess.Popen[bytes]) -> Hello:
        """Read the first line of *process*. Raises :class:`NoLibrary`."""
        assert process.stdout is not None  # noqa: S101 it was started with a pipe
        descriptor, data = process.stdout.fileno(), b""
        deadline = time.monotonic() + HELLO_SECONDS
        while b"\n" not in data and len(data) < HELLO_BYTES:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise NoLibrary(f"its interpreter said nothing in {HELLO_SECONDS:.0f} s")
            part = os.read(descriptor, HELLO_BYTES)
            if not part and not data:
                raise NoLibrary(f"its interpreter {ending(process.wait())}")
            if not part:
                break
            data += part
        return understood(data.partition(b"\n")[0])

    def check(self) -> Hello:
        """Import the library once and check that its version is supported. Raises :class:`NoLibrary`."""
        with tempfile.TemporaryFile() as errors:
            process = self.spawn("check", stderr=errors.fileno())
            try:
                return self.hello(process)
            finally:
                end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a resident that was asked to end; its calls die with it."""
    if process.stdout is not None:
        process.stdout.close()
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.wait()
