"""What the bridge costs: analyses of nothing, beside a trivial Karton consumer and bare task queues.

All work on the same Valkey and SeaweedFS, in turn. Ours fetches a sample of 1 KB, does all five stages,
stores nine objects (the log of 1 KB, an empty ``dumps.zip``, report, process tree, ``metadata.json``, our own
log, the sample and both tasks) and sends the analysis task; the Karton pair fetches the sample, stores one
object and sends one task; the task queues run five empty jobs. In bulk means: all are sent at once, and the
last is waited for. The sample is stored once, before that; sender and receiver are the same for ours and the
Karton pair.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import redis

from benchmarks import bridge_peers as peers
from benchmarks.measuring import Result, in_turn, medians, seconds
from benchmarks.processor_time import Meter, spent_rows
from benchmarks.stacks import PATIENCE, NoOpStack, Receiver, Sender, no_op_stack

SLOTS = 8
OURS_IN = {"type": "sample", "stage": "recognized", "platform": "win32", "extension": "bat"}
RECEIVER = "karton.bench-reader"
NAMES = {
    "karton": "trivial Karton consumer",
    "celery": "bare Celery chain of five",
    "rq": "RQ, five jobs",
    "dramatiq": "dramatiq pipeline of five",
}
SAMPLES = {"rq": 8}
"""In bulk, where not :data:`MANY`."""
MANY = {True: 32, False: 200}
"""By ``quick``."""
RUNS = {True: 2, False: 5}
ONES = {True: 10, False: 40}
"""How many go through alone, for the latency."""


@dataclass(frozen=True, kw_only=True)
class Road:
    """Something that takes samples, or what stands for them, to their end."""

    send: Callable[[], object]
    take: Callable[[int], None]
    """Wait until so many are through."""

    def rate(self, number: int) -> float:
        """So many at once; how many went through in a second."""
        return number / seconds(lambda: self._pass(number))

    def latency(self) -> float:
        """One alone; ms from before it is sent until it is through."""
        return seconds(lambda: self._pass(1)) * 1000

    def _pass(self, number: int) -> None:
        for _ in range(number):
            self.send()
        self.take(number)


def measure(*, quick: bool) -> list[Result]:
    """Rate in bulk, latency alone and processor time, of ours and of the peers."""
    with no_op_stack(slots=SLOTS) as stack, contextlib.ExitStack() as running:
        pids = {peer: running.enter_context(_worker(peer, stack)) for peer in NAMES}
        stack.wait_bound(peers.TrivialConsumer.identity)
        roads = {"ours": _ours(stack), **_peers(stack)}
        for road in roads.values():
            road.rate(2)  # everything is up, connected and imported
        roads["ours"].rate(2 * SLOTS)  # in each of its processes
        peer_of = {"ours": "karton", "karton": "karton", "celery": "celery"}
        meters = {name: Meter(stack, peer=pids[peer]) for name, peer in peer_of.items()}
        rates = medians(in_turn(_rates(roads, meters, MANY[quick]), runs=RUNS[quick]))
        alone = {name: [road.latency() for _ in range(ONES[quick])] for name, road in roads.items()}
    return [
        *_rate_rows(rates, RUNS[quick]),
        *_latency_rows(medians(alone), ONES[quick]),
        *spent_rows({name: meter.readings for name, meter in meters.items()}, MANY[quick], NAMES),
    ]


def _rates(
    roads: Mapping[str, Road], meters: Mapping[str, Meter], many: int
) -> dict[str, Callable[[], float]]:
    def rate_of(name: str) -> Callable[[], float]:
        def rate() -> float:
            with meters[name].reading() if name in meters else contextlib.nullcontext():
                return roads[name].rate(SAMPLES.get(name, many))

        return rate

    return {name: rate_of(name) for name in roads}


def _rate_rows(rates: Mapping[str, float], runs: int) -> list[Result]:
    return [
        Result(
            name="bridge rate",
            unit="analyses/s",
            ours=rates["ours"],
            peer=rates[peer],
            peer_name=title,
            runs=runs,
        )
        for peer, title in NAMES.items()
    ]


def _latency_rows(alone: Mapping[str, float], runs: int) -> list[Result]:
    rows = [
        Result(
            name="bridge latency p50",
            unit="ms",
            ours=alone["ours"],
            peer=alone[peer],
            peer_name=title,
            runs=runs,
            less_is_better=True,
        )
        for peer, title in NAMES.items()
    ]
    added = alone["ours"] - alone["karton"]
    more = Result(name="bridge added latency p50", unit="ms", ours=added, runs=runs, less_is_better=True)
    return [*rows, more]


def _ours(stack: NoOpStack) -> Road:
    return _karton_road(
        stack,
        wanted=OURS_IN,
        sent=stack.sent,
        receiver=RECEIVER,
    )


def _karton_road(
    stack: NoOpStack, *, wanted: Mapping[str, str], sent: Mapping[str, str], receiver: str
) -> Road:
    receive, sender = Receiver(stack, identity=receiver, headers=sent), Sender(stack)
    return Road(send=lambda: sender.send(wanted), take=receive.take)


def _peers(stack: NoOpStack) -> dict[str, Road]:
    pair = _karton_road(stack, wanted=peers.WANTED, sent=peers.SENT, receiver="karton.bench-end")
    queues = {
        peer: Road(send=sender(peers.address(peer, stack.settings)), take=_listed(peer, stack))
        for peer, sender in peers.SENDERS.items()
    }
    return {"karton": pair, **queues}


def _listed(peer: str, stack: NoOpStack) -> Callable[[int], None]:
    """Waits for elements of the list on which the last jobs report."""
    client = redis.Redis.from_url(peers.address(peer, stack.settings))

    def take(number: int) -> None:
        for _ in range(number):
            if cast("object", client.blpop([peers.DONE], timeout=PATIENCE)) is None:
                raise TimeoutError(f"the jobs of {peer} were not done")

    return take


@contextlib.contextmanager
def _worker(peer: str, stack: NoOpStack) -> Iterator[int]:
    """A peer's process; gives its pid."""
    # Not by -m: RQ looks its jobs up in the module, not in the program
    program = "import sys; from benchmarks.bridge_peers import main; main(*sys.argv[1:])"
    command = (sys.executable, "-c", program, peer, str(stack.settings.source))
    with (stack.directory / f"{peer}.log").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
