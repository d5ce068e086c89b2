"""What `drakcelery up` says, line by line: on no terminal, and into the log of a stack in the background."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.text import Text

from drakcelery.embedded.changes import Changes
from drakcelery.embedded.problems import PROCESSES, Problem, problem
from drakcelery.embedded.typed import command, option
from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from drakcelery.model.text import clean
from drakcelery.operators import views
from drakcelery.settings import Settings
from drakcelery.wiring import make_ledger

LOOK_SECONDS = 0.5
"""Seconds between two looks into the ledger."""
QUIET_SECONDS = 60.0
"""Seconds for which a problem is not told again."""
UID = 8
"""Characters of a uid; every command takes them for the whole."""
TOLD = (State.QUEUED, State.RUNNING)
"""States that are worth a line of their own where lines stay, besides the end of an analysis."""


class Lines:
    """An :class:`~drakcelery.embedded.onlooker.Onlooker` that says what happens in lines."""

    def __init__(
        self, write: Callable[[str], object], data_dir: Path, *, only_addresses: bool = False
    ) -> None:
        """*write* one line. *only_addresses*: the processes' own lines are there for the rest."""
        self._write = write
        self._data_dir = data_dir
        self._only_addresses = only_addresses
        self._starting = True
        self._news: News | None = None
        self._quiet = Quiet()

    def hears(self, process: str, line: str) -> None:
        """Tell of a problem."""
        told = None if self._only_addresses else problem(process, line, starting=self._starting)
        if told is not None and self._quiet.lets_pass(told):
            self._write(problem_line(told).plain)

    def waits_for(self, processes: Sequence[str]) -> None:
        """Nothing: it takes some seconds."""

    def is_up(self, config: Settings, addresses: Mapping[str, str]) -> None:
        """Tell where everything is."""
        self._starting = False
        stops = f"Ctrl-C, or {command('down', self._data_dir)}, stops it."
        for line in (*head(config, addresses, self._data_dir), stops):
            self._write(line)
        if not self._only_addresses:
            self._news = News(Changes(make_ledger(config)))

    def looks(self) -> None:
        """Tell of analyses that have begun, run or ended."""
        for record in self._news.read() if self._news is not None else ():
            if record.state in TOLD or record.state.is_over:
                self._write(record_line(record).plain)

    def stops(self) -> None:
        """Tell so: it may take some seconds."""
        self._write("Stopping …")


class News:
    """The changes in the ledger, at most every :data:`LOOK_SECONDS`."""

    def __init__(self, changes: Changes) -> None:
        self.changes = changes
        self._looked = 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time to look."""
        return time.monotonic() - self._looked >= LOOK_SECONDS

    def read(self) -> list[Record]:
        """The analyses that have changed; none if it looked just now."""
        if not self.is_due:
            return []
        self._looked = time.monotonic()
        return self.changes.read()


class Quiet:
    """Keeps a problem that goes on from being told again and again."""

    def __init__(self) -> None:
        self._told: dict[Problem, float] = {}

    def lets_pass(self, told: Problem) -> bool:
        """Whether it was not told within the last :data:`QUIET_SECONDS`."""
        now = time.monotonic()
        self._told = {one: at for one, at in self._told.items() if now - at < QUIET_SECONDS}
        return self._told.setdefault(told, now) == now


def head(config: Settings, addresses: Mapping[str, str], data_dir: Path) -> list[str]:
    """That the stack is up, what it has, and where all is."""
    many = len(config.slots)
    slots = f"{many} slot{'s' if many > 1 else ''} of the {config.engine} engine"
    first = f"drakcelery submit FILE --wait{option(data_dir)}"
    rows = {**addresses, "Data": str(data_dir), "Logs": str(data_dir / "log"), "Try": first}
    width = max(map(len, rows))
    return [f"drakcelery is up: {slots}.", *(f"  {name:{width}}  {value}" for name, value in rows.items())]


def starting(processes: Sequence[str]) -> str:
    """What a stack that starts waits for."""
    return f"Starting … waiting for {', '.join(PROCESSES.get(name, name) for name in processes)}"


def record_line(record: Record) -> Text:
    """An analysis, as it is now."""
    at = record.finished or record.entered.get(record.state, record.updated)
    name = clean(record.sample.name, 60) if record.sample else "a task without a sample"
    return Text.assemble(
        (views.moment(at)[11:], "dim"),
        f"  {clean(record.uid[:UID])}  ",
        views.state_text(record.state),
        " " * (len(State.COLLECTING) - len(record.state.value)),
        f" {name}{_remark(record)}",
    )


def _remark(record: Record) -> str:
    """What is special about an analysis."""
    if record.state is State.PUBLISHED:
        return f"  in {views.duration((record.finished or 0) - record.received)}"
    if record.state.is_over:
        return f": {clean(record.error)}" if record.error else ""
    where = f"  on {record.slot}" if record.slot else ""
    again = f"  attempt {record.attempts}, after: {clean(record.error)}" if record.attempts > 1 else ""
    return f"{where}{again}"


def problem_line(told: Problem) -> Text:
    """A problem, with the time."""
    return Text.assemble((views.moment(time.time())[11:], "dim"), ("  !  ", "bold red"), str(told))
