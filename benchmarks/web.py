"""How long a page takes to be usable in a browser: with 10⁵ records, and reports of 10⁶ events.

From the navigation of a browser that has nothing in its cache until the page shows what it is for. Each time
it is another analysis, of which Flower has nothing in memory, unless the name says so. How long that takes
depends on what else the machine does: the processor time of Flower and of the browser stands beside it.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import psutil
from playwright.sync_api import Browser

from benchmarks.measuring import Result
from benchmarks.web_scene import LOG, Scene, scene
from tests.acceptance.flower_page import chromium

SIZES = {
    True: {"records": 10_000, "events": 100_000, "tasks": 1_000},
    False: {"records": 100_000, "events": 1_000_000, "tasks": 10_000},
}
"""By ``quick``. Flower keeps 10⁴ tasks, unless it is told otherwise."""
RUNS = {True: 3, False: 5}
PEER = "Flower's Tasks page"


@dataclass(frozen=True, kw_only=True)
class Look:
    """What somebody opens, and waits for."""

    path: Callable[[], str]
    ready: str
    """A condition in JavaScript that holds once the page can be used."""
    button: str | None = None
    """What is clicked once it is there; the time counts from then."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one look, in seconds."""

    took: float
    flower: float
    """Processor time, like the next one."""
    browser: float


def measure(*, quick: bool) -> list[Result]:
    """Seconds for each page, and what they cost."""
    found: dict[str, list[Cost]] = {}
    with (
        tempfile.TemporaryDirectory() as scratch,
        scene(Path(scratch), **SIZES[quick]) as ours,
        chromium() as browser,
    ):
        looks = _looks(ours.uids)
        for run in range(RUNS[quick] + 1):
            for name, look in looks.items():
                cost = _open(browser, ours, look)
                if run:  # in the first, Flower imports and compiles
                    found.setdefault(name, []).append(cost)
    peers = found.pop(PEER)
    return [result for name, costs in found.items() for result in _results(name, costs, peers)]


def _rows(selector: str, least: int) -> str:
    """So many elements are there."""
    return f"document.querySelectorAll('{selector}').length >= {least}"


def _looks(uids: tuple[str, ...]) -> Mapping[str, Look]:
    """What is measured, by its name."""
    turn = cycle(uids)
    rows, timeline = _rows("#analyses > *", 20), _rows("#panel-timeline tbody tr", 100)
    watched = "document.getElementById('something')?.hidden === false"
    found = f"document.getElementById('find-pages')?.hidden === false && {rows}"
    return {
        "Fleet": Look(path=lambda: "/fleet", ready=f"{rows} && {_rows('#hosts > *', 10)}"),
        "search by state": Look(path=lambda: "/fleet?state=FAILED", ready=found),
        "search by part of a name": Look(path=lambda: "/fleet?text=a.exe", ready=found),
        "analysis": Look(path=lambda: f"/analysis/{next(turn)}", ready=_rows("[role=treeitem]", 100)),
        "timeline": Look(path=lambda: f"/analysis/{next(turn)}#timeline", ready=timeline),
        "log": Look(
            path=lambda: f"/analysis/{uids[0]}",
            button=f"Read {LOG}",
            ready="document.getElementById('text-lines')?.textContent.length > 1000",
        ),
        "timeline, again": Look(path=lambda: f"/analysis/{uids[0]}#timeline", ready=timeline),
        "Watching": Look(path=lambda: "/watching", ready=watched),
        PEER: Look(path=lambda: "/tasks", ready=_rows("#tasks-table tbody tr", 10)),
    }


def _open(browser: Browser, ours: Scene, look: Look) -> Cost:
    """Open it in a browser without cookies and cache, and wait until it can be used."""
    # Our policy forbids what playwright evaluates a condition with
    context = browser.new_context(base_url=ours.address, bypass_csp=True)
    try:
        page = context.new_page()
        before = _spent(ours.pid)
        page.goto(look.path(), wait_until="commit")
        begun = 0.0
        if look.button:
            button = page.get_by_role("button", name=look.button)
            button.wait_for()
            before, begun = _spent(ours.pid), float(page.evaluate("performance.now()"))
            button.click()
        ready = page.wait_for_function(f"() => ({look.ready}) && performance.now()")
        took = (float(ready.json_value()) - begun) / 1000
        flower, chrome = (after - was for after, was in zip(_spent(ours.pid), before, strict=True))
    finally:
        context.close()
    return Cost(took=took, flower=flower, browser=chrome)


def _spent(flower: int) -> tuple[float, float]:
    """Seconds of processor time of Flower, and of all the browser's processes."""
    ours = psutil.Process()
    browsers = [one for one in ours.children(recursive=True) if "chrom" in one.name()]
    return _seconds(psutil.Process(flower)), sum(map(_seconds, browsers))


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _results(name: str, costs: list[Cost], peers: list[Cost]) -> list[Result]:
    def result(what: str, of: Callable[[Cost], float]) -> Result:
        return Result(
            name=f"{name}, {what}",
            unit="s",
            ours=statistics.median(map(of, costs)),
            peer=statistics.median(map(of, peers)),
            peer_name=PEER,
            runs=len(costs),
            less_is_better=True,
        )

    return [
        result("page usable", lambda one: one.took),
        result("processor time of Flower", lambda one: one.flower),
        result("processor time of the browser", lambda one: one.browser),
    ]
