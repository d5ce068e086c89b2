"""Finds analyses: by what people know of them, page by page, or by the beginning of a uid."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from karton.core.task import Task

from drakcelery.errors import StackError
from drakcelery.ledger import Ledger
from drakcelery.ledger.index import START, Piece, Place
from drakcelery.model.names import SHORTEST_PREFIX
from drakcelery.model.query import Query, is_hash_prefix, is_prefix
from drakcelery.model.records import Record
from drakcelery.model.text import clean, is_storable

CANDIDATES = 10
"""How many analyses an error names."""
READ_AT_ONCE = 50
LIVE = "live"

Pieces = Callable[[Place], Iterator[Piece]]


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some of what was found."""

    records: tuple[Record, ...]
    """Those that are not over first, then in the order in which they ended."""
    following: str | None
    """What to ask for to get more; None if that is all."""


def find(
    ledger: Ledger, query: Query, *, limit: int, after: str | None = None, seconds: float = math.inf
) -> Page:
    """A page of at most *limit* analyses that fit, behind what an earlier page said was *following*.

    If that takes longer than *seconds*, the page is shorter, and says where to go on.

    Raises:
        StackError: nothing can be looked for in this way.
    """
    _check(query)
    stages = _stages(ledger, query)
    stage, place = _read(after, stages) if after else (next(iter(stages), LIVE), START)
    left = list(itertools.dropwhile(lambda name: name != stage, stages))
    deadline = time.monotonic() + seconds
    found: dict[str, tuple[Record, str]] = {}
    while left:
        stage = left.pop(0)
        for piece in stages[stage](place):
            for record, at in _read_records(ledger, piece, query, is_live=stage == LIVE):
                if record.uid in found or _came_before(stage, record, query):
                    continue
                if len(found) == limit:
                    return _page(found, [*found.values()][-1][1])
                found[record.uid] = record, _written(stage, at)
            if time.monotonic() > deadline:
                begin = _written(stage, piece.following) if piece.following is not None else None
                return _page(found, begin or (_written(left[0], START) if left else None))
        place = START
    return _page(found, None)


def _page(found: Mapping[str, tuple[Record, str]], following: str | None) -> Page:
    return Page(records=tuple(record for record, _ in found.values()), following=following)


def _check(query: Query) -> None:
    if query.uid is not None and not is_prefix(query.uid):
        raise StackError(
            f"no uid begins with {clean(query.uid, 80)!r}: expected letters, digits, '.', '_', '-'"
        )
    if query.sha256 is not None and not is_hash_prefix(query.sha256):
        raise StackError(
            f"no sha256 begins with {clean(query.sha256, 80)!r}: expected up to 64 hexadecimal digits"
        )
    if not query.newest_first and any((query.text, query.uid, query.sha256, query.name, query.reason)):
        raise StackError("the oldest come first only if no text, uid, hash, name or reason is looked for")


def _stages(ledger: Ledger, query: Query) -> dict[str, Pieces]:
    """Where it is looked for, in order; empty if nothing can be there."""
    live: dict[str, Pieces] = {LIVE: lambda place: _live(ledger, place)} if query.wants_live else {}
    ended = _stages_of_ended(ledger, query) if query.wants_ended else {}
    return live | ended if query.newest_first else ended | live


def _stages_of_ended(ledger: Ledger, query: Query) -> dict[str, Pieces]:
    index = ledger.index
    stages: dict[str, Pieces] = {}
    if query.text:
        if is_prefix(query.text):
            stages["uid"] = lambda place: index.by_prefix("u", query.text or "", query, place)
        if is_hash_prefix(query.text):
            stages["hash"] = lambda place: index.by_prefix("s", query.text or "", query, place)
        stages["name"] = lambda place: index.by_text(query.text, query.reason, query, place)
    elif query.uid is not None:
        stages["uid"] = lambda place: index.by_prefix("u", query.uid or "", query, place)
    elif query.sha256 is not None:
        stages["hash"] = lambda place: index.by_prefix("s", query.sha256 or "", query, place)
    elif query.name is not None or query.reason is not None:
        stages["name"] = lambda place: index.by_text(query.name, query.reason, query, place)
    else:
        stages["values"] = lambda place: index.by_values(query, place)
    return stages


def _live(ledger: Ledger, place: Place) -> Iterator[Piece]:
    """All that are not over, the newest first: there are only as many as the fleet takes."""
    uids = ledger.live_uids()[::-1]
    begin = uids.index(place[1]) + 1 if place[1] in uids else 0
    for at in range(begin, len(uids), READ_AT_ONCE):
        some = uids[at : at + READ_AT_ONCE]
        yield Piece(found=tuple((uid, ("", uid)) for uid in some), following=("", some[-1]))


def _read_records(
    ledger: Ledger, piece: Piece, query: Query, *, is_live: bool
) -> Iterator[tuple[Record, Place]]:
    """Those of a piece that fit, by their records."""
    for begin in range(0, len(piece.found), READ_AT_ONCE):
        some = dict(piece.found[begin : begin + READ_AT_ONCE])
        for record in ledger.records(list(some)):
            if record.state.is_over != is_live and query.matches(record):
                yield record, some[record.uid]


def _came_before(stage: str, record: Record, query: Query) -> bool:
    """Whether an earlier stage has given it, if a text is looked for in several ways."""
    if not query.text or stage in (LIVE, "uid"):
        return False
    if record.uid.startswith(query.text):
        return True
    sha256 = record.sample.sha256 if record.sample else None
    return stage == "name" and (sha256 or "").lower().startswith(query.text.lower()) and sha256 is not None


def _written(stage: str, place: Place) -> str:
    return base64.urlsafe_b64encode(json.dumps([stage, *place]).encode()).decode().rstrip("=")


def _read(after: str, stages: dict[str, Pieces]) -> tuple[str, Place]:
    """What :func:`_written` made. Raises :class:`StackError`."""
    try:
        stage, first, second = json.loads(base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)))
        if stage not in stages or not isinstance(first, str) or not isinstance(second, str):
            raise ValueError(stage)
        if stage == "values" and first:
            float(first)
        elif stage == "name" and second:
            int(second)
        (first + second).encode()
    except (ValueError, TypeError, binascii.Error):
        raise StackError(
            "no page begins there: give what the page before said, for the same search"
        ) from None
    return stage, (first, second)


# The beginning of a uid, wherever a uid is taken


def record_of(ledger: Ledger, uid: str) -> Record | None:
    """The record of an analysis: by its uid, a uid that Karton has for it, or the beginning of one.

    Raises:
        StackError: several begin so.
    """
    if not is_storable(uid):
        return None
    own = Task.fquid_to_uid(uid)
    for whole in dict.fromkeys((uid, own)):
        if whole and (record := ledger.get(whole)) is not None:
            return record
    if not is_prefix(own):
        return None
    live = list(ledger.live())
    exact = [one for one in (*live, *_by_karton(ledger, f"{own}:")) if own in _karton_uids(one)]
    if exact:
        return exact[0]
    if len(own) < SHORTEST_PREFIX:
        return None
    # An analysis' own uid first: its retries have it as their root, and nobody means them by it
    begun = _begun(live, _ended(ledger, "u", own), own, lambda one: (one.uid,))
    begun = begun or _begun(live, _ended(ledger, "k", own), own, _karton_uids)
    if len(begun) > 1:
        raise StackError(_ambiguous(uid, begun))
    return next(iter(begun), None)


def _begun(
    live: Sequence[Record], ended: Sequence[Record], begin: str, names: Callable[[Record], Sequence[str]]
) -> list[Record]:
    """Each once: those of *live* of which a name begins with *begin*, then those that are over."""
    found = [one for one in live if any(name.startswith(begin) for name in names(one))]
    return list({one.uid: one for one in (*found, *ended)}.values())


def _karton_uids(record: Record) -> tuple[str, str]:
    return Task.fquid_to_uid(record.task_uid), Task.fquid_to_uid(record.root_uid)


def _by_karton(ledger: Ledger, prefix: str) -> Iterator[Record]:
    """Of those that are over the newest first; before the index is complete, by reading many."""
    yield from _ended(ledger, "k", prefix)
    if not ledger.index.is_complete:
        yield from ledger.done(newest=10_000)


def _ended(ledger: Ledger, kind: str, prefix: str) -> list[Record]:
    """Records of the first analyses whose entry of a kind begins so."""
    piece = next(ledger.index.by_prefix(kind, prefix, Query()))
    return sorted(ledger.records([uid for uid, _ in piece.found]), key=lambda one: -(one.finished or 0))


def _ambiguous(uid: str, records: list[Record]) -> str:
    shown = ", ".join(
        f"{one.uid} ({one.state.value}{', ' + clean(one.sample.name, 40) if one.sample else ''})"
        for one in records[:CANDIDATES]
    )
    more = ", and more" if len(records) > CANDIDATES else ""
    return f"{len(records)} analyses begin with {clean(uid, 80)}: {shown}{more}. Give more of the uid"
