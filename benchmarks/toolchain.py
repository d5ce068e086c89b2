"""What the engine ``drakvuf`` costs beside Xen's and DRAKVUF's own tools, with drakrun's library and without.

The tools are simulated (:mod:`benchmarks.simulated_xen`), once with what DRAKVUF Sandbox's take to start.
What the simulated xl, drakvuf, injector, tcpdump and iptables take themselves is not ours and is taken off:
they are Python, the real ones are not. Each of them notes it.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import simulated_xen
from benchmarks.measuring import Result
from drakcelery import settings
from drakcelery.wiring import make_storage
from tests.xen.host import End, XenHost

SAMPLES = {True: 4, False: 20}
"""By ``quick``."""
PEER_SAMPLES = {True: 3, False: 6}
"""Enough for what takes that much longer."""
SLOT = "vm-1"
SECOND = 0.02
BOOTS = 10
TIMEOUT = 50
"""Seconds of a run, which are shorter here."""
WARM = 1
"""Analyses after which a process has asked for what it keeps."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Of one analysis."""

    processor: float
    beyond_xl: float
    turnaround: float
    """Seconds, all three."""


ROWS = (
    ("processor time per analysis in dom0, {}", "s", 1, "processor"),
    ("prepare and destroy beyond xl, {}", "s", 1, "beyond_xl"),
    ("slot turnaround, {}, p50", "ms", 1000, "turnaround"),
)
"""Name, unit, units in a second, field of :class:`Costs`."""


def measure(*, quick: bool) -> list[Result]:
    """Processor time, what stands between xl's calls, the turnaround; quick: with the real cost only."""
    found = []
    for name in [simulated_xen.REAL] if quick else simulated_xen.TOOLCHAINS:
        cost = simulated_xen.TOOLCHAINS[name]
        ours = _costs(cost, library=True, samples=SAMPLES[quick])
        peer = _costs(cost, library=False, samples=PEER_SAMPLES[quick])
        found += [
            Result(
                name=what.format(name),
                unit=unit,
                ours=factor * getattr(ours, field),
                peer=factor * getattr(peer, field),
                peer_name=simulated_xen.PEER,
                runs=SAMPLES[quick],
                less_is_better=True,
            )
            for what, unit, factor, field in ROWS
        ]
    return found


def _costs(import_seconds: float, *, library: bool, samples: int) -> Costs:
    with tempfile.TemporaryDirectory() as directory:
        host = XenHost.create(Path(directory, "xen"), second=SECOND, import_seconds=import_seconds)
        stack = simulated_xen.running(host, Path(directory, "stack"), slots=[SLOT], library=library)
        with host, stack as (ours, pid):
            simulated_xen.analyse(ours, WARM, slots=[SLOT], timeout=TIMEOUT)
            known, before = len(host.ends()), _spent(pid)
            uids = simulated_xen.analyse(ours, samples, slots=[SLOT], timeout=TIMEOUT)
            spent = _spent(pid) - before
            ends = host.ends()[known:]
            boot = _boot(host)
            beyond = [_beyond_xl(ours, uid, ends) for uid in uids]
    tools = [end for end in ends if end.words[0] != "drakrun"]
    return Costs(
        processor=(spent - sum(end.processor + boot for end in tools)) / samples,
        beyond_xl=statistics.median(beyond),
        turnaround=statistics.median(_gaps(ends)),
    )


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


def _beyond_xl(ours: settings.Settings, uid: str, ends: Sequence[End]) -> float:
    """Seconds of one analysis' prepare and destroy, by its log, without those of xl."""
    times = _times(ours, uid)
    spans = ((times["sample_fetched"], times["slot_restored"]), (times["tcpdump"], times["guest_destroyed"]))
    calls = [
        end for end in ends if end.words[0] == "xl" and any(one <= end.begun <= two for one, two in spans)
    ]
    of_xl = sum(end.ended - end.started for end in calls)
    return sum(two - one for one, two in spans) - of_xl


def _times(ours: settings.Settings, uid: str) -> dict[str, float]:
    """UNIX time of each action in an analysis' log; of a tool's end by the tool's name."""
    key = f"{uid}/drakrun.log"
    found = make_storage(ours).peek(ours.drakcelery.bucket, key, 1_000_000)
    if found is None:
        raise SystemExit(f"{key} is gone; no figures")
    lines = [json.loads(line) for line in found[1].splitlines()]
    return {line.get("tool", line["message"]): float(line["created"]) for line in lines}


def _gaps(ends: Sequence[End]) -> list[float]:
    """Seconds from the end of each xl destroy to the begin of the xl restore that follows, but for tools."""
    tools = [end for end in ends if end.words[0] != "drakrun"]
    of_xl = [end for end in ends if end.words[:2] in (("xl", "destroy"), ("xl", "restore"))]
    of_xl.sort(key=lambda end: end.begun)
    return [
        after.started - before.ended - _taken(tools, before.ended, after.started)
        for before, after in itertools.pairwise(of_xl)
        if (before.words[1], after.words[1]) == ("destroy", "restore")
    ]


def _taken(tools: Sequence[End], begin: float, end: float) -> float:
    """Seconds that tools took between two times."""
    return sum(one.ended - one.started for one in tools if begin < one.begun and one.ended < end)
