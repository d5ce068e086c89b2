"""README's report and picture, made of a real analysis: ``make readme``.

A stack of its own analyses the sample that comes with drakcelery; what ``drakcelery report`` says of it goes
between the marks of README.md, and the page of the analysis is photographed.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from playwright.sync_api import expect

from drakcelery import settings
from drakcelery.embedded.background import background
from drakcelery.embedded.state import Running
from tests.acceptance.deployment import Deployment, run
from tests.acceptance.flower_page import chromium
from tests.reference import ROOT

README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "images" / "analysis-readme.png"
LARGEST = 150_000
"""Bytes of the picture."""
SAMPLE = ROOT / "samples" / "behaviour.exe"
FIRST, LAST = "The sample", "\nIndicators"
"""README is short: what stands before the one or from the other on is left out."""
LONGEST = 96
"""Letters of a line that GitHub shows without a bar to scroll."""
WIDTH, HEIGHT = 1100, 690
"""Of the window, in CSS pixels."""

_MARKS = re.compile(r"(?<=<!-- report -->\n\n```text\n).*?(?=```\n\n<!-- /report -->)", re.DOTALL)
_BY_CHANCE = {
    "UID": r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b",
    "DAY": r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b",
    "CLOCK": r"\b\d+:\d\d\b",
    "SECONDS": r"\b\d+\.\d s\b",
    "PID": r"(?<=\()\d+(?=\))",
    "SLOT": r"\bvm-\d\b",
    "ENGINE": r"(?<=emulator )\S+",
}
"""What differs from one run to the next, or with the emulator's version."""


def stored() -> str:
    """The report that README shows."""
    found = _MARKS.search(README.read_text(encoding="utf-8"))
    assert found is not None, "README.md has no <!-- report -->"
    return found[0]


def excerpt(report: str) -> str:
    """The part of a whole report that README shows."""
    head, first, rest = report.partition(FIRST)
    lines = [head.splitlines()[0], "  …", *(first + rest.partition(LAST)[0]).rstrip().splitlines(), "…"]
    return "".join(f"{line if len(line) <= LONGEST else line[: LONGEST - 2] + ' …'}\n" for line in lines)


def normalized(report: str) -> str:
    """A report without what its run chose by chance."""
    for word, pattern in _BY_CHANCE.items():
        report = re.sub(pattern, word, report)
    return "\n".join(re.sub(r" {2,}", "  ", line) for line in report.splitlines())


def report_of(config: Path, uid: str) -> str:
    """What ``drakcelery report`` says."""
    done = run("drakcelery", "report", uid, config=config)
    assert done.returncode == 0, done.stderr
    return done.stdout


def photograph(running: Running, uid: str) -> None:
    """Keep a picture of the top of the analysis' page."""
    port = settings.load(running.config, environment={}).flower.port
    with chromium() as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(f"http://127.0.0.1:{port}/analysis/{uid}")
        expect(page.get_by_text("cmd.exe").first).to_be_visible()
        page.screenshot(path=PICTURE)
    assert PICTURE.stat().st_size <= LARGEST, f"{PICTURE} has {PICTURE.stat().st_size} bytes"


def main() -> None:
    """Make both anew."""
    with (
        tempfile.TemporaryDirectory(prefix="drakcelery-readme-") as directory,
        background(Path(directory) / "stack", slots={"vm-1": "default"}) as running,
        Deployment.of(running) as deployment,
    ):
        done = deployment.drakcelery("submit", SAMPLE, "--wait")
        assert done.returncode == 0, done.stderr
        uid = done.stdout.strip()
        text = README.read_text(encoding="utf-8")
        README.write_text(_MARKS.sub(lambda _: excerpt(report_of(running.config, uid)), text))
        photograph(running, uid)


if __name__ == "__main__":
    main()
