"""What people read of the benchmarks: the table in docs/benchmarks.md, the JSON, the history."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measuring import Result
from benchmarks.targets import Target, target_of

REPOSITORY = Path(__file__).parents[1]
HEADS = ("What", "Ours", "Peer", "Ratio", "Limit", "Target", "Reached")


def as_json(results: Sequence[Result]) -> str:
    """A list of ``{name, unit, ours, peer, peer_name, limit, ratio, runs}``."""
    rows = []
    for result in results:
        row = asdict(result) | {"ratio": result.ratio}
        del row["less_is_better"]
        rows.append(row)
    return json.dumps(rows, indent=2) + "\n"


def rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """A row for each result, as :data:`HEADS` names its cells."""
    return [_row(result) for result in results]


def _row(result: Result) -> tuple[str, ...]:
    target = target_of(result)
    peer = "missing" if result.is_missing else figure(result.peer)
    return (
        result.name,
        f"{figure(result.ours)} {result.unit}",
        f"{peer} ({result.peer_name})" if peer else "",
        f"{result.ratio:.2f}" if result.ratio is not None else "",
        figure(result.limit),
        target.words(result.unit) if target else "",
        _verdict(target, result) if target else "",
    )


def _verdict(target: Target, result: Result) -> str:
    if target.of_ratio and result.is_missing:
        return "not measured"
    return "yes" if target.is_reached(result) else "**no**"


def figure(value: float | None) -> str:
    """Three digits that mean something."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(results: Sequence[Result]) -> str:
    """As Markdown."""
    lines = [HEADS, ("---",) * len(HEADS), *rows(results)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def tables(results: Sequence[Result]) -> str:
    """As Markdown: what has a target, then the rest."""
    aimed = [one for one in results if target_of(one)]
    others = [one for one in results if not target_of(one)]
    parts = [table(aimed)] if aimed else []
    parts += ["Measured beside that:", table(others)] if others else []
    return "\n\n".join(parts)


def filled(page: str, name: str, text: str) -> str:
    """*page* with *text* between the markers ``<!-- name -->`` and ``<!-- /name -->``.

    Raises:
        ValueError: a marker is missing.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    head, _, rest = page.partition(begin)
    _, found, tail = rest.partition(end)
    if not found:
        raise ValueError(f"expected {begin} and {end}")
    return f"{head}{begin}\n\n{text}\n\n{end}{tail}"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One line of the history."""

    commit: str
    date: str
    quick: bool
    ratios: dict[str, float]
    """``name / peer`` -> ratio; more is better."""

    @classmethod
    def of(cls, results: Sequence[Result], *, quick: bool) -> Run:
        """What was just measured, on the commit that is checked out; ``+`` where it has changes."""
        named = ((f"{one.name} / {one.peer_name}", one.ratio) for one in results)
        return cls(
            commit=_commit(),
            date=datetime.now(tz=UTC).date().isoformat(),
            quick=quick,
            ratios={name: round(ratio, 3) for name, ratio in named if ratio is not None},
        )


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"],  # noqa: S607 whichever git is on the path
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def remember(history: Path, run: Run) -> list[Run]:
    """Add *run* to the file *history*; returns all that are in it, the oldest first."""
    with history.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(run)) + "\n")
    return [Run(**json.loads(line)) for line in history.read_text(encoding="utf-8").splitlines()]
