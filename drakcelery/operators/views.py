"""How records, slots and artifacts look on a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from rich.console import RenderableType
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from drakcelery.forecast.simulation import Estimate, Range
from drakcelery.ledger.outbox import Dead, OutboxCounts
from drakcelery.ledger.quarantine import Entry
from drakcelery.model.analysis import Analysis, State
from drakcelery.model.records import Record
from drakcelery.model.text import SHOWN, clean
from drakcelery.operators import output
from drakcelery.operators.result_lines import link_lines, result_lines, reuse_lines

_MOST_SECONDS = 1e11
"""Larger numbers are no times of ours."""
_STYLES = {
    State.PUBLISHED: "green",
    State.FAILED: "red",
    State.CANCELLED: "magenta",
    State.RUNNING: "yellow",
}
_PROGRESS = (State.QUEUED, State.PREPARING, State.RUNNING, State.COLLECTING, State.UPLOADING, State.PUBLISHED)


MINUTES = len("2026-01-31 23:59")
"""Characters of a time in a list."""
SPARE = ("SLOT", "EXPECTED", "TOOK", "RECEIVED (UTC)")
"""What a list of analyses does without where a terminal is narrow, the first at first."""
SHORT = 8
"""Characters of a uid where there is no room for more: any command takes them."""
console = output.console


def state_text(state: State) -> Text:
    """The state, coloured."""
    return Text(state.value, style=_STYLES.get(state, "cyan"))


def safe(text: str, limit: int = SHOWN) -> str:
    """Any text for a table, which reads markup: cleaned, bounded, and shown as it is."""
    return escape(clean(text, limit))


def moment(seconds: float) -> str:
    """A UNIX time in UTC."""
    if not 0 <= seconds < _MOST_SECONDS:
        return "-"
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    if not seconds < _MOST_SECONDS:
        return "-"
    whole = max(0, int(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def records_table(
    records: Iterable[Record],
    *,
    now: float | None = None,
    estimates: Mapping[str, Estimate] | None = None,
    width: int = output.PIPE_WIDTH,
) -> Table:
    """A line for each analysis; *estimates* by uid, of those that are not over. In *width* columns."""
    now = time.time() if now is None else now
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("UID", no_wrap=True, min_width=36)
    table.add_column("STATE", no_wrap=True, min_width=9)
    table.add_column("RECEIVED (UTC)", no_wrap=True)
    table.add_column("TOOK", no_wrap=True, min_width=4)
    table.add_column("EXPECTED", no_wrap=True)
    table.add_column("SLOT", no_wrap=True, overflow="ellipsis")
    table.add_column("SAMPLE", no_wrap=True, overflow="ellipsis")
    for record in records:
        took = (record.finished or now) - record.received
        table.add_row(
            safe(record.uid),
            state_text(record.state),
            moment(record.received)[:MINUTES],
            duration(took),
            expected((estimates or {}).get(record.uid), now),
            safe(_where(record)),
            escape(_sample(record)),
        )
    return output.fitted(table, width, spare=SPARE)


def expected(estimate: Estimate | None, now: float) -> str:
    """What is to be expected next: ``start in 2:10-4:00``, and once it has started ``over in 0:30-1:10``."""
    if estimate is None:
        return "-"
    what, when = ("over", estimate.finish) if estimate.start is None else ("start", estimate.start)
    return f"{what} in {span(when, now)}"


def span(when: Range, now: float) -> str:
    """``2:10-4:00`` from *now* on."""
    low, high = duration(when.low - now), duration(when.high - now)
    return low if low == high else f"{low}-{high}"


def add_estimate(table: Table, estimate: Estimate, now: float) -> None:
    """Rows for what is to be expected."""
    basis = f"by {estimate.learned} analyses of its profile" if estimate.learned else "a guess"
    if estimate.start is not None:
        table.add_row("should start", _prospect(estimate.start, now))
    table.add_row("should be over", f"{_prospect(estimate.finish, now)}, {basis}")


def _prospect(when: Range, now: float) -> str:
    return f"in {span(when, now)}, about {moment(when.middle)} UTC"


def outbox_lines(counts: OutboxCounts, dead: Iterable[Dead]) -> Iterator[str]:
    """What an operator should know about the webhook; nothing if all is well."""
    if counts.waiting:
        yield f"{counts.waiting} notifications wait to be sent."
    if counts.dropped:
        yield f"{counts.dropped} notifications were dropped: too many waited already."
    if counts.given_up:
        last = "".join(f" The last was of {one.uid}: {clean(one.error, 120)}." for one in dead)
        yield f"{counts.given_up} notifications were given up.{last}"


def _sample(record: Record) -> str:
    return clean(record.sample.name, 60) if record.sample else "(refused)"


def _where(record: Record) -> str:
    if record.reused_from is not None:
        return "reused"
    return f"{record.host}/{record.slot}" if record.host and record.slot else (record.host or "-")


def record_view(
    record: Record,
    *,
    now: float | None = None,
    estimate: Estimate | None = None,
    looks: Iterable[Record] = (),
) -> RenderableType:
    """One analysis, in full; *looks*: its second looks that have a record."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("analysis", safe(record.uid))
    table.add_row("state", state_text(record.state))
    table.add_row("Karton task", safe(record.task_uid))
    table.add_row("root", safe(record.root_uid))
    if record.sample is not None:
        size = "size unknown" if record.sample.size is None else decimal(record.sample.size)
        table.add_row("sample", escape(f"{clean(record.sample.name, 80)} ({size})"))
        table.add_row("sha256", safe(record.sample.sha256 or "-"))
    if record.analysis is not None:
        _add_conditions(table, record.analysis)
    table.add_row("attempts", str(record.attempts))
    table.add_row("where", safe(_where(record)))
    table.add_row("received", f"{moment(record.received)} UTC")
    for state, entered in sorted(record.entered.items(), key=lambda item: item[1]):
        table.add_row(state.value.lower(), f"{moment(entered)} UTC")
    if estimate is not None:
        add_estimate(table, estimate, time.time() if now is None else now)
    if record.finished is not None:
        table.add_row(
            "over", f"{moment(record.finished)} UTC, after {duration(record.finished - record.received)}"
        )
    if record.refusal:
        table.add_row("refused", Text(clean(record.refusal), style="red"))
    for failure in record.failures:
        table.add_row("failed", Text(clean(failure.sentence()), style="red"))
    _add_result(table, record)
    for name, words in link_lines(record, looks):
        table.add_row(name, safe(words))
    return table


def _add_conditions(table: Table, ours: Analysis) -> None:
    table.add_row("magic", safe(ours.magic))
    table.add_row("runs as", safe(f"{ours.file_name}.{ours.extension} for at most {ours.longest} s"))
    if wishes := _wishes(ours):
        table.add_row("asked for", safe("; ".join(wishes)))
    table.add_row("priority", ours.priority.value)
    table.add_row("plugins", safe(", ".join(ours.plugins)) or "none")


def _add_result(table: Table, record: Record) -> None:
    for name, words in (*result_lines(record.result), *reuse_lines(record.analysis)):
        table.add_row(name, Text(words))
    if record.analysis_task_uid:
        table.add_row("published as", safe(record.analysis_task_uid))


def _wishes(analysis: Analysis) -> list[str]:
    """How the task wants the sample run, if it says so."""
    network = {True: "a guest that reaches the Internet", False: "a guest off the Internet", None: None}
    wishes = (
        analysis.start_command and f"command {analysis.start_command}",
        analysis.start_method and f"start method {analysis.start_method}",
        analysis.guest_working_directory and f"working directory {analysis.guest_working_directory}",
        network[analysis.net_enable],
    )
    return [wish for wish in wishes if wish]


def quarantine_table(entries: Iterable[Entry], *, now: float) -> Table:
    """The items in quarantine, whose content is untrusted."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("UID", overflow="fold")
    table.add_column("WHERE", no_wrap=True)
    table.add_column("TRIES", justify="right")
    table.add_column("SINCE", justify="right", no_wrap=True)
    table.add_column("NEXT", justify="right", no_wrap=True)
    table.add_column("ERROR", overflow="fold")
    for one in entries:
        following = duration(one.next - now) if one.next > now else "now"
        table.add_row(
            safe(one.uid),
            safe(one.where),
            str(one.count),
            duration(now - one.first),
            following,
            safe(one.error, 300),
        )
    return table


def quarantine_lines(counts: Mapping[str, int]) -> list[str]:
    """What stands below the analyses while something is in quarantine."""
    if not counts:
        return []
    places = ", ".join(f"{clean(where)} {count}" for where, count in sorted(counts.items()))
    return [f"In quarantine: {sum(counts.values())} ({places}); see `drakcelery isolated list`."]


def files_table(files: Iterable[Path]) -> Table:
    """Names and sizes of downloaded artifacts."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ARTIFACT")
    table.add_column("SIZE", justify="right")
    for path in sorted(files):
        table.add_row(path.name, decimal(path.stat().st_size))
    return table


def progress(record: Record | None, twin: str | None = None) -> Text:
    """How far an analysis has come: a bar and its state. *twin*: the analysis whose result it waits for."""
    if record is None and twin is not None:
        return Text(f"waits for {clean(twin)[:SHORT]}", style="dim")
    if record is None:
        return Text("waiting in Karton", style="dim")
    if record.state not in _PROGRESS:
        return state_text(record.state)
    done = _PROGRESS.index(record.state)
    bar = "".join("█" if index <= done else "░" for index in range(len(_PROGRESS)))
    return Text.assemble((bar, "cyan"), " ", state_text(record.state))


def progress_line(record: Record | None) -> Text:
    """The line for one change while a user waits. Whoever ends the waiting says why an analysis failed."""
    line = progress(record)
    if record is None or record.state not in _PROGRESS:
        return line
    again = f" (attempt {record.attempts}: {clean(record.error or '', 120)})" if record.attempts > 1 else ""
    where = f" on {_where(record)}" if record.host else ""
    return Text.assemble(line, where, again)
