"""What has to hold after each step, and what at the end."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from drakcelery.host.workspace import Workspace
from drakcelery.model.analysis import Fault

if TYPE_CHECKING:
    from tests.simulation.objects import Stored
    from tests.simulation.world import World

_CENSUS = """
local identity, count = ARGV[1], tonumber(ARGV[2])
local queued, lines, quarantined = {}, {}, {}
for _, name in ipairs(redis.call('ZRANGE', 'drak:quarantine', 0, -1)) do
  quarantined[string.match(name, ' (.*)')] = true
end
for _, prefix in ipairs({'', 'karton.queue.high:', 'karton.queue.normal:', 'karton.queue.low:'}) do
  local queue = prefix .. identity
  for _, uid in ipairs(redis.call('LRANGE', queue, 0, -1)) do queued[uid] = (queued[uid] or 0) + 1 end
end
for _, place in ipairs(redis.call('SMEMBERS', 'drak:waiting')) do
  for _, uid in ipairs(redis.call('ZRANGE', 'drak:waiting:' .. place, 0, -1)) do
    lines[uid] = (lines[uid] or 0) + 1
  end
end
local found = {}
for number = 1, count do
  local task, uid = ARGV[2 + 2 * number - 1], ARGV[2 + 2 * number]
  local record = redis.call('HMGET', 'drak:analysis:{' .. uid .. '}',
    'task_uid', 'state', 'attempt', 'failures', 'host')
  local text = redis.call('GET', 'karton.task:' .. task)
  local status = text and (string.match(text, '"status": "(%w+)"') or '?') or ''
  local twin = string.find(redis.call('HGET', 'drak:twins:waiting', task) or '', ' ')
  local taken = redis.call('ZSCORE', 'drak:inbox', task) or redis.call('ZSCORE', 'drak:aside', task) or twin
  found[number] = {queued[task] or 0, taken and 1 or 0, lines[task] or 0,
    redis.call('ZSCORE', 'drak:live', uid) and record[1] == task and 1 or 0,
    record[1] == task and (record[2] or '') or '', record[3] or '', record[4] or '[]',
    record[5] or '', status, (quarantined[task] or quarantined[uid]) and 1 or 0}
end
return cjson.encode({found, redis.call('LRANGE', 'karton.tasks', 0, -1)})
"""
OVER = ("PUBLISHED", "FAILED", "CANCELLED")
BLAMES = (Fault.GONE.value, Fault.LOST.value)
"""Failures that say that a process or host died."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a task is."""

    task: str
    uid: str
    queued: int
    inbox: int
    lines: int
    live: int
    state: str
    """Of its record."""
    attempt: int
    failures: tuple[dict[str, object], ...]
    host: str
    """That has its current attempt."""
    status: str
    """Of its Karton task; empty if that is gone."""
    quarantined: bool

    @property
    def places(self) -> int:
        """In how many it waits or is at work."""
        return self.queued + self.inbox + self.lines + self.live

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen any more."""
        return self.places == 0 and (self.state in OVER or self.status in ("Finished", "Crashed", ""))


def _standing(uid: str, task: str, row: Sequence[Any]) -> Standing:
    """What the fleet's metrics says about a task."""
    queued, inbox, lines, live, state, attempt, failures, host, status, quarantined = row
    return Standing(
        task=task,
        uid=uid,
        queued=queued,
        inbox=inbox,
        lines=lines,
        live=live,
        state=state,
        attempt=int(attempt or 0),
        failures=tuple(json.loads(failures)),
        host=host,
        status=status,
        quarantined=bool(quarantined),
    )


@dataclass
class Invariants:
    """Compares what is with what may be."""

    world: World
    published: dict[str, str] = field(default_factory=dict)
    """Analysis task -> uid of its analysis."""
    looks: set[str] = field(default_factory=set)
    """Second looks that were published."""
    reused: int = 0
    """How many of them have the result of another."""
    _payloads: dict[str, dict[str, object]] = field(default_factory=dict)
    _blamed: set[tuple[str, int]] = field(default_factory=set)
    _told: str = ""
    """What the fleet's metrics last said, and what was made of it."""
    _standings: list[Standing] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._census = self.world.valkey.client.register_script(_CENSUS)

    def standings(self) -> list[Standing]:
        """Where each task is now."""
        world = self.world
        pairs = [text for uid in world.uids for text in (world.task_uid(uid), uid)]
        told = str(self._census(args=[world.identity, len(world.uids), *pairs]))  # one text is read fast
        if told != self._told or len(self._standings) != len(world.uids):
            rows, tasks = json.loads(told)
            self._standings = [
                _standing(uid, world.task_uid(uid), row) for uid, row in zip(world.uids, rows, strict=True)
            ]
            self._note_publications(list(tasks))
            self._told = told
        return self._standings

    def after_a_step(self) -> None:
        """A task is in one place, is published once or crashed, and nobody is blamed without a reason."""
        for one in self.standings():
            duplicated = one.uid in self.world.duplicated
            if one.places > 1 and not duplicated:
                self._break(
                    f"{one.uid} is in {one.places} places (queue {one.queued}, inbox {one.inbox}, "
                    f"lines {one.lines}, live {one.live})"
                )
            if one.places == 0 and not one.is_over:
                self._break(f"{one.uid} is nowhere (record {one.state or 'none'}, Karton says {one.status})")
            lives = sum(uid == one.uid for uid in self.published.values())
            if lives > 1:
                self._break(f"{one.uid} was published {lives} times")
            if lives and (one.status == "Crashed" or one.state == "FAILED"):
                self._break(f"{one.uid} is published and crashed")
            self._judge_blame(one)
            if one.live and one.host in self.world.hosts and self.world.is_found_dead_late(one.host):
                self._break(f"{one.uid} is still {one.host}'s, which has been dead for long")
        if self.world.guests.broken:
            self._break(self.world.guests.broken[0])

    def _judge_blame(self, one: Standing) -> None:
        for failure in one.failures:
            key = (one.uid, int(str(failure["attempt"])))
            if failure["fault"] not in BLAMES or key in self._blamed:
                continue
            self._blamed.add(key)
            host = str(failure.get("host"))
            if not self.world.was_harmed(host):
                self._break(f"{one.uid}: {failure['error']}: nothing ever happened to {host}")

    def _note_publications(self, tasks: list[str]) -> None:
        known = {task: self.published[task] for task in tasks if task in self.published}
        for task in tasks:
            if task not in known:
                text = self.world.valkey.client.get(f"karton.task:{task}")
                fields = json.loads(str(text))
                known[task] = fields["payload"]["analysis_uid"]
                self._payloads[known[task]] = fields["payload"]
                self._check_evidence(known[task], fields["payload"])
                self._note_looks(known[task])
                self._check_look(known[task], fields)
                self._check_reuse(known[task], fields)
        self.published = known

    def _check_evidence(self, uid: str, payload: dict[str, object]) -> None:
        """What is published is there, and is whole, and is of one attempt."""
        objects = self.world.objects.buckets.get("drakrun", {})
        if "procmon.log" not in payload:
            self._break(f"{uid} is published without the log of its run")
            return
        log = objects.get(f"{uid}/procmon.log")
        lines = log.data.decode().splitlines() if log is not None else []
        attempts = {json.loads(line)["Attempt"] for line in lines}
        if len(lines) != 3 or len(attempts) != 1:
            self._break(f"{uid} is published with a log that is not whole")
        self._check_dumps(uid, objects, attempts)

    def _note_looks(self, uid: str) -> None:
        """The second look that the publication of *uid* granted is a task like others from now on."""
        links = self.world.valkey.client.hget(f"drak:analysis:{{{uid}}}", "variants")
        for look in str(links or "").split():
            self.world.grant(look, uid)
        root = self.world.root_of(uid)
        granted = [look for look, first in self.world.looks.items() if first == root]
        if len(granted) > self.world.most_looks(root):
            self._break(f"{root} has {len(granted)} second looks")

    def _check_look(self, uid: str, task: dict[str, Any]) -> None:
        """A second look has a published first one, is for the same people, and has a run of its own."""
        first, metadata = self.world.looks.get(uid), task["payload"]["metadata"]
        if (said := metadata.get("variant_of")) != first:
            self._break(f"{uid} is published as the second look at {said}, not {first}")
        if first is None:
            return
        self.looks.add(uid)
        if first not in self.published.values() and not self.world.fell_back:
            self._break(f"{uid} is a second look at {first}, which is not published")
        if task["headers"].get("owner", "") != self.world.samples[first].owner:
            self._break(f"{uid} is not for those who may see {first}")
        if metadata.get("reused_from") is not None:
            self._break(f"{uid} has the result of another instead of a run")

    def _check_reuse(self, uid: str, task: dict[str, Any]) -> None:
        """A result is given only to who agrees to it and may see the first; each has a task of its own."""
        origin = task["payload"]["metadata"].get("reused_from")
        root = self.world.root_of(uid)
        if task["root_uid"] != root or not str(task["parent_uid"]).endswith(f":{uid}"):
            self._break(f"{uid} is published with the root or the parent of another")
        if origin is None:
            return
        self.reused += 1
        ours, first = self.world.samples[uid], self.world.samples[origin]
        if not ours.reuse or ours.owner != first.owner or task["headers"].get("owner", "") != ours.owner:
            self._break(f"{uid} has the result of {origin}, which it may not have")
        if not any(one == origin for one in self.published.values()) and not self.world.fell_back:
            self._break(f"{uid} has the result of {origin}, which is not published")

    def _check_dumps(self, uid: str, objects: dict[str, Stored], attempts: set[str]) -> None:
        """The dumps are those of the run that the log is of."""
        dumps = objects.get(f"{uid}/dumps.zip")
        if dumps is None:
            self._break(f"{uid} is published without its dumps")
            return
        with zipfile.ZipFile(io.BytesIO(dumps.data)) as archive:
            made_by = {archive.read(name).decode() for name in archive.namelist()}
        if made_by != attempts:
            self._break(
                f"{uid} is published with the log of {sorted(attempts)} and dumps of {sorted(made_by)}"
            )

    def at_rest(self) -> list[str]:
        """What is left though nothing is at work; empty if all is as it should be."""
        left, world = [], self.world
        if not world.objects.were_removed:
            for uid in self.published.values():
                self._check_evidence(uid, self._payloads[uid])  # nobody has changed it since
        # What is set aside in quarantine may stay so for minutes
        keys: tuple[str, ...] = (
            "drak:inbox",
            "drak:live",
            "drak:due",
            "drak:inflight",
            "drak:waiting",
            "drak:twins",
        )
        if not world.fell_back:
            keys = (*keys, "drak:twins:waiting")
        left += [f"the key {key}" for key in keys if world.valkey.client.exists(key)]
        live = set(world.valkey.client.zrange("drak:live", 0, -1))
        if live and live <= world.foreign:  # and so they are counted
            left = [one for one in left if one not in ("the key drak:live", "the key drak:inflight")]
        for host in world.hosts.values():
            if host.is_lost or any(unit.is_down and unit.host is host for unit in world.units):
                continue  # nobody is there who could clear up
            if world.schedule.twin and host.called == "rack-1":
                continue  # one of the two may not start
            left += [
                f"a guest in {key[1]} of {host.name}"
                for key, guest in world.guests.running.items()
                if key[0] == host.name and not self._is_kept(guest.uid)
            ]
            left += [
                f"the workspace {workspace.root.name} on {host.name}"
                for workspace, uid, _ in Workspace.all(host.state_dir)
                if not self._is_kept(uid)
            ]
        return left

    def _is_kept(self, uid: str) -> bool:
        """What a Redis that fell back knows nothing of is kept for a day, should its data come back."""
        return self.world.fell_back and not self.world.valkey.client.exists(f"drak:analysis:{{{uid}}}")

    def _break(self, what: str) -> None:
        if what not in self.world.broken:
            self.world.broken.append(what)
