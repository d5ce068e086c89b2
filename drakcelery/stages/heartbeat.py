"""The heartbeat of a delivery: it renews the claim in the ledger, and ends the guest when the claim is
lost."""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections.abc import Callable

import structlog
from redis.exceptions import RedisError

from drakcelery.ledger import Ledger

log = structlog.get_logger(__name__)


class Heartbeat:
    """Renews a claim while a stage is working.

    Once the ledger says that the delivery is stale (another attempt began, somebody cancelled), *stop* is
    called, and :attr:`is_stale` is true. While Redis is away the work goes on: nobody else can begin either.
    """

    def __init__(
        self,
        ledger: Ledger,
        uid: str,
        attempt: int,
        *,
        token: str,
        stop: Callable[[], None],
        heartbeats: HeartbeatThread,
    ) -> None:
        """*stop* ends the stage's work, and is called from another thread; *heartbeats* is this process'
        thread."""
        self._thread = heartbeats
        self._ledger = ledger
        self._claim = (uid, attempt, token)
        self._stop_work = stop
        self._sending = threading.Lock()
        self._over = False
        self._context = contextvars.copy_context()  # so that its lines say what they are about
        self.is_stale = False

    @property
    def pause(self) -> float:
        """Seconds between two heartbeats."""
        return self._ledger.timeouts.heartbeat

    def __enter__(self) -> Heartbeat:
        """Start the heartbeats."""
        self._thread.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the heartbeats."""
        self.end()

    def end(self) -> None:
        """Stop before the block is left; waits for a heartbeat that is being sent."""
        if not self._over:
            self._thread.remove(self)
            with self._sending:
                self._over = True

    def send(self) -> None:
        """Show life, unless the stage is done or known to be stale."""
        with self._sending:
            if not (self._over or self.is_stale):
                self._context.run(self._send)

    def _send(self) -> None:
        uid, attempt, token = self._claim
        try:
            alive = self._ledger.renew(uid, attempt, token=token)
        except RedisError as error:
            log.warning("heartbeat_unheard", error=str(error))
            return
        if not alive:
            log.warning("work_is_stale")
            self.is_stale = True
            self._stop_work()


class HeartbeatThread:
    """The one thread that sends all heartbeats of a process: most stages are over before a thread has
    started.

    It starts with the first heartbeat, and ends when there are none left. A forked process has neither its
    parent's threads nor its stages, so it begins with no heartbeats.
    """

    def __init__(self) -> None:
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._process = os.getpid()
        self._heartbeats: list[Heartbeat] = []
        self._changing = threading.Lock()
        self._runs = False

    def add(self, heartbeat: Heartbeat) -> None:
        """Send this heartbeat from now on, for the first time after its own pause."""
        if self._process != os.getpid():
            self._begin_anew()
        with self._changing:
            self._heartbeats.append(heartbeat)
            if not self._runs:
                self._runs = True
                threading.Thread(
                    target=self._run, args=(heartbeat.pause,), name="heartbeat", daemon=True
                ).start()

    def remove(self, heartbeat: Heartbeat) -> None:
        """Send this heartbeat no longer."""
        with self._changing:
            self._heartbeats.remove(heartbeat)

    def _run(self, pause: float) -> None:
        """*pause* is the same for all heartbeats of a process: they follow from its settings."""
        while True:
            time.sleep(pause)
            with self._changing:
                heartbeats = list(self._heartbeats)
                if not heartbeats:
                    self._runs = False
                    return
            for heartbeat in heartbeats:
                try:
                    heartbeat.send()
                except Exception:
                    log.exception("heartbeat_failed")  # the other stages, and those to come, need this thread
