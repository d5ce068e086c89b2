"""The simulation itself: some schedules in ``make test``, those that once failed, and what it rests on."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from drakcelery.telemetry.logs import configure
from tests.reference import ROOT
from tests.simulation.faults import schedule_of
from tests.simulation.schedule import Fault, Sample, Schedule
from tests.simulation.scheduler import simulate
from tests.simulation.shrink import shrunk
from tests.simulation.theatre import EPOCH
from tests.simulation.valkey import Valkey, in_virtual_time

REGRESSIONS = sorted((Path(__file__).parent / "regressions").glob("*.json"))
SEEDS = range(1, 21)

log = structlog.get_logger(__name__)


@pytest.fixture(scope="module")
def valkey(server_programs: None) -> Iterator[Valkey]:  # noqa: ARG001 - a check
    """A server for all of them."""
    with Valkey() as server:
        yield server


@pytest.mark.parametrize("begin", SEEDS[::10])
def test_schedules_pass(valkey: Valkey, begin: int) -> None:
    """Whatever a seed brings, nothing is lost or done twice, and all comes to an end."""
    for seed in range(begin, begin + 10):
        assert (seed, simulate(schedule_of(seed), valkey).broken) == (seed, ())


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_what_once_failed_passes(valkey: Valkey, path: Path) -> None:
    """Each schedule that showed a fault is kept, with what it showed."""
    assert simulate(Schedule.read(path), valkey).broken == ()


def test_a_seed_says_it_all(valkey: Valkey) -> None:
    """The same schedule takes the same steps, each time."""
    kill = Fault(at=150, kind="kill", pick=0.5)
    schedule = Schedule(seed=5, steps=400, samples=(Sample(at=0), Sample(at=20)), faults=(kill,))
    first, second = (simulate(schedule, valkey, trace=True) for _ in range(2))
    assert first.trace
    assert first == second
    assert simulate(replace(schedule, seed=6), valkey, trace=True).trace != first.trace


def test_a_seed_says_it_all_in_any_process(valkey: Valkey) -> None:
    """Other threads that are there, and how logging was configured, take no part in a schedule."""
    schedule = Schedule(seed=5, steps=400, samples=(Sample(at=0), Sample(at=20)))
    alone = simulate(schedule, valkey, trace=True)
    stop = threading.Event()

    def others() -> None:
        while not stop.is_set():
            time.sleep(0.0001)
            assert time.time() < EPOCH
            uuid.uuid4()
            random.random()  # noqa: S311 it guards nothing
            thread = threading.Thread(target=log.warning, args=("not_of_the_fleet",))
            thread.start()
            thread.join()

    configure(level="critical", style="json")
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(others)
        try:
            beside = simulate(schedule, valkey, trace=True)
        finally:
            stop.set()
        ended.result()
    assert beside == alone


def test_a_seed_says_it_all_whatever_the_order_of_sets(server_programs: None) -> None:  # noqa: ARG001 - a check
    """Two processes that iterate their sets in different orders take the same steps."""
    command = [sys.executable, "-m", "tests.simulation", "--seed", "17", "--trace"]
    processes = [
        subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, stdout=subprocess.PIPE, text=True
        )
        for seed in ("1", "2")
    ]
    first, second = (process.communicate()[0].splitlines() for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    trace = first[:-2]  # behind it are the figures, with the seconds that it took
    assert len(trace) > 1000
    assert second[:-2] == trace


def test_a_fault_is_found_and_cut_down(valkey: Valkey) -> None:
    """A schedule that cannot pass is told of, and what has no part in it is taken away."""
    doomed = Schedule(
        seed=1,
        steps=300,
        samples=(Sample(at=0, seconds=1), Sample(at=0, seconds=1), Sample(at=5, seconds=10_000)),
        faults=(Fault(at=10, kind="lose"), Fault(at=50, kind="kill", target="io@rack-1")),
        options={"hard_time_limit": 600},
    )

    def run(schedule: Schedule) -> str | None:
        # A run that ends later than all that may be waited for
        return "too long" if any(sample.seconds > 600 for sample in schedule.samples) else None

    small = shrunk(doomed, "too long", run)
    assert (small.samples, small.faults) == ((Sample(at=5, seconds=10_000),), ())
    assert simulate(replace(doomed, samples=doomed.samples[:2], faults=()), valkey).broken == ()


def test_a_schedule_is_kept_as_it_is(tmp_path: Path) -> None:
    """What is written is what is read."""
    schedule = schedule_of(7)
    path = tmp_path / "kept.json"
    path.write_text(schedule.text())
    assert Schedule.read(path) == schedule


def test_scripts_go_by_virtual_time() -> None:
    """A script that sets a time to live in an unknown way is refused, not left to the server's clock."""
    assert "sim_call('TIME')" in in_virtual_time("local now = redis.call('TIME')")
    for unknown in ("'SET', KEYS[1], 'x', 'EX', 5", "'SETEX', KEYS[1], 5, 'x'", "'GETEX', KEYS[1], 'PX', 5"):
        with pytest.raises(ValueError, match="does not know"):
            in_virtual_time(f"redis.call({unknown})")


@pytest.mark.parametrize(
    "script",
    [
        "redis.call('SET', KEY.one, ARG.value, 'PX', ARG.lasts)",
        "redis.call('SET', KEY.one, ARG.value) redis.call('PEXPIRE', KEY.one, ARG.lasts)",
        "redis.call('SET', KEY.one, ARG.value) redis.pcall('EXPIRE', KEY.one, ARG.lasts / 1000)",
    ],
)
def test_what_a_script_sets_ends_in_virtual_time(valkey: Valkey, script: str) -> None:
    """Not before its time, and not later."""
    valkey.begin(EPOCH)
    named = "local KEY, ARG = {one = KEYS[1]}, {value = ARGV[1], lasts = ARGV[2]}\n"
    valkey.client.eval(in_virtual_time(named + script), 1, "here", "kept", "5000")
    valkey.advance(EPOCH + 4.999)
    assert valkey.client.get("here") == "kept"
    valkey.advance(EPOCH + 5)
    assert valkey.client.get("here") is None
