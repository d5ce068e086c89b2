"""A stack with the engine ``drakvuf`` on the simulated tools of ``tests/xen``, for benchmarks.

A figure names the toolchain that it is from: *simulated*, or with *real toolchain's cost*, which is what
DRAKVUF Sandbox 0.21 takes to start: 1.25 s of processor time for its command's imports, 0.2 s for its
library's.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from drakcelery import settings
from drakcelery.embedded.background import background
from drakcelery.engines.drakvuf.library import Library
from drakcelery.host.drains import Closed
from drakcelery.host.slots import SlotTable
from drakcelery.karton import submit
from drakcelery.karton.kept import Wishes
from drakcelery.model.analysis import State
from drakcelery.operators import analyses
from drakcelery.wiring import make_ledger
from tests.xen.host import XenHost

REAL = "real toolchain's cost"
TOOLCHAINS = {"simulated": 0.0, REAL: 1.25}
"""Seconds of processor time that each start of drakrun takes."""
PEER = "drakrun started for each call"
"""As the engine does without drakrun's library, and as DRAKVUF Sandbox itself does."""


@contextlib.contextmanager
def running(
    host: XenHost, directory: Path, *, slots: Sequence[str], library: bool
) -> Iterator[tuple[settings.Settings, int]]:
    """A stack whose tools are those of *host*, with drakrun's library or not; its settings and its pid."""
    names = ("drakrun", "drakvuf", "injector", "xl", "tcpdump")
    section = {
        **{name: str(host.tool(name)) for name in names},
        "etc_dir": str(host.etc),
        "lib_dir": str(host.lib),
        "run_dir": str(host.run),
        "library": str(int(library)),
    }
    overrides = {"drakcelery": {"engine": "drakvuf"}, "drakvuf": section}
    with background(directory, slots=dict.fromkeys(slots, "default"), overrides=overrides) as stack:
        ours = settings.load(stack.config)
        ledger = make_ledger(ours)
        while not (ledger.fleet.hosts() and ledger.bound()):
            time.sleep(analyses.POLL_SECONDS)
        while library and not Library(ours.drakcelery.state_dir / "engine").answers():
            time.sleep(analyses.POLL_SECONDS)
        yield ours, stack.pid


def analyse(
    ours: settings.Settings, samples: int, *, slots: Sequence[str], timeout: int, apart: float = 0
) -> set[str]:
    """Analyse so many samples, all waiting from the start, in slots that begin *apart* seconds; their uids.

    Raises:
        SystemExit: an analysis failed.
    """
    ledger = make_ledger(ours)
    table = SlotTable(ours.drakcelery.state_dir, quarantine_after=ours.drakcelery.quarantine_after)
    for slot in slots:
        table.close(slot, Closed.DRAINED, by="a benchmark")
    with tempfile.TemporaryDirectory() as scratch:
        sample, uids = Path(scratch, "sample.bat"), set()
        for _ in range(samples):
            sample.write_bytes(os.urandom(1000))
            uids.add(submit.push(ours, submit.sample_task(sample, Wishes(timeout=timeout))))
    for number, slot in enumerate(slots):
        time.sleep(apart if number else 0)
        table.reopen(slot, Closed.DRAINED)
    while len(done := [one for one in ledger.done(newest=samples) if one.uid in uids]) < samples:
        time.sleep(analyses.POLL_SECONDS)
    if failed := [record for record in done if record.state is not State.PUBLISHED]:
        raise SystemExit(f"an analysis failed: {failed[0].failures}; no figures")
    return uids
