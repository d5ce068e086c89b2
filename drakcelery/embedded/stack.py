"""The whole embedded stack: servers, configuration and the Procfile's processes, below one directory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO

import structlog

from drakcelery import settings
from drakcelery.embedded import configuration, directory, lock, state
from drakcelery.embedded.configuration import Overrides
from drakcelery.embedded.formation import Ended, Formation, read_procfile
from drakcelery.embedded.layout import home
from drakcelery.embedded.onlooker import Onlooker
from drakcelery.embedded.readiness import READY_SECONDS, Readiness
from drakcelery.embedded.services import Services
from drakcelery.embedded.supervision import GRACE, MARK, end_marked, tail
from drakcelery.embedded.typed import command
from drakcelery.errors import StackError

log = structlog.get_logger(__name__)

_AGAIN = "starts everything again, and what was under way goes on"
_LOOK_SECONDS = 0.2
"""Seconds between two looks at the servers and processes."""


class Stack:
    """The embedded stack of *data_dir*.

    Args:
        data_dir: holds all data, logs, ports and credentials; made where it is missing.
        slots: profile by slot name; None for one slot.
        overrides: further settings, by section and key.
        procfile: another Procfile than the one that comes with drakcelery.
        terminal: where the processes' output goes beside their log files; None for nowhere.
        onlooker: is told what happens; None for nobody.
        grace: see :data:`~drakcelery.embedded.supervision.GRACE`.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        slots: Mapping[str, str] | None = None,
        overrides: Overrides | None = None,
        procfile: Path | None = None,
        terminal: TextIO | None = None,
        onlooker: Onlooker | None = None,
        grace: float = GRACE,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self._slots = slots
        self._overrides = overrides or {}
        self._procfile = procfile
        self._terminal = terminal
        self._onlooker = onlooker
        self._grace = grace
        self._services = Services(self.data_dir)
        self._again = f"{command('up', self.data_dir)} {_AGAIN}"

    def run(self) -> None:
        """Run the stack until SIGINT, SIGTERM or SIGHUP, then bring it down; call from the main thread.

        It is up, and says so, once a sample that is pushed is sure to be analysed; with another Procfile,
        once its processes are started.

        Raises:
            StackError: a stack runs in this directory already, the directory cannot be used, a server or a
                process does not come up, or ended by itself. Nothing is left running.
            SettingsError: an override is wrong.
        """
        commands = read_procfile(self._procfile or home() / "Procfile")
        directory.prepare(self.data_dir)
        mark = str(self.data_dir)
        with lock.held(self.data_dir), contextlib.suppress(_Interrupted), _interruptible():
            end_marked(mark, grace=0)  # of a stack that was killed, keeper and all
            with _uninterrupted_end(lambda: self._clear(mark)):
                self._services.start()
                config = configuration.write(self._services, slots=self._slots, overrides=self._overrides)
                formation = self._formation(commands, config, mark)
                keeper = self._start_keeper(mark)
                with _uninterrupted_end(lambda: self._end(formation, keeper)):
                    readiness = Readiness(config, {} if self._procfile else commands)
                    readiness.begin()
                    formation.start()
                    self._wait_ready(formation, readiness)
                    state.write(self.data_dir, addresses(config))
                    if self._onlooker is not None:
                        self._onlooker.is_up(config, addresses(config))
                    while True:
                        self._watch(formation)

    def _clear(self, mark: str) -> None:
        end_marked(mark, grace=0)
        self._services.stop()

    def _formation(self, commands: Mapping[str, str], config: settings.Settings, mark: str) -> Formation:
        left_out = {"system"} if config.drakmon.system_disable else set()
        return Formation(
            {name: command for name, command in commands.items() if name not in left_out},
            environment=_environment(self.data_dir / configuration.NAME, mark),
            logs=self.data_dir / "log",
            terminal=self._terminal,
            heard=self._onlooker.hears if self._onlooker is not None else None,
            mark=mark,
        )

    def _start_keeper(self, mark: str) -> subprocess.Popen[bytes]:
        """The keeper has no mark and does not die with us: it must outlive us to do its work."""
        with (self.data_dir / "log" / "keeper.log").open("wb") as output:
            return subprocess.Popen(
                (sys.executable, "-m", "drakcelery.embedded.keeper", str(os.getpid()), mark),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_ready(self, formation: Formation, readiness: Readiness) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while lacking := readiness.lacking():
            if time.monotonic() > deadline:
                output = tail(self.data_dir / "log" / f"{lacking[0]}.log")
                raise StackError(f"{', '.join(lacking)}: not ready within {READY_SECONDS:.0f} s{output}")
            if self._onlooker is not None:
                self._onlooker.waits_for(lacking)
            self._watch(formation)

    def _watch(self, formation: Formation) -> None:
        """Look at the servers and processes, and let the onlooker look. Raises :class:`StackError`."""
        if (ended := formation.watch(seconds=_LOOK_SECONDS)) is not None:
            raise StackError(self._sentence(ended))
        if (server := self._services.ended()) is not None:
            raise StackError(f"{server.name} ended by itself. {self._again}{tail(server.log)}")
        if self._onlooker is not None:
            self._onlooker.looks()

    def _sentence(self, ended: Ended) -> str:
        how = f"with status {ended.status}" if ended.status >= 0 else f"by signal {-ended.status}"
        output = tail(self.data_dir / "log" / f"{ended.name}.log")
        return f"the process {ended.name} ended by itself, {how}. {self._again}{output}"

    def _end(self, formation: Formation, keeper: subprocess.Popen[bytes]) -> None:
        state.remove(self.data_dir)
        log.info("stack_stopping", data_dir=str(self.data_dir))
        if self._onlooker is not None:
            self._onlooker.stops()
        formation.stop(grace=self._grace)
        keeper.terminate()
        keeper.wait()


def addresses(config: settings.Settings) -> dict[str, str]:
    """Where the stack answers, by name, what people want first; no credentials."""
    flower = f"http://{config.flower.address}:{config.flower.port}"
    return {
        "Fleet": f"{flower}/fleet",
        "Flower": flower,
        "S3": config.s3.address,
        "Redis": f"{config.redis.host}:{config.redis.port}",
    }


def _environment(config: Path, mark: str) -> dict[str, str]:
    """The processes' environment: ours, this interpreter's programs first, and the stack's file."""
    programs = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": os.pathsep.join((programs, os.environ.get("PATH", os.defpath))),
        "PYTHONUNBUFFERED": "1",
        settings.CONFIG_VARIABLE: str(config),
        MARK: mark,
    }


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Interrupted(BaseException):
    """A signal came. Like KeyboardInterrupt, it must not be handled as an error on the way."""


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _Interrupted


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """The signals that end a stack raise :class:`_Interrupted` inside; after it they are as before."""
    before = {number: signal.signal(number, _interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _uninterrupted_end(end: Callable[[], None]) -> Iterator[None]:
    """Call *end* after the block, however that ends; from then on, signals no longer interrupt."""
    try:
        yield
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        end()
