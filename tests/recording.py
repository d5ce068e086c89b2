"""Writes the analysis of ``drakcelery.testing`` anew: ``python -m tests.recording``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from drakcelery import settings
from drakcelery.embedded.background import background
from drakcelery.embedded.layout import home
from drakcelery.host.workspace import LOG_NAME
from drakcelery.karton import submit
from drakcelery.karton.analysis_task import STORED
from drakcelery.karton.kept import Wishes
from drakcelery.operators import analyses
from drakcelery.testing import RECORDED
from drakcelery.wiring import make_ledger, make_storage
from tests.waiting import wait_until

SAMPLE = "behaviour.exe"
TIMEOUT = 30


def record(to: Path) -> None:
    """Analyse the sample with a stack of its own and download into *to* what a test needs of it."""
    with tempfile.TemporaryDirectory() as directory, background(Path(directory) / "stack") as stack:
        ours = settings.load(stack.config, environment={})
        ledger = make_ledger(ours)
        wait_until(lambda: ledger.fleet.hosts() and ledger.bound(), "ingress and vm worker are there")
        task = submit.sample_task(home() / "samples" / SAMPLE, Wishes(timeout=TIMEOUT))
        uid = submit.push(ours, task)
        for one in analyses.follow(ledger, uid):
            if one is not None and one.state.is_over:
                analyses.require_published(one)
                analyses.fetch(ours, make_storage(ours), one, to)
    for name in (LOG_NAME, STORED):
        (to / name).unlink()


if __name__ == "__main__":
    for file in RECORDED.iterdir():
        file.unlink()
    record(RECORDED)
