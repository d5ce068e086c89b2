"""What drakcelery costs while there is nothing to do: one host with two slots, no sample.

CPU of each process with all that belongs to it, and the commands that each sends to Valkey.
Flower is left out: it costs what its visitors ask for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from benchmarks.measuring import Result
from benchmarks.stacks import NoOpStack, no_op_stack

SLOTS = 2
SECONDS = {True: 10.0, False: 60.0}
"""By ``quick``."""
SETTLE_SECONDS = 5.0
"""A stack that has just started has things to do."""
OURS = ("vm", "io", "ingress")
HOST = ("vm", "io")
"""What each host has; ingress is there once, or a few times."""


def measure(*, quick: bool) -> list[Result]:
    """CPU of each of our processes, and Redis commands of a host and of the rest."""
    with no_op_stack(slots=SLOTS) as stack:
        time.sleep(SETTLE_SECONDS)
        before, begun = _cpu(stack), time.monotonic()
        commands = stack.commands_of(lambda: time.sleep(SECONDS[quick]))
        passed = time.monotonic() - begun
        spent = {name: (after - before[name]) / passed for name, after in _cpu(stack).items()}
    sent: dict[str, float] = dict.fromkeys(OURS, 0.0)
    for (owner, _), number in commands.items():
        sent[owner] = sent.get(owner, 0.0) + number / passed
    return [
        *(_row(f"idle CPU, {name}", "% of a core", 100 * spent[name]) for name in OURS),
        _row("idle Redis commands of a host", "commands/s", sum(sent[name] for name in HOST)),
        *(
            _row(f"idle Redis commands of {name}", "commands/s", sent[name])
            for name in OURS
            if name not in HOST
        ),
    ]


def _row(name: str, unit: str, ours: float) -> Result:
    return Result(name=name, unit=unit, ours=ours, runs=1, less_is_better=True)


def _cpu(stack: NoOpStack) -> Mapping[str, float]:
    """CPU seconds of each process so far."""
    return {
        name: sum(sum(process.cpu_times()[:2]) for process in processes)
        for name, processes in stack.processes().items()
    }
