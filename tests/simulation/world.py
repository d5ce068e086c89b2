"""What befalls a fleet."""

from __future__ import annotations

from dataclasses import replace

from karton.core import Task
from karton.core.backend import KartonBackendBase
from karton.core.task import TaskPriority
from redis.exceptions import RedisError

from tests.simulation import contents
from tests.simulation.fleet import Fleet
from tests.simulation.machines import SERVICES, Host
from tests.simulation.schedule import Sample, Schedule
from tests.simulation.theatre import Actor, Process
from tests.simulation.valkey import Valkey

RECOVERY = 60.0
"""Virtual seconds, beside the runs' own, within which all is over once nothing goes wrong any more."""


class World(Fleet):
    """A fleet, and what may happen to it."""

    def __init__(self, schedule: Schedule, valkey: Valkey, *, trace: bool = False) -> None:
        super().__init__(schedule, valkey, trace=trace)
        self.theatre.ended = self._ended
        self.harms: dict[str, float] = {}
        self.disturbed = self.theatre.now
        """When something last went wrong that may keep the dead from being found."""
        self.duplicated: set[str] = set()
        self.foreign: set[str] = set()
        """uids of records that are none of ours."""
        self.cancelled: set[str] = set()
        self.traps: dict[str, str] = {}
        """Failpoint -> what is to die with whoever reaches it first."""
        self.kept = self.fell_back = False
        """Whether there is a state of Redis to go back to."""

    def reach(self, point: str, uid: str) -> None:
        """Stands for :func:`drakcelery.failpoints.reach`: a cut, and where some samples kill their
        process."""
        self.theatre.cut(point)
        if self.theatre.current is None:
            return
        process, sample = self.theatre.process, self.samples.get(uid)
        action = "child" if sample is not None and sample.kills_at == point else self.traps.pop(point, None)
        if action is None:
            return
        self.note(f"TRAP {point} {action}")
        if action == "power" and process.host is not None:
            self.power_off(self.hosts[process.host], 5.0)
        else:
            self.kill(process if action == "child" else process.root)
        self.theatre.cut("dead")

    def processes(self) -> list[Process]:
        """All that live, children included."""
        mains = [unit.process for unit in self.units if unit.process is not None and unit.process.alive]
        return [one for main in mains for one in (main, *(child for child in main.children if child.alive))]

    def kill(self, process: Process) -> None:
        """kill -9, of its children too."""
        self.harm(process.host or process.name)
        self.theatre.kill(process)

    def freeze(self, process: Process, seconds: float) -> None:
        """It gets no processor time."""
        self.harm(process.host or process.name)
        process.frozen_until = self.theatre.now + seconds

    def cut(self, machine: str, service: str, seconds: float) -> None:
        """Nothing gets from *machine* (``*``: from any) to *service*."""
        self.cuts.until[machine, service] = self.theatre.now + seconds

    def slow(self, seconds: float, *, each: float) -> None:
        """Each request to S3 takes *each* seconds, for a while."""
        self.cuts.slow_until, self.cuts.slowness = self.theatre.now + seconds, each

    def power_off(self, host: Host, seconds: float) -> None:
        """Processes, guests and what is not on the disk are gone; forever where *seconds* is 0."""
        self.harm(host.name)
        host.off_since = self.theatre.now
        host.boots += 1
        host.off_until = max(host.off_until, self.theatre.now + seconds if seconds else float("inf"))
        if not self.is_any_whole():
            host.off_until = self.theatre.now + 30
        for unit in self.units:
            if unit.host is host and unit.process is not None:
                self.theatre.kill(unit.process)
        self.guests.lose_power(host.name)
        self.disk.lose_power(host.state_dir, self.chance)

    def is_any_whole(self, *, beside: Host | None = None) -> bool:
        """Whether a host, *beside* that one, can do all the work once nothing goes wrong any more."""
        maimed = {unit.host.name for unit in self.units if unit.host is not None and unit.is_down}
        others = [host for host in self.hosts.values() if host is not beside]
        return any(not host.is_lost and host.name not in maimed for host in others)

    def power_off_everything(self, seconds: float) -> None:
        """A site without power; its parts come back one after the other, in an order of chance."""
        for host in self.hosts.values():
            self.power_off(host, self.chance.uniform(1, seconds + 1))
        for unit in self.units:
            if unit.host is None and unit.process is not None:
                self.theatre.kill(unit.process)
                unit.restart_at = self.theatre.now + self.chance.uniform(1, seconds + 1)
        self.network.starts += 1
        self.broker.starts += 1
        for service in SERVICES:
            self.cut("*", service, self.chance.uniform(1, seconds + 1))

    def fail_over(self) -> None:
        """Redis goes back to what its replica has."""
        if self.kept:
            self.network.starts += 1
            self.fell_back = True
            self.valkey.go_back()
            for host in self.hosts:
                self.harm(host)

    def harm(self, machine: str) -> None:
        """Note that what runs on *machine* may rightly be considered dead."""
        self.harms[machine] = self.theatre.now
        if machine in self.hosts:
            self.harms[self.hosts[machine].called] = self.theatre.now

    def was_harmed(self, machine: str) -> bool:
        """Whether anything ever happened to it."""
        return machine in self.harms

    def cancel(self, uid: str) -> bool:
        """karton-dashboard writes FINISHED."""
        key = f"karton.task:{self.task_uid(uid)}"
        text = self.valkey.client.get(key)
        if text is None or self.samples[uid].content != "plain":
            return False
        task = Task.unserialize(str(text))
        if task.status.value in ("Finished", "Crashed"):
            return False
        self.cancelled.add(uid)
        self.valkey.client.set(key, str(text).replace(f'"{task.status.value}"', '"Finished"'))
        return True

    def grant(self, look: str, first: str) -> None:
        """The publication of *first* has declared a second look."""
        if look not in self.looks:
            self.uids.append(look)
            self.looks[look] = first
            self.samples[look] = replace(self.samples[first], content="plain", variants=0)

    def most_looks(self, root: str) -> int:
        """How many second looks a root may have."""
        asked = self.samples[root].variants
        return self.schedule.looks if asked is None else min(asked, self.schedule.looks)

    def submit(self, number: int, sample: Sample) -> None:
        """A task comes in."""
        uid = f"s-{number}"
        self.uids.append(uid)
        self.samples[uid] = sample
        if sample.content.startswith("last_update"):
            self.duplicated.add(uid)  # it looks orphaned, and may be adopted from under its queue
        text = contents.task_text(uid, sample)
        self.valkey.client.set(f"karton.task:{self.task_uid(uid)}", text)
        self.queue(uid)

    def queue(self, uid: str) -> None:
        """Put a task on Karton's queue."""
        queue = KartonBackendBase.get_queue_name(self.identity, TaskPriority.NORMAL)
        self.valkey.client.rpush(queue, self.task_uid(uid))

    def _ended(self, actor: Actor) -> None:
        """Where it was that of a main process, systemd starts it again."""
        process, error = actor.process, actor.error
        if error is not None:
            self.note(f"{actor.name} ended by {error!r}")
        if actor.name != process.root.name or not process.alive:
            return
        # A worker ends where its start fails, an ingress also with the connection
        if error is not None and not isinstance(error, SystemExit | RedisError):
            self.broken.append(f"{actor.name} ended by {error!r}")
        self.theatre.kill(process)

    def is_found_dead_late(self, name: str) -> bool:
        """Whether a host has been dead for longer than it may take to find out, and nothing hid it."""
        host, now = self.hosts[name], self.theatre.now
        if host.off_until <= now or self.schedule.twin:
            return False
        others = [unit for unit in self.units if unit.host is not host]
        all_there = all(unit.process is not None and unit.process.alive for unit in others)
        # Where no other host could go on with it, the work waits for this one, or until another is back
        back = min((other.off_until for other in self.hosts.values() if other is not host), default=now)
        return all_there and now - max(host.off_since, self.disturbed, back) > RECOVERY

    def is_disturbed(self) -> bool:
        """Whether something is wrong that will end by itself."""
        now = self.theatre.now
        until = [*self.cuts.ends(), *(host.off_until for host in self.hosts.values())]
        return any(now < at < float("inf") for at in until)
