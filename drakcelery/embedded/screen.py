"""What `drakcelery up` shows on a terminal: where everything is, and what runs, stays; the rest scrolls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from drakcelery.embedded.changes import Changes
from drakcelery.embedded.lines import News, Quiet, head, problem_line, record_line, starting
from drakcelery.embedded.problems import problem
from drakcelery.model.analysis import State
from drakcelery.settings import Settings
from drakcelery.wiring import make_ledger

LEAST = 3
"""Analyses that are shown, however small the terminal is."""
FIRST = 2
"""Lines on where everything is that are shown then: that it is up, and the Fleet page."""
SPARE = 3
"""Rows for a blank line, for how many analyses there are more, and for the cursor."""


class Screen:
    """An :class:`~drakcelery.embedded.onlooker.Onlooker` for a terminal; a block holds the terminal."""

    def __init__(self, console: Console, data_dir: Path) -> None:
        self._console = console
        self._data_dir = data_dir
        self._head: list[str] = []
        self._foot = "Starting …"
        self._news: News | None = None
        self._quiet = Quiet()
        self._live = Live(self._frame(), console=console, auto_refresh=False, vertical_overflow="crop")

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._live.stop()

    def hears(self, process: str, line: str) -> None:
        """Tell of a problem, above what stays."""
        told = problem(process, line, starting=not self._head)
        if told is not None and self._quiet.lets_pass(told):
            self._console.print(problem_line(told), soft_wrap=False)

    def waits_for(self, processes: Sequence[str]) -> None:
        """Show what is missing yet."""
        self._show(starting(processes))

    def is_up(self, config: Settings, addresses: Mapping[str, str]) -> None:
        """Show where everything is."""
        self._head = head(config, addresses, self._data_dir)
        self._news = News(Changes(make_ledger(config)))
        self.looks()

    def looks(self) -> None:
        """Show what runs; what has ended becomes a line above."""
        if self._news is None or not self._news.is_due:
            return
        for record in self._news.read():
            if record.state.is_over:
                self._console.print(record_line(record))
        self._show(_summary(self._news.changes))

    def stops(self) -> None:
        """Say so: it may take some seconds."""
        self._news = None
        self._show("Stopping …")

    def _show(self, foot: str) -> None:
        self._foot = foot
        self._live.update(self._frame(), refresh=True)

    def _frame(self) -> RenderableType:
        foot = Text(self._foot, style="dim")
        parts: list[Text] = []
        if self._head:
            parts = [*self._places(self._console.height - self._rows(foot) - LEAST - SPARE), Text("")]
        if self._news is not None:
            room = self._console.height - self._rows(*parts, foot) - SPARE + 1
            parts += self._running(self._news.changes, max(LEAST, room))
        return Group(*parts, foot)

    def _places(self, room: int) -> list[Text]:
        """Where everything is: the first lines, as far as there is room; two at least."""
        first, *rest = self._head
        places = [Text(first, style="bold green"), *(_whole(line) for line in rest)]
        while len(places) > FIRST and self._rows(*places) > room:
            places.pop()
        return places

    def _rows(self, *parts: Text) -> int:
        """How many rows of the terminal they take."""
        return sum(len(self._console.render_lines(part, pad=False)) for part in parts)

    def _running(self, changes: Changes, room: int) -> list[Text]:
        """A line for each analysis that is under way, as far as there is room."""
        shown = [_on_a_line(record_line(record)) for record in changes.live[:room]]
        more = len(changes.live) - len(shown)
        return [*shown, *([Text(f"… and {more} more", style="dim")] if more else [])]


def _whole(line: str) -> Text:
    """A line that is wrapped: an address that is cut is none."""
    return Text(line, overflow="fold")


def _on_a_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _summary(changes: Changes) -> str:
    """How many analyses there are, and how to stop."""
    counts = [
        f"{len(changes.live)} under way",
        *([f"{changes.waiting} waiting in Karton"] if changes.waiting else []),
        *(f"{changes.ended[state]} {state.value.lower()}" for state in State if changes.ended[state]),
    ]
    return f"{', '.join(counts)}. Ctrl-C stops it."
