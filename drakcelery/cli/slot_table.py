"""Slots on a terminal: a line for each, and below the table what does not fit into a column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from drakcelery.host.health import UNWELL
from drakcelery.model.records import HostStatus, SlotStatus
from drakcelery.model.text import clean
from drakcelery.operators.fleet_views import slot_text
from drakcelery.operators.views import duration, safe

LONG = 300
"""Most characters of a text below the table."""
SHORT = ("good", "due", "not judged")
"""The results that fit into a canary's column."""


def slots_view(hosts: Iterable[HostStatus], *, now: float) -> RenderableType:
    """A line for each slot of each host that is alive, and why some are not well."""
    table = _table("HOST", "SLOT", "PROFILE", "STATE", "SINCE", "SCORE", "ANALYSIS", "ENGINE")
    notes: list[Text] = []
    for host in hosts:
        for slot in host.slots:
            table.add_row(
                safe(host.host),
                safe(slot.name),
                safe(slot.profile),
                slot_text(slot, host.halted),
                duration(now - slot.since),
                Text("-" if slot.score is None else f"{slot.score:.2f}", style=_style(slot)),
                safe(slot.uid or "-"),
                safe(host.engine),
            )
            notes += _notes(host.host, slot)
    return _with_notes(table, notes)


def canaries_view(found: Iterable[tuple[str, SlotStatus, str | None]], *, now: float) -> RenderableType:
    """A line for each slot, with its host and the result of its last canary."""
    table = _table("HOST", "SLOT", "PROFILE", "STATE", "AGO", "CANARY")
    notes: list[Text] = []
    for host, slot, words in found:
        short = "-" if words is None else next((one for one in SHORT if words.startswith(one)), "bad")
        style = {"good": "green", "bad": "red", "-": ""}.get(short, "yellow")
        table.add_row(
            safe(host),
            safe(slot.name),
            safe(slot.profile),
            slot_text(slot),
            "-" if slot.canary.at is None else duration(now - slot.canary.at),
            Text(short, style=style),
        )
        if words is not None and words != short:
            notes.append(_note(host, slot, words, style))
    return _with_notes(table, notes)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    return table


def _notes(host: str, slot: SlotStatus) -> Iterator[Text]:
    if slot.reasons:
        yield _note(host, slot, "; ".join(slot.reasons), _style(slot))
    if slot.canary.trouble:
        yield _note(host, slot, f"canary: {slot.canary.trouble}", "red")


def _note(host: str, slot: SlotStatus, words: str, style: str) -> Text:
    return Text.assemble(f"{clean(host)}/{clean(slot.name)}: ", (clean(words, LONG), style))


def _style(slot: SlotStatus) -> str:
    if slot.score is None or not slot.reasons:
        return ""
    return "red" if slot.score <= UNWELL else "yellow"


def _with_notes(table: Table, notes: list[Text]) -> RenderableType:
    return Group(table, "", *notes) if notes else table
