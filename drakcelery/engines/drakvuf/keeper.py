"""Keeps :mod:`.resident` running in drakrun's own interpreter, as long as the vm worker's main process lives.

The socket is made here and passed on, so that calls wait while one resident follows another. If drakrun's
library cannot be used, there is no socket, and every call is made by the command at once.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import structlog

from drakcelery import safe_files
from drakcelery.engines.drakvuf.library import SOCKET, Library, reached
from drakcelery.engines.drakvuf.residence import NoLibrary, Residence, end
from drakcelery.engines.drakvuf.tool_output import PRINTED_BYTES, end_of, readable
from drakcelery.engines.drakvuf.tools import Tools
from drakcelery.errors import EngineError

if TYPE_CHECKING:
    from drakcelery.settings import DrakvufSection

log = structlog.get_logger(__name__)

LOOK_SECONDS = 10.0
"""Seconds between two checks whether the resident answers, and whether another drakrun was installed."""
DEATHS = 3
"""After so many deaths in :data:`DEATHS_SECONDS` no resident is started for a while."""
DEATHS_SECONDS = 60.0
PAUSE_SECONDS = 300.0
FINISH_SECONDS = 30.0
"""Seconds that calls in hand may take after another drakrun was installed."""
BACKLOG = 64


class Keeper:
    """Starts a resident, checks that it answers, and starts another if it does not."""

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
        """Wait until another drakrun is installed, but not for long, since the trouble may pass."""
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
                path.unlink(missing_ok=True)  # first, so that new calls use the command

    def _serve(self, listener: socket.socket) -> None:
        """Keep one resident until it ends. Raises :class:`NoLibrary` if another would not do better."""
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
                why = self._attend(process, identity, errors)
            finally:
                end(process)
            if why is None or self._stopping.is_set():
                return
            log.warning("library_lost", reason=why, stderr=list(readable(end_of(errors))))
        self._deaths.append(time.monotonic())
        if len(self._deaths) == DEATHS and time.monotonic() - self._deaths[0] < DEATHS_SECONDS:
            self._deaths.clear()
            raise NoLibrary(f"it ended {DEATHS} times in {DEATHS_SECONDS:.0f} s")

    def _attend(
        self, process: subprocess.Popen[bytes], identity: tuple[object, ...], errors: IO[bytes]
    ) -> str | None:
        """Wait until *process*, which prints to *errors*, ends or must; why, or None if that is as it should
        be."""
        library = Library(self._directory)
        descriptor = os.pidfd_open(process.pid)
        try:
            while not _ends(descriptor, LOOK_SECONDS):
                is_full = os.fstat(errors.fileno()).st_size > PRINTED_BYTES
                if is_full or self._identity() != identity:  # it may be gone, in the middle of an upgrade
                    process.send_signal(signal.SIGTERM)  # what it has in hand may finish
                    _ends(descriptor, FINISH_SECONDS)
                    return f"it had printed more than {PRINTED_BYTES // 1024**2} MiB" if is_full else None
                if not library.answers():
                    return "it does not answer"
        finally:
            os.close(descriptor)
        code = process.wait()
        return f"it ended with {code}" if code else None


def _ends(descriptor: int, seconds: float) -> bool:
    """Whether a process, by its descriptor, ends within *seconds*. Waits without waking up."""
    return bool(select.select([descriptor], [], [], seconds)[0])
