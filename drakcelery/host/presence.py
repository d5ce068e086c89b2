"""A worker's presence on its host, reported and looked for in Redis by a thread of its main process.

It keeps the host's name for this machine, so that no other may work under it. The io worker shows life, and
the vm worker looks whether it does, since nothing else collects what guests leave. The thread lives as long
as the worker, with or without a broker, and stops when the process is frozen.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

import structlog
from redis.exceptions import RedisError

from drakcelery.errors import NameTaken, SettingsError
from drakcelery.host.lock import has_older_io_worker
from drakcelery.host.readiness import Readiness
from drakcelery.ledger.connection import CONNECT_SECONDS, connect
from drakcelery.ledger.deployment import Deployment
from drakcelery.ledger.fleet import Fleet
from drakcelery.ledger.host_names import Holder, HostNames
from drakcelery.ledger.keytypes import describe
from drakcelery.model.halt import Halt
from drakcelery.model.machine import Machine
from drakcelery.model.timeouts import Timeouts
from drakcelery.settings import Settings

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5
"""Seconds within which the vm worker sees that an io worker has started."""
NAME_SECONDS = 0.2
"""Seconds between two tries to get the host's name at the start."""
DEAF_SECONDS = 1.0
"""If there are more seconds between two answers of Redis, this is not listening."""
PATIENCE_SECONDS = 5.0
"""Workers that are started together come one after the other: a shorter halt, in seconds, is not logged."""

Role = Literal["vm", "io"]


class Presence(threading.Thread):
    """Shows that this worker is there, and looks for the other one of its host."""

    def __init__(
        self,
        settings: Settings,
        readiness: Readiness,
        role: Role,
        *,
        machine: Machine,
        give_up: Callable[[], None],
    ) -> None:
        """*readiness* is this process'; *role* is what the worker does.

        *give_up* is called if another machine has taken the name; the worker has to end then.
        """
        super().__init__(name="presence", daemon=True)
        self._host = settings.drakcelery.host
        self._state_dir = settings.drakcelery.state_dir
        self._times: Timeouts = settings.drakcelery.timeouts
        # A connection that hangs must not outlast the sign of life
        brief = settings.redis.model_copy(update={"socket_timeout": CONNECT_SECONDS})
        self._redis = connect(brief, pause=1.0)
        self._fleet = Fleet(self._redis)
        self._names = HostNames(self._redis)
        self._machine = machine
        self._give_up = give_up
        self._deployment = Deployment(self._redis, settings.drakrun.identity)
        self._name_until = 0.0
        self._lost = False
        self._readiness = readiness
        self._role = role
        self._over = threading.Event()
        self._logged: Halt | None = None
        self._logged_older = False
        self._halted_since: float | None = None

    def arrive(self) -> None:
        """Get the host's name before doing anything under it.

        A machine that was restarted, or that replaces one that died, gets the name once it has listened for
        as long as the earlier claim lasts (some seconds) and heard nothing.

        Raises:
            NameTaken: another machine has it, and is alive.
            SettingsError: another deployment is at work on this Redis.
            redis.exceptions.RedisError: Redis does not answer.
        """
        self._deployment.claim()
        first: Holder | None = None
        silent: Holder | None = None
        since = heard = time.monotonic()
        while (holder := self._claim(silent)) is not None:
            now = time.monotonic()
            if first is None:
                log.info("waits_for_name", holder=holder.machine.words)
                first = holder
            elif holder.renewed != first.renewed:
                raise NameTaken(_taken(self._host, ours=self._machine, theirs=holder.machine))
            if now - heard > DEAF_SECONDS:
                since = now  # Redis was away, so no claim could be renewed either
            heard = now
            silent = first if now - since > holder.lasts else None
            time.sleep(NAME_SECONDS)

    def _claim(self, silent: Holder | None = None) -> Holder | None:
        lasts = self._times.host
        begun = time.monotonic()
        holder = self._names.claim(self._host, self._machine, role=self._role, lasts=lasts, silent=silent)
        if holder is None:
            self._name_until = begun + lasts
        return holder

    def leave(self) -> None:
        """The worker shuts down, so nobody may count on it. Returns at once; signal handlers may call it,
        too."""
        self._over.set()

    def run(self) -> None:
        """Until :meth:`leave`."""
        while not self._over.wait(self.step()):
            pass
        try:
            if self._role == "io" and not self._lost:
                self._fleet.retire_io(self._host)
            self._names.release(self._host, self._machine, role=self._role)
        except RedisError as error:
            log.warning("left_to_expire", error=str(error))
        self._redis.close()

    def step(self) -> float:
        """Show life and look once; returns the seconds until the next time."""
        try:
            if (holder := self._claim()) is not None:
                self._lose(_taken(self._host, ours=self._machine, theirs=holder.machine))
                return self._times.report
            self._deployment.claim()
            self._readiness.note_name(ours=True)
            if self._role == "io":
                self._fleet.show_io(self._host, lasts=self._times.host)
                return self._times.report
            self._check_io()
            self._readiness.check()
        except SettingsError as error:
            self._lose(str(error))
            return self._times.report
        except RedisError as error:
            # What was known counts for a while
            log.warning("presence_unheard", error=describe(self._redis, error))
            self._readiness.note_name(ours=time.monotonic() < self._name_until)
            return min(LOOK_SECONDS, self._times.report)
        self._log_halt()
        return self._times.report if self._readiness.io_alive else LOOK_SECONDS

    def _check_io(self) -> None:
        """See whether the io worker is there: by Redis, or by its lock if its version is older."""
        shows_life = self._fleet.io_shows_life(self._host)
        is_older = not shows_life and has_older_io_worker(self._state_dir)
        if is_older and not self._logged_older:
            log.warning("io_worker_is_older", state_dir=str(self._state_dir))
            self._logged_older = True
        self._readiness.note_io(alive=shows_life or is_older, tells=not is_older)

    def _lose(self, why: str) -> None:
        """This worker was cut off, or Redis was emptied, and another machine, or deployment, is at work."""
        self._readiness.note_name(ours=False)
        log.error("worker_ousted", why=why)
        self._lost = True
        self._over.set()
        self._give_up()

    def _log_halt(self) -> None:
        """Log why the host takes nothing, and that it takes samples again."""
        halted, now = self._readiness.halted(), time.monotonic()
        if halted is None:
            self._halted_since = None
            if self._logged is not None:
                log.info("takes_samples")
                self._logged = None
            return
        self._halted_since = now if self._halted_since is None else self._halted_since
        if halted is not self._logged and now - self._halted_since >= PATIENCE_SECONDS:
            log.warning("takes_nothing", reason=halted.value, why=halted.words)
            self._logged = halted


def _taken(host: str, *, ours: Machine, theirs: Machine) -> str:
    return (
        f"the host name {host} is another machine's: {theirs.words}. This machine is {ours.words}. Give each "
        "machine a name of its own, [drakcelery] host; copies of an image have one name"
    )
