"""The page about the difference of two analyses. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from drakcelery.behaviour.difference import KINDS, Change, Difference, Side
from drakcelery.behaviour.doings import Kind
from drakcelery.operators.report.document import Document, Entry, Fact, Part, Section
from drakcelery.operators.report.lists import shown_key
from drakcelery.operators.report.sections import MOST
from drakcelery.operators.report.values import LONG, LONGEST, SHORT, shown, shown_host

TITLES: Mapping[Kind, str] = {
    "processes": "Processes",
    "injections": "Injections",
    "files": "Files",
    "registry": "Registry",
    "services": "Services",
    "tasks": "Scheduled tasks",
    "mutexes": "Mutexes",
    "wmi": "WMI",
    "hosts": "Hosts",
    "connections": "Connections",
    "requests": "HTTP requests",
    "capabilities": "Capabilities",
    "calls": "Key calls",
}


def document(found: Difference, *, everything: bool = False) -> Document:
    """What *found* says; whole lists and longer values if *everything* is."""
    return Document(
        title=Part("The difference of two analyses", "words"),
        facts=(*_facts("first", found.first), *_facts("second", found.second)),
        ending=_ending(found),
        sections=tuple(_sections(found, everything=everything)),
        notes=tuple(_notes(found)),
    )


def _facts(name: str, side: Side) -> Iterator[Fact]:
    engine, summary = shown(side.engine, SHORT), shown(side.summary, LONGEST)
    yield Fact(
        name=name, parts=(Part(shown(side.analysis_uid)), Part(engine, "quiet"), Part(summary, "quiet"))
    )
    yield Fact(name="its sample", parts=(Part(shown(side.name, SHORT)), Part(shown(side.sha256))))


def _ending(found: Difference) -> Part:
    if found.is_same and found.is_whole:
        return Part("Both samples did the same, as far as it was seen.", "words")
    if found.is_same:
        return Part("No difference was seen, but that says little: see below.", "alert")
    counts = {what: sum(one.what == what for one in found.changes) for what in ("missing", "new", "changed")}
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return Part(f"The second analysis differs from the first: {told}.", "alert")


def _sections(found: Difference, *, everything: bool) -> Iterator[Section]:
    limit = LONGEST if everything else LONG
    for kind in KINDS:
        entries = [_entry(one, limit) for one in found.changes if one.kind == kind]
        if entries:
            most = len(entries) if everything else MOST
            yield Section(title=TITLES[kind], entries=tuple(entries[:most]), more=max(0, len(entries) - most))


def _entry(one: Change, limit: int) -> Entry:
    parts = [Part(one.what, "words" if one.what == "changed" else "alert"), Part(_shown(one, limit))]
    for label, says in (("first:", one.first), ("second:", one.second)):
        if says:
            parts.append(Part(", ".join(shown(text, limit) for text in says), label=label))
        elif one.what == "changed":
            parts.append(Part("nothing more", "words", label))
    return Entry(tuple(parts))


def _shown(one: Change, limit: int) -> str:
    if one.kind in ("hosts", "connections"):
        return shown_host(one.shown)
    return shown(shown_key(one.shown), limit) if one.kind == "registry" else shown(one.shown, limit)


def _notes(found: Difference) -> Iterator[tuple[Part, ...]]:
    if not found.is_whole:
        told = "One of the analyses is not whole: what is missing in it may only not have been seen."
        yield (Part(told, "alert"),)
    if found.first.engine != found.second.engine:
        yield (Part("The engines are not the same, so they do not see the same.", "alert"),)
    for words, counts in (("The same in both", found.same), ("Not the same only by chance", found.alike)):
        told = ", ".join(f"{TITLES[kind].lower()} {counts[kind]}" for kind in KINDS if counts.get(kind))
        if told:
            yield (Part(f"{words}: {told}.", "words"),)
    if any(found.background):
        told = "Not compared, since Windows does it by itself: {} and {} files and registry values."
        yield (Part(told.format(*found.background), "words"),)
