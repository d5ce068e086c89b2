"""What an analysis costs Redis: commands, bytes and CPU, without what is sent when there is nothing to do.

A command is what a client sends; what scripts call inside Redis is told apart. Karton's part is in it:
karton-system, and the benchmark itself as producer and consumer (``others``).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, TypeVar, cast

from benchmarks.bridge import OURS_IN, RECEIVER
from benchmarks.measuring import Result
from benchmarks.stacks import NoOpStack, Receiver, Sender, no_op_stack

SLOTS = 4
SAMPLES = {True: 30, False: 200}
"""By ``quick``."""
IDLE_SECONDS = {True: 4.0, False: 30.0}
SHOWN = 0.05
"""What is counted less often for an analysis is noise."""
BYTES, MICROSECONDS = "bytes", "µs"

Name = TypeVar("Name", bound=Hashable)


def measure(*, quick: bool) -> list[Result]:
    """Commands, bytes and microseconds for an analysis."""
    number, idle = SAMPLES[quick], partial(time.sleep, IDLE_SECONDS[quick])
    with no_op_stack(slots=SLOTS) as stack:
        sender, receiver = Sender(stack), Receiver(stack, identity=RECEIVER, headers=stack.sent)
        analyse = partial(_analyse, sender, receiver, number)
        analyse()  # in each process once: connections, scripts
        load = _beyond_idle(partial(_load_of, stack), analyse, idle, number)
        commands = _beyond_idle(stack.commands_of, analyse, idle, number)
    inside = sum(count for (owner, _), count in commands.items() if owner == "script")
    _show(commands)
    return [
        _row("Redis commands per analysis", "commands", sum(commands.values()) - inside, number),
        _row("Redis commands of scripts per analysis", "commands", inside, number),
        _row("Redis bytes per analysis", "bytes", load[BYTES], number),
        _row("Redis CPU per analysis", "µs", load[MICROSECONDS], number),
    ]


def _row(name: str, unit: str, ours: float, runs: int) -> Result:
    return Result(name=name, unit=unit, ours=ours, runs=runs, less_is_better=True)


def _analyse(sender: Sender, receiver: Receiver, number: int) -> None:
    for _ in range(number):
        sender.send(OURS_IN)
    receiver.take(number)


def _beyond_idle(
    count: Callable[[Callable[[], object]], Counter[Name]],
    work: Callable[[], object],
    idle: Callable[[], object],
    number: int,
) -> dict[Name, float]:
    """What *count* finds in *work*, less what it finds in as long a time of nothing, for one of *number*."""
    spent, seconds = _timed(count, work)
    nothing, idle_seconds = _timed(count, idle)
    return {
        name: (spent[name] - nothing[name] * seconds / idle_seconds) / number
        for name in spent.keys() | nothing.keys()
    }


def _timed(
    count: Callable[[Callable[[], object]], Counter[Name]], work: Callable[[], object]
) -> tuple[Counter[Name], float]:
    begun = time.monotonic()
    found = count(work)
    return found, time.monotonic() - begun


def _load_of(stack: NoOpStack, work: Callable[[], object]) -> Counter[str]:
    """Bytes in and out, and µs of the server, that *work* costs."""
    before = _load(stack)
    work()
    return Counter({name: after - before[name] for name, after in _load(stack).items()})


def _load(stack: NoOpStack) -> dict[str, int]:
    stats = cast("dict[str, int]", stack.ledger._redis.info("stats"))  # noqa: SLF001 what a benchmark counts
    commands = cast("dict[str, dict[str, Any]]", stack.ledger._redis.info("commandstats"))  # noqa: SLF001 what a benchmark counts
    return {
        BYTES: stats["total_net_input_bytes"] + stats["total_net_output_bytes"],
        MICROSECONDS: sum(int(one["usec"]) for one in commands.values()),
    }


def _show(commands: Mapping[tuple[str, str], float]) -> None:
    for owner in sorted({owner for owner, _ in commands}):
        mine = {name: count for (other, name), count in commands.items() if other == owner and count > SHOWN}
        words = ", ".join(
            f"{name} {mine[name]:.1f}" for name in sorted(mine, key=mine.__getitem__, reverse=True)
        )
        print(f"Redis, for an analysis, {owner} ({sum(mine.values()):.1f}): {words}")
