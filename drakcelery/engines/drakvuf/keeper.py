"""Keeps :mod:`.resident` running in drakrun's own interpreter, as long as the vm worker's main process lives.

The socket is made here and handed on, so that calls wait while one resident follows another. Where drakrun's
library cannot be used there is no socket, and every call is made by the command at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from drakcelery import safe_files
from drakcelery.engines.drakvuf import launch, resident
from drakcelery.engines.drakvuf.library import SOCKET, Library, reached
from drakcelery.engines.drakvuf.tool_output import end_of, ending, readable
from drakcelery.engines.drakvuf.tools import Tools
from drakcelery.errors import EngineError

if TYPE_CHECKING:
    from drakcelery.settings import DrakvufSection

log = structlog.get_logger(__name__)

HELLO_SECONDS = 60.0
"""For the first line; a slow disk reads the libraries for seconds."""
HELLO_BYTES = 64 * 1024
LOOK_SECONDS = 10.0
"""How often it is seen whether the resident answers, and whether another drakrun was installed."""
DEATHS = 3
"""In :data:`DEATHS_SECONDS`: so many and it is left alone for a while."""
DEATHS_SECONDS = 60.0
PAUSE_SECONDS = 300.0
FINISH_SECONDS = 30.0
"""For calls in hand, where another drakrun was installed."""
BACKLOG = 64
SCRIPT_BYTES = 4096
SCREENSHOTS = "drakrun.analyzer.screenshotter"
"""Takes most of a second to import; only where screenshots are wanted."""

_OPENS_A_SHELL = ("sh", "bash", "dash")


class NoLibrary(Exception):
    """Why drakrun's library is not used, as the end of a sentence."""


@dataclass(frozen=True, kw_only=True)
class Hello:
    """What a resident says of the library that it has imported."""

    version: str
    seconds: float
    lacks: str | None
    """Why screenshots cannot be made."""


def interpreter(script: Path) -> list[str]:
    """The interpreter of an installed Python script, and its options.

    pip writes ``#!/path/python``; where that is too long or has blanks, a shell that runs
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
        """Changes where another drakrun is installed. Raises :class:`NoLibrary`."""
        script = self.script
        try:
            statuses = [path.stat() for path in (script, Path(interpreter(script)[0]))]
        except OSError as error:
            raise NoLibrary(str(error)) from None
        return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in statuses)

    def spawn(self, place: str, *, stderr: int, descriptors: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
        """Start one. Its first line is for :meth:`hello`. Raises :class:`NoLibrary`."""
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
        """Import the library once and see whether it is one that is known. Raises :class:`NoLibrary`."""
        with tempfile.TemporaryFile() as errors:
            process = self.spawn("check", stderr=errors.fileno())
            try:
                return self.hello(process)
            finally:
                _end(process)


class Keeper:
    """Starts a resident, sees that it answers, and starts another where it does not."""

    def __init__(self, section: DrakvufSection, tools: Tools, directory: Path) -> None:
        """*directory* is ``state_dir/engine``, which nobody else may enter."""
        self._residence = Residence(section, tools)
        self._directory = directory
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="drakrun-keeper", daemon=True)
        self._deaths: deque[float] = deque(maxlen=DEATHS)
        self._said: str | None = None
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End, and the resident with it."""
        self._stopping.set()
        with self._lock:
            if self._process is not None:
                self._process.kill()
        self._thread.join()

    def _keep(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._listening() as listener:
                    while not self._stopping.is_set():
                        self._serve(listener)
            except (NoLibrary, OSError, EngineError) as error:
                self._say(str(error))
            except Exception:
                log.exception("library_not_used")
            self._wait_for_another()

    def _say(self, why: str) -> None:
        if why != self._said:
            self._said = why
            log.warning("library_not_used", reason=why)

    def _wait_for_another(self) -> None:
        """Until another drakrun is installed; for a while at most, since trouble may pass."""
        deadline = time.monotonic() + PAUSE_SECONDS
        begun = self._identity()
        while not self._stopping.wait(LOOK_SECONDS) and time.monotonic() < deadline:
            if self._identity() != begun:
                return

    def _identity(self) -> tuple[object, ...] | None:
        try:
            return self._residence.identity()
        except NoLibrary:
            return None

    @contextlib.contextmanager
    def _listening(self) -> Iterator[socket.socket]:
        safe_files.close_directory(self._directory)
        path = self._directory / SOCKET
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            with reached(self._directory) as short:
                listener.bind(short)
            try:
                path.chmod(0o600)
                listener.listen(BACKLOG)
                yield listener
            finally:
                path.unlink(missing_ok=True)  # first: who comes now uses the command

    def _serve(self, listener: socket.socket) -> None:
        """One resident, to its end. Raises :class:`NoLibrary` where another would not do better."""
        identity, place = self._residence.identity(), listener.fileno()
        with tempfile.TemporaryFile() as errors:
            with self._lock:
                process = self._process = self._residence.spawn(
                    str(place), stderr=errors.fileno(), descriptors=(place,)
                )
            try:
                hello = self._residence.hello(process)
                log.info("library_ready", version=hello.version, seconds=hello.seconds, lacks=hello.lacks)
                self._said = None
                why = self._attend(process, identity)
            finally:
                _end(process)
            if why is None or self._stopping.is_set():
                return
            log.warning("library_lost", reason=why, stderr=list(readable(end_of(errors))))
        self._deaths.append(time.monotonic())
        if len(self._deaths) == DEATHS and time.monotonic() - self._deaths[0] < DEATHS_SECONDS:
            self._deaths.clear()
            raise NoLibrary(f"it ended {DEATHS} times in {DEATHS_SECONDS:.0f} s")

    def _attend(self, process: subprocess.Popen[bytes], identity: tuple[object, ...]) -> str | None:
        """Wait until *process* ends or must; why, or None where that is as it should be."""
        library = Library(self._directory)
        descriptor = os.pidfd_open(process.pid)
        try:
            while not _ends(descriptor, LOOK_SECONDS):
                if self._identity() != identity:  # it may be gone, in the middle of an upgrade
                    process.send_signal(signal.SIGTERM)  # what it has in hand may finish
                    _ends(descriptor, FINISH_SECONDS)
                    return None
                if not library.answers():
                    return "it does not answer"
        finally:
            os.close(descriptor)
        code = process.wait()
        return f"it ended with {code}" if code else None


def _ends(descriptor: int, seconds: float) -> bool:
    """Whether a process, by its descriptor, ends within *seconds*. Waits without waking up."""
    return bool(select.select([descriptor], [], [], seconds)[0])


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for what was asked to end; its calls die with it."""
    if process.stdout is not None:
        process.stdout.close()
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.wait()
