"""What can go wrong, and how a seed becomes a schedule."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, cast

from redis.exceptions import BusyLoadingError, ReadOnlyError

from drakcelery.failpoints import POINTS, REUSE_POINTS
from tests.simulation import contents
from tests.simulation.contents import ODD
from tests.simulation.schedule import Fault, Sample, Schedule

if TYPE_CHECKING:
    from tests.simulation.world import World

SERVICES = ("redis", "broker", "s3")
DEADLY = tuple(point for point in POINTS if point.startswith(("run.", "collect.", "upload.")))

T = TypeVar("T")


def _picked(among: Sequence[T], fault: Fault) -> T:
    """One of them; the last as well where *pick* was rounded up to 1."""
    return among[min(int(fault.pick * len(among)), len(among) - 1)]


def _kill(world: World, fault: Fault) -> bool:
    """One process, main or of a pool, or the *target*."""
    alive = [one for one in world.processes() if one.name == fault.target or not fault.target]
    if not alive:
        return False
    world.kill(_picked(alive, fault))
    return True


def _trap(world: World, fault: Fault) -> bool:
    """Whoever reaches a failpoint first dies there, as *target* says: ``collect.entered worker``."""
    point, action = fault.target.split()
    world.traps[point] = action
    return True


def _freeze(world: World, fault: Fault) -> bool:
    """A process tree gets no processor time."""
    roots = [one for one in world.processes() if one.parent is None and fault.target in ("", one.name)]
    if not roots:
        return False
    world.freeze(_picked(roots, fault), fault.seconds)
    return True


def _unit_down(world: World, fault: Fault) -> bool:
    """A unit is dead and stays so; there is another host."""
    units = [
        unit for unit in world.units if unit.name == fault.target and world.is_any_whole(beside=unit.host)
    ]
    for unit in units:
        unit.is_down = True
        if unit.process is not None:
            world.kill(unit.process)
    return bool(units)


def _power(world: World, fault: Fault) -> bool:
    """A host has no power for a while; forever where *seconds* is 0."""
    hosts = [host for host in world.hosts.values() if fault.target in ("", host.name)]
    world.power_off(_picked(hosts, fault), fault.seconds)
    return True


def _site(world: World, fault: Fault) -> bool:
    """Everything has no power for a while; who is back first the schedule decides."""
    world.power_off_everything(fault.seconds)
    return True


def _outage(world: World, fault: Fault) -> bool:
    """A service is away for all."""
    for service in fault.target.split("+"):
        world.cut("*", service, fault.seconds)
    return True


def _edge(world: World, fault: Fault) -> bool:
    """A service is away for one machine."""
    machines = [*world.hosts, *(unit.name for unit in world.units if unit.host is None)]
    machine = _picked(machines, fault)
    for service in SERVICES if fault.target == "all" else (fault.target,):
        world.cut(machine, service, fault.seconds)
    world.harm(machine)
    return True


def _slow(world: World, fault: Fault) -> bool:
    """Each request to S3 takes long."""
    world.slow(fault.seconds, each=10.0)
    return True


def _flush(world: World, fault: Fault) -> bool:  # noqa: ARG001 all of them have the same arguments
    """The broker forgets all messages."""
    world.broker.flush()
    return True


def _lose(world: World, fault: Fault) -> bool:
    """A message is lost."""
    return world.broker.lose(int(fault.pick * 1000))


def _duplicate(world: World, fault: Fault) -> bool:
    """A message is there twice."""
    return world.broker.duplicate(int(fault.pick * 1000))


def _lose_answer(world: World, fault: Fault) -> bool:
    """What somebody asks Redis next is done, and the answer lost."""
    actors = [actor for actor in world.theatre.actors if actor.process.alive]
    if not actors:
        return False
    _picked(actors, fault).lose_answer = True
    return True


def _clock(world: World, fault: Fault) -> bool:
    """A host's clock jumps by *seconds*."""
    names = list(world.hosts)
    name = _picked(names, fault)
    world.theatre.offsets[name] = world.theatre.offsets.get(name, 0.0) + fault.seconds
    return True


def _failover(world: World, fault: Fault) -> bool:  # noqa: ARG001
    """Redis is back at the state of a while ago: a replica that was behind has taken over."""
    world.fail_over()
    return True


def _cancel(world: World, fault: Fault) -> bool:
    """karton-dashboard cancels a task."""
    return bool(world.uids) and world.cancel(_picked(world.uids, fault))


def _foreign(world: World, fault: Fault) -> bool:
    """A live record that a newer version wrote, or that nobody can read."""
    uid, fields = contents.foreign_record(int(fault.pick * 1000), world.theatre.now)
    world.foreign.add(uid)
    for name, value in fields.items():
        world.valkey.client.hset(f"drak:analysis:{{{uid}}}", name, value)
    world.valkey.client.zadd("drak:live", {uid: world.theatre.now})
    return True


def _older_record(world: World, fault: Fault) -> bool:
    """A live record becomes what the first version would have written: half the fleet was of it until now."""
    client = world.valkey.client
    live = [uid for uid in world.uids if client.zscore("drak:live", uid) is not None]
    if not live or world.schedule.twin:  # whose machine it is, that version did not note
        return False
    key = f"drak:analysis:{{{_picked(live, fault)}}}"
    changed, gone = contents.older_record(cast("dict[str, str]", client.hgetall(key)))
    for name, value in changed.items():
        client.hset(key, name, value)
    for name in gone:
        client.hdel(key, name)
    return True


def _strange_host(world: World, fault: Fault) -> bool:
    """A host reports itself in a way that nobody understands."""
    texts = ("{", "[]", '{"host": 5}', '{"host": "odd", "engine": "x", "slots": [{"name": "vm-1"}]}')
    world.valkey.client.set("drak:host:odd", _picked(texts, fault))
    world.valkey.client.zadd("drak:fleet", {"default@odd": world.theatre.now})
    return True


def _twice(world: World, fault: Fault) -> bool:
    """A task is on Karton's queue once more."""
    if not world.uids:
        return False
    uid = _picked(world.uids, fault)
    world.duplicated.add(uid)
    world.queue(uid)
    return True


def _no_object(world: World, fault: Fault) -> bool:
    """Somebody removes a sample, or the bucket of the artifacts."""
    if fault.pick < 0.5:
        world.objects.buckets["karton"].pop("sample", None)
    else:
        world.objects.buckets.pop("drakrun", None)
        world.objects.were_removed = True
    return True


def _refuse_writes(world: World, fault: Fault) -> bool:
    """Redis takes no writes: it was demoted to a replica, or loads its data."""
    errors = (
        ReadOnlyError("You can't write against a read only replica."),
        BusyLoadingError("Redis is loading the dataset in memory"),
    )
    world.network.refuses = _picked(errors, fault)
    world.network.refuses_until = world.theatre.now + fault.seconds
    return True


FAULTS: dict[str, Callable[[World, Fault], bool]] = {
    "kill": _kill,
    "trap": _trap,
    "freeze": _freeze,
    "unit down": _unit_down,
    "power": _power,
    "site": _site,
    "outage": _outage,
    "edge": _edge,
    "slow s3": _slow,
    "flush": _flush,
    "lose": _lose,
    "duplicate": _duplicate,
    "lose answer": _lose_answer,
    "clock": _clock,
    "failover": _failover,
    "cancel": _cancel,
    "foreign record": _foreign,
    "older record": _older_record,
    "strange host": _strange_host,
    "twice": _twice,
    "no object": _no_object,
    "no writes": _refuse_writes,
}
"""Each says whether there was anything to hit."""
COMMON = ("kill", "trap", "trap", "freeze", "power", "edge", "outage", "lose", "duplicate", "lose answer")
RARE = (
    *("site", "slow s3", "flush", "clock", "failover", "cancel", "unit down"),
    *("foreign record", "older record", "strange host", "twice", "no object", "no writes"),
)
ACTIONS = ("child", "worker", "power")


def schedule_of(
    seed: int, *, steps: int = 600, without: frozenset[str] = frozenset(), odd: bool = True
) -> Schedule:
    """The schedule of a seed; *without*: kinds of faults that are left out."""
    chance = random.Random(seed)  # noqa: S311 it guards nothing
    hosts = chance.choice((1, 2, 2, 3))
    samples = tuple(_sample(chance, steps, odd=odd) for _ in range(chance.randint(1, 6)))
    kinds = [kind for kind in COMMON * 2 + RARE if kind not in without]
    faults = tuple(_fault(chance, steps, chance.choice(kinds), hosts) for _ in range(chance.randint(0, 6)))
    if hosts > 1 and "slow s3" not in without and chance.random() < 0.05:
        faults = _slow_beside_dead(chance)
    slots, ingresses = chance.randint(1, 2), chance.choice((1, 1, 2))
    twin = chance.random() < 0.1
    if chance.random() < 0.5:
        samples = tuple(_reusing(chance, one) for one in samples)
    if looks := chance.choice((0, 0, 1, 2)):
        samples = tuple(replace(one, variants=chance.choice((None, None, 0, looks))) for one in samples)
    return Schedule(
        seed=seed,
        steps=steps,
        hosts=hosts,
        slots=slots,
        ingresses=ingresses,
        looks=looks,
        twin=twin,
        samples=tuple(sorted(samples, key=lambda one: one.at)),
        faults=tuple(sorted(faults, key=lambda one: one.at)),
    )


def _slow_beside_dead(chance: random.Random) -> tuple[Fault, ...]:
    """Storage is slow for long, and then a host dies: two things that seldom meet by chance."""
    at = chance.randint(100, 500)
    power = Fault(at=at, kind="power", target="rack-1")
    return Fault(at=at - 50, kind="slow s3", seconds=300.0), power


def _sample(chance: random.Random, steps: int, *, odd: bool) -> Sample:
    is_odd = odd and chance.random() < 0.2
    deadly = odd and chance.random() < 0.05
    return Sample(
        at=int(chance.random() ** 2 * steps * 0.8),
        seconds=round(chance.uniform(1, 60) if chance.random() < 0.3 else chance.uniform(1, 15), 1),
        content=chance.choice(list(ODD)) if is_odd else "plain",
        kills_at=chance.choice(DEADLY) if deadly else None,
    )


def _reusing(chance: random.Random, sample: Sample) -> Sample:
    """Most samples of a schedule agree to reuse, or none does; not all may be seen by the same people."""
    return replace(sample, reuse=chance.choice((0, 3600, 3600, 3600)), owner=chance.choice(("", "", "cert")))


def _fault(chance: random.Random, steps: int, kind: str, hosts: int) -> Fault:
    target, seconds = "", round(chance.choice((3.0, 30.0, 100.0)) * chance.random(), 1)
    if kind in ("outage", "edge"):
        target = chance.choice((*SERVICES, "redis+broker" if kind == "outage" else "all"))
    if kind == "trap":
        target = f"{chance.choice((*POINTS, *REUSE_POINTS))} {chance.choice(ACTIONS)}"
    if kind == "unit down":
        # One host stays whole
        target = f"{chance.choice(('vm', 'io'))}@rack-{chance.randint(1, hosts - 1)}" if hosts > 1 else ""
    if kind == "power" and chance.random() < 0.2:
        seconds = 0.0
    if kind == "clock":
        seconds = chance.choice((-36000.0, -60.0, 60.0, 36000.0))
    return Fault(
        at=int(chance.random() * steps),
        kind=kind,
        target=target,
        pick=round(chance.random(), 4),
        seconds=seconds,
    )
