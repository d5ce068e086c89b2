"""What the engine ``drakvuf`` costs beside Xen's and DRAKVUF's own tools, with drakrun's library and without.

The tools are simulated (``tests/xen``), once with what DRAKVUF Sandbox 0.21 takes to start: 1.25 s of
processor time for its command's imports, 0.2 s for its library's. A figure names the toolchain that it is
from. What the simulated xl, drakvuf, injector, tcpdump and iptables take themselves is not ours and is taken
off: they are Python, the real ones are not. Each of them notes it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.measuring import Result
from drakcelery import settings
from drakcelery.embedded.background import background
from drakcelery.engines.drakvuf.library import Library
from drakcelery.host.drains import Closed
from drakcelery.host.slots import SlotTable
from drakcelery.karton import submit
from drakcelery.karton.kept import Wishes
from drakcelery.model.analysis import State
from drakcelery.operators import analyses
from drakcelery.wiring import make_ledger, make_storage
from tests.xen.host import End, XenHost

TOOLCHAINS = {"simulated": 0.0, "real toolchain's cost": 1.25}
"""Seconds of processor time that each start of drakrun takes."""
PEER = "drakrun started for each call"
SAMPLES = {True: 6, False: 20}
"""By ``quick``."""
SECOND = 0.02
TIMEOUT = 50
"""Seconds of a run, which are shorter here."""
BOOTS = 10
WARM = 1
"""Analyses after which a process has asked for what it keeps."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Of one analysis."""

    processor: float
    beyond_xl: float
    turnaround: float
    """Seconds, all three."""


def measure(*, quick: bool) -> list[Result]:
    """Processor time, what stands between xl's calls, and the gap between two guests."""
    found = []
    for name, cost in TOOLCHAINS.items():
        ours, peer = (_costs(cost, library=library, samples=SAMPLES[quick]) for library in (True, False))
        for what, unit, factor, key in (
            ("processor time per analysis in dom0", "s", 1, "processor"),
            ("prepare and destroy beyond xl", "s", 1, "beyond_xl"),
            ("from a guest's end to the next xl restore", "ms", 1000, "turnaround"),
        ):
            found.append(
                Result(
                    name=f"{what}, {name}{', p50' if unit == 'ms' else ''}",
                    unit=unit,
                    ours=factor * getattr(ours, key),
                    peer=factor * getattr(peer, key),
                    peer_name=PEER,
                    runs=SAMPLES[quick],
                    less_is_better=True,
                )
            )
    return found


def _costs(import_seconds: float, *, library: bool, samples: int) -> Costs:
    with tempfile.TemporaryDirectory() as directory:
        host = XenHost.create(Path(directory, "xen"), second=SECOND, import_seconds=import_seconds)
        with host, _stack(host, Path(directory), library=library) as (ours, pid):
            _analyse(ours, WARM)
            known, before = len(host.ends()), _spent(pid)
            uids = _analyse(ours, samples)
            spent = _spent(pid) - before
            ends = host.ends()[known:]
            boot = _boot(host)
            beyond = [_beyond_xl(ours, uid, ends, boot) for uid in uids]
    tools = [end for end in ends if end.words[0] != "drakrun"]
    return Costs(
        processor=(spent - sum(end.processor + boot for end in tools)) / samples,
        beyond_xl=statistics.median(beyond),
        turnaround=statistics.median(_gaps(ends, boot)),
    )


@contextlib.contextmanager
def _stack(host: XenHost, directory: Path, *, library: bool) -> Iterator[tuple[settings.Settings, int]]:
    """A stack with one slot whose tools are those of *host*; its settings and its process."""
    names = ("drakrun", "drakvuf", "injector", "xl", "tcpdump")
    section = {
        **{name: str(host.tool(name)) for name in names},
        "etc_dir": str(host.etc),
        "lib_dir": str(host.lib),
        "run_dir": str(host.run),
        "library": str(int(library)),
    }
    overrides = {"drakcelery": {"engine": "drakvuf"}, "drakvuf": section}
    with background(directory / "stack", slots={"vm-1": "default"}, overrides=overrides) as stack:
        ours = settings.load(stack.config)
        ledger = make_ledger(ours)
        while not (ledger.fleet.hosts() and ledger.bound()):
            time.sleep(analyses.POLL_SECONDS)
        while library and not Library(ours.drakcelery.state_dir / "engine").answers():
            time.sleep(analyses.POLL_SECONDS)
        yield ours, stack.pid


def _analyse(ours: settings.Settings, samples: int) -> set[str]:
    """Analyse so many samples, one after the other in the slot, all waiting from the start; their uids."""
    ledger = make_ledger(ours)
    slots = SlotTable(ours.drakcelery.state_dir, quarantine_after=ours.drakcelery.quarantine_after)
    slots.close(None, Closed.DRAINED, by="a benchmark")
    with tempfile.TemporaryDirectory() as scratch:
        sample, uids = Path(scratch, "sample.bat"), set()
        for _ in range(samples):
            sample.write_bytes(os.urandom(1000))
            uids.add(submit.push(ours, submit.sample_task(sample, Wishes(timeout=TIMEOUT))))
    slots.reopen(None, Closed.DRAINED)
    while len(done := [one for one in ledger.done(newest=samples) if one.uid in uids]) < samples:
        time.sleep(analyses.POLL_SECONDS)
    if failed := [record for record in done if record.state is not State.PUBLISHED]:
        raise SystemExit(f"an analysis failed: {failed[0].failures}; no figures")
    return uids


def _spent(pid: int) -> float:
    """Processor time of the vm worker and all that it has started and waited for."""
    workers = [
        process
        for process in psutil.Process(pid).children(recursive=True)
        if process.environ().get("HONCHO_PROCESS_NAME") == "vm"
        or "resident.py" in " ".join(process.cmdline())
    ]
    return sum(sum(process.cpu_times()[:4]) for process in workers)


def _boot(host: XenHost) -> float:
    """Processor time that a simulated tool takes before it notes its begin, and after its end."""
    known = len(host.ends())
    before = os.times()
    for _ in range(BOOTS):
        subprocess.run([host.tool("xl"), "list"], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    whole = after.children_user + after.children_system - before.children_user - before.children_system
    noted = sum(end.processor for end in host.ends()[known:])
    return max(0.0, (whole - noted) / BOOTS)


def _beyond_xl(ours: settings.Settings, uid: str, ends: Sequence[End], boot: float) -> float:
    """Seconds of one analysis' prepare and destroy, by its log, without those of xl."""
    times = _times(ours, uid)
    spans = ((times["sample_fetched"], times["slot_restored"]), (times["tcpdump"], times["guest_destroyed"]))
    calls = [(end.begun - boot, end.ended) for end in ends if end.words[0] == "xl"]
    of_xl = sum(ended - begun for begun, ended in calls if any(one <= begun <= two for one, two in spans))
    return sum(two - one for one, two in spans) - of_xl


def _times(ours: settings.Settings, uid: str) -> dict[str, float]:
    """UNIX time of each action in an analysis' log; of a tool's end by the tool's name."""
    key = f"{uid}/drakrun.log"
    found = make_storage(ours).peek(ours.drakcelery.bucket, key, 1_000_000)
    if found is None:
        raise SystemExit(f"{key} is gone; no figures")
    lines = [json.loads(line) for line in found[1].splitlines()]
    return {line.get("tool", line["message"]): float(line["created"]) for line in lines}


def _gaps(ends: Sequence[End], boot: float) -> list[float]:
    """Seconds from the end of each xl destroy to the begin of the xl restore that follows, but for tools."""
    tools = [end for end in ends if end.words[0] != "drakrun"]
    of_xl = [end for end in ends if end.words[:2] in (("xl", "destroy"), ("xl", "restore"))]
    of_xl.sort(key=lambda end: end.begun)
    return [
        after.begun - boot - before.ended - _taken(tools, before.ended, after.begun, boot)
        for before, after in itertools.pairwise(of_xl)
        if (before.words[1], after.words[1]) == ("destroy", "restore")
    ]


def _taken(tools: Sequence[End], begin: float, end: float, boot: float) -> float:
    """Seconds that tools took between two times."""
    return sum(one.ended - one.begun + boot for one in tools if begin < one.begun and one.ended < end)
