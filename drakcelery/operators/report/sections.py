"""The page about a report: what it says, in the order in which an analyst asks. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TypeVar

from drakcelery.behaviour.report import Report, Seen
from drakcelery.model.clues import CLUE_WORDS
from drakcelery.model.metadata import CapaRun
from drakcelery.operators.report import lists
from drakcelery.operators.report.document import Document, Entry, Fact, Part, Section
from drakcelery.operators.report.processes import Cast
from drakcelery.operators.report.values import LONG, LONGEST, shown, shown_host
from drakcelery.operators.views import duration, moment

MOST = 30
"""Lines of a list, unless everything is asked for."""
MOST_PROCESSES = 60
_LEFT_OUT = {
    "log_bytes": "bytes at the end of the log were not read",
    "log_lines": "lines of the log are no plugin's, or too long: they are in parse_errors.log",
    "indicators": "indicators are left out",
    "traffic_bytes": "bytes of traffic after the first packets were not read",
    "process_tree.json": "processes are too deep for process_tree.json",
    "command_lines": "command lines are not kept",
}
S = TypeVar("S", bound=Seen)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How much is shown."""

    everything: bool
    """Whole lists, and longer values."""
    windows: bool
    """What only Windows did as well."""

    @property
    def limit(self) -> int:
        """Characters of a value."""
        return LONGEST if self.everything else LONG

    def most(self, lines: int) -> int | None:
        """Lines of a list that has *lines* usually."""
        return None if self.everything else lines


def document(report: Report, *, everything: bool = False) -> Document:
    """What *report* says."""
    cast = Cast(report)
    choice = Choice(everything=everything, windows=everything or not cast.own)
    made = list(_Maker(report, cast, choice).sections())
    return Document(
        title=Part(shown(report.sample.name)),
        facts=tuple(_facts(report)),
        ending=ending(report),
        sections=tuple(one for one in made if one.count),
        notes=tuple(_notes(report, cast, made, choice)),
    )


def ending(report: Report) -> Part:
    """How it ended, which is an alert if the lists cannot be trusted to be whole."""
    whole = report.ending.observed in ("activity", "nothing") and report.ending.complete is not False
    return Part(shown(report.ending.summary, LONGEST), "words" if whole else "alert")


def _facts(report: Report) -> Iterator[Fact]:
    run = report.run
    yield Fact(name="analysis", parts=(Part(shown(report.analysis_uid)),))
    if report.retry_of is not None:
        yield Fact(name="retry of", parts=(Part(shown(report.retry_of)),))
    if report.reused_from is not None:
        yield Fact(
            name="reused from", parts=(Part(shown(report.reused_from)), Part("no run of its own", "words"))
        )
    if report.variant_of is not None:
        yield Fact(name="second look at", parts=(Part(shown(report.variant_of)),))
    yield Fact(name="sha256", parts=(Part(shown(report.sample.sha256)),))
    yield Fact(name="file type", parts=(Part(shown(report.sample.magic)),))
    yield Fact(name="command", parts=(Part(shown(run.start_command)),))
    where = Part(f"{shown(run.host)}/{shown(run.slot)}", label="on")
    took = f"{duration(run.finished - run.started)} of at most {duration(run.timeout)}"
    network = "guest may reach the Internet" if run.net_enable else "guest off the Internet"
    words = (f"{moment(run.started)} UTC", took, network)
    yield Fact(name="run", parts=(Part(shown(run.engine)), where, *(Part(one, "words") for one in words)))
    if report.ending.windows_error is not None:
        yield Fact(name="Windows", parts=(Part(f"error {report.ending.windows_error}", "alert"),))
    yield from clue_facts(report)


def clue_facts(report: Report) -> Iterator[Fact]:
    """What looks like evasion, with what was seen of it."""
    for clue in report.clues:
        evidence = (Part(shown(one)) for one in clue.evidence)
        yield Fact(name="clue", parts=(Part(CLUE_WORDS[clue.kind], "words"), *evidence))


class _Maker:
    """Makes the lists."""

    def __init__(self, report: Report, cast: Cast, choice: Choice) -> None:
        self._report, self._cast, self._choice = report, cast, choice

    def sections(self) -> Iterator[Section]:
        """All of them, empty ones too."""
        report, cast, limit = self._report, self._cast, self._choice.limit
        listed = set(cast.all) if self._choice.windows else cast.with_ancestors(cast.own)
        yield self._section(
            "Processes", cast.tree(listed, limit), len(listed), most=MOST_PROCESSES, is_tree=True
        )
        if report.capa is not None and report.capa.failure is None:
            yield self._of(
                "Capabilities", report.capabilities, lists.capability, first=lambda one: bool(one.attack)
            )
        yield self._of("Injections", report.injections, lambda one: lists.injection(one, cast))
        telling = lists.is_telling
        yield self._of("Files", report.files, lambda one: lists.file(one, limit), first=telling)
        yield self._of("Registry", report.registry, lambda one: lists.value(one, limit), first=telling)
        yield self._of("Services", report.services, lambda one: lists.service(one, limit))
        yield self._of("Scheduled tasks", report.tasks, lambda one: lists.task(one, limit))
        yield self._of("Mutexes", report.mutexes, lambda one: iter((Part(shown(one.name, limit)),)))
        yield self._of("WMI", report.wmi, lambda one: lists.wmi(one, limit))
        yield self._network()
        yield self._indicators()
        yield self._of("Memory dumps", report.dumps, lists.dump)
        calls = lists.by_category(self._wanted(report.calls))
        yield self._section("Key calls", (lists.calls(*one) for one in calls.items()), len(calls))

    def _is_wanted(self, one: Seen) -> bool:
        return self._choice.windows or self._cast.is_own(one)

    def _wanted(self, rows: Sequence[S]) -> list[S]:
        return [one for one in rows if self._is_wanted(one)]

    def _lines(self, rows: Iterable[S], parts: Callable[[S], Iterable[Part]]) -> Iterator[Entry]:
        """A line for each of *rows*."""
        return (Entry((*parts(one), *self._cast.did(one))) for one in rows)

    def _of(
        self,
        title: str,
        rows: Sequence[S],
        parts: Callable[[S], Iterable[Part]],
        *,
        first: Callable[[S], bool] | None = None,
    ) -> Section:
        """A line for each of *rows* that is wanted; those that are to be *first* before the others."""
        wanted = self._wanted(rows)
        if first is not None:
            wanted.sort(key=lambda one: not first(one))
        return self._section(title, self._lines(wanted, parts), len(wanted))

    def _section(
        self, title: str, entries: Iterable[Entry], total: int, *, most: int = MOST, is_tree: bool = False
    ) -> Section:
        """Of *total* entries those that are shown; only these are made."""
        made = tuple(islice(entries, self._choice.most(most)))
        return Section(title=title, entries=made, more=total - len(made), is_tree=is_tree)

    def _network(self) -> Section:
        found = self._report.network
        names, connections = self._wanted(found.names), self._wanted(found.connections)
        requests, tls = self._wanted(found.http), self._wanted(found.tls)
        lines = chain(
            self._lines(names, lists.host_name),
            self._lines(connections, lists.connection),
            self._lines(requests, lambda one: lists.request(one, self._choice.limit)),
            self._lines(tls, lists.tls_name),
        )
        return self._section("Network", lines, len(names) + len(connections) + len(requests) + len(tls))

    def _indicators(self) -> Section:
        """Each kind is cut on its own: a thousand addresses hide no hash."""
        found = self._report.indicators
        kinds: tuple[tuple[str, Sequence[str], Callable[[str], str]], ...] = (
            ("host", found.hosts, shown_host),
            ("address", found.addresses, shown_host),
            ("URL", found.urls, lambda url: shown(url, self._choice.limit)),
            ("sha256", found.sha256, shown),
        )
        most = self._choice.most(MOST)
        entries = [
            Entry((Part(show(one), label=label),)) for label, values, show in kinds for one in values[:most]
        ]
        total = sum(len(values) for _, values, _ in kinds)
        return Section(title="Indicators", entries=tuple(entries), more=total - len(entries))


def _notes(report: Report, cast: Cast, made: Sequence[Section], choice: Choice) -> Iterator[tuple[Part, ...]]:
    """What is missing on the page, and why."""
    if not cast.own:
        yield (Part("No process is known to be the sample's: what is listed is what Windows did.", "alert"),)
    if empty := [one.title for one in made if not one.count]:
        whose = "was recorded" if choice.windows else "of the sample's was recorded"
        yield (Part(f"Nothing {whose}: {', '.join(empty)}.", "words"),)
    if not choice.windows and (hidden := _of_windows(report, cast, shown_processes=made[0].count)):
        yield (Part(f"Not shown, since only Windows did it: {hidden}.", "words"),)
    yield from shortfalls(report)
    if report.capa is not None:
        yield from about_capa(report.capa)
    written = ", ".join(f"{shown(one.plugin)} {one.lines}" for one in report.plugins)
    yield (Part(written or "none", label="Lines of the log, by plugin:"),)


def shortfalls(report: Report) -> Iterator[tuple[Part, ...]]:
    """What the report says that it lacks."""
    for name, count in report.left_out.items():
        words = _LEFT_OUT.get(name)
        if words is not None:
            yield (Part(f"{count} {words}.", "alert"),)
        else:
            yield (Part(f"{count} events were left out of a full list:", "alert"), Part(shown(name)))
    if report.unreadable:
        yield (Part(f"{report.unreadable} lines or packets could not be read.", "alert"),)


def about_capa(run: CapaRun) -> Iterator[tuple[Part, ...]]:
    """What capa was, and what it did not look at."""
    if run.failure is not None:
        yield (Part(f"No capabilities: {shown(run.failure, LONGEST)}.", "alert"),)
        return
    if run.limit is not None:
        yield (Part(f"capa did not look at later calls: its limit of {run.limit} was reached.", "alert"),)
    rules = f" by {run.rules} rules" if run.rules is not None else ""
    yield (Part(f"Capabilities: capa {shown(run.version)} looked at {run.calls} calls{rules}.", "words"),)


def _of_windows(report: Report, cast: Cast, *, shown_processes: int) -> str:
    """How much of each list is none of the sample's."""
    rows: dict[str, Sequence[Seen]] = {
        "injections": report.injections,
        "files": report.files,
        "registry": report.registry,
        "services": report.services,
        "scheduled tasks": report.tasks,
        "mutexes": report.mutexes,
        "WMI": report.wmi,
        "network": (*report.network.names, *report.network.connections),
        "dumps": report.dumps,
        "calls": report.calls,
    }
    counts = {"processes": len(cast.all) - shown_processes}
    counts |= {name: sum(not cast.is_own(one) for one in several) for name, several in rows.items()}
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count)
