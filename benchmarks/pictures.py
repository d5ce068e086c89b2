"""The benchmarks' pictures for the documentation."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measuring import Result
from benchmarks.pages import Run, figure
from benchmarks.targets import TARGETS, Target, target_of

OURS, PEER, LIMIT, MISSED = "#2b6cb0", "#a0aec0", "#e2e8f0", "#c53030"
COLUMNS = 3
TITLE = 34
"""Characters that fit above a panel."""
SAME = "with "
"""How a peer is called that is the same with fewer hosts, or fewer samples."""
NEWEST = 30
"""How many runs of the history are drawn."""
DOTS = 110
"""For each inch."""


def draw_results(results: Sequence[Result], path: Path) -> None:
    """A panel for each thing that was measured: our bar, the peers', the limit's, a line for the target."""
    shown = filter(_is_drawn, results)
    panels = [list(rows) for _, rows in groupby(shown, key=lambda one: (one.name, one.unit))]
    lines = max(1, -(-len(panels) // COLUMNS))
    picture = Figure(figsize=(4.2 * COLUMNS, 2.1 * lines), layout="constrained")
    axes = list(picture.subplots(lines, COLUMNS, squeeze=False).flat)
    for panel, place in zip(panels, axes, strict=False):
        _draw_panel(panel, place)
    for place in axes[len(panels) :]:
        place.set_visible(False)
    _save(picture, path)


def _is_drawn(result: Result) -> bool:
    """What has a target, beside a peer or a limit; not how a cost grows with the fleet, which is flat."""
    if not _has_target(result.name) or (result.peer_name or "").startswith(SAME):
        return False
    return result.peer_name is not None or result.limit is not None


def _has_target(name: str) -> bool:
    """Whether something is wanted of the measurement, whichever its peer."""
    return any(re.fullmatch(target.name, name) for target in TARGETS)


def _draw_panel(rows: Sequence[Result], place: Axes) -> None:
    first = rows[0]
    bars: list[tuple[str, float, str]] = [("drakcelery", first.ours, OURS)]
    bars += [(one.peer_name or "peer", one.peer, PEER) for one in rows if one.peer is not None]
    if first.limit is not None:
        bars.append(("limit", first.limit, LIMIT))
    names, values, colours = zip(*reversed(bars), strict=True)
    drawn = place.barh(names, values, color=colours)
    place.bar_label(drawn, [figure(value) for value in values], padding=3, fontsize=8)
    place.margins(x=0.18)
    better = "less is better" if first.less_is_better else "more is better"
    place.set_title(f"{_wrapped(first.name)}\n{first.unit}, {better}", fontsize=9)
    place.tick_params(labelsize=8)
    place.spines[["top", "right"]].set_visible(False)
    bound = _bound(rows)
    if bound is not None:
        place.axvline(bound, color=MISSED, linestyle=":", linewidth=1)


def _bound(rows: Sequence[Result]) -> float | None:
    """Where the target is on the axis."""
    for one in rows:
        target = target_of(one)
        if target is not None:
            return _bound_of(target, one)
    return None


def _bound_of(target: Target, result: Result) -> float | None:
    bound = target.least if target.least is not None else target.most
    if not target.of_ratio or bound is None:
        return bound
    if result.peer is None:
        return None
    return result.peer / bound if result.less_is_better else result.peer * bound


def draw_history(runs: Sequence[Run], path: Path) -> None:
    """A panel for each measurement with a target: its ratios in the newest runs: did it get worse?"""
    shown = runs[-NEWEST:]
    known = Counter(name for run in shown for name in run.ratios)
    least = min(2, len(shown))  # one point shows no change
    names = sorted(name for name, seen in known.items() if seen >= least and _has_target(_measured(name)))
    panels = [list(group) for _, group in groupby(names, key=_measured)]
    lines = max(1, -(-len(panels) // COLUMNS))
    picture = Figure(figsize=(4.2 * COLUMNS, 2.1 * lines), layout="constrained")
    axes = list(picture.subplots(lines, COLUMNS, squeeze=False).flat)
    for panel, place in zip(panels, axes, strict=False):
        _draw_ratios(panel, shown, place)
    for place in axes[len(panels) :]:
        place.set_visible(False)
    picture.suptitle("ratio of ours to the peer's, run by run (more is better)", fontsize=9)
    _save(picture, path)


def _measured(name: str) -> str:
    """Of a ratio's name, what comes before its peer's."""
    return name.rpartition(" / ")[0]


def _draw_ratios(names: Sequence[str], runs: Sequence[Run], place: Axes) -> None:
    for name in names:
        points = [(at, run.ratios[name]) for at, run in enumerate(runs) if name in run.ratios]
        peer = name.removeprefix(f"{_measured(name)} / ")
        place.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1, label=peer)
    place.set_yscale("log")
    place.axhline(1, color="black", linewidth=0.5)
    place.set_xticks(range(len(runs)), [_label(run) for run in runs], rotation=60, fontsize=6)
    place.set_title(_wrapped(_measured(names[0])), fontsize=9)
    place.tick_params(labelsize=7, which="both")
    place.spines[["top", "right"]].set_visible(False)
    place.legend(fontsize=6, frameon=False)


def draw_slot_days(results: Sequence[Result], path: Path) -> None:
    """What a slot gets done in a day, in each way, beside what it did before."""
    shown = [one for one in results if one.peer is not None]
    names = [shown[0].peer_name or "before", *(one.name.rpartition(", ")[2] for one in shown)]
    values = [shown[0].peer or 0, *(one.ours for one in shown)]
    picture = Figure(figsize=(7, 2.2), layout="constrained")
    place = picture.subplots()
    colours = [PEER, *[OURS] * len(shown)]
    drawn = place.barh(names[::-1], values[::-1], color=colours[::-1])
    place.bar_label(drawn, [figure(value) for value in values[::-1]], padding=3, fontsize=8)
    place.margins(x=0.12)
    place.set_title("analyses for each slot and day", fontsize=9)
    place.tick_params(labelsize=8)
    place.spines[["top", "right"]].set_visible(False)
    _save(picture, path)


def _wrapped(title: str) -> str:
    return textwrap.fill(title, TITLE)


def _label(run: Run) -> str:
    return f"{run.commit}{' quick' if run.quick else ''}"


def _save(picture: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # No name of a version: equal figures give an equal file
    picture.savefig(path, format="png", dpi=DOTS, metadata={"Software": None})
