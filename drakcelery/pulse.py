"""The pulse of a delivery: it renews its claim in the ledger, and ends the guest when the claim is gone."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable

import structlog
from redis.exceptions import RedisError

from drakcelery.ledger import Ledger

log = structlog.get_logger(__name__)


class Pulse(threading.Thread):
    """Beats while a stage is at work.

    Once the ledger says that the delivery is stale (another attempt began, somebody cancelled), *stop* is
    called, and :attr:`is_stale` is true. While Redis is away the work goes on: nobody else can begin either.
    """

    def __init__(
        self, ledger: Ledger, uid: str, attempt: int, *, token: str, stop: Callable[[], None]
    ) -> None:
        """*stop* ends what the stage does, from this thread."""
        super().__init__(name=f"pulse-{uid}", daemon=True)
        self._ledger = ledger
        self._claim = (uid, attempt, token)
        self._stop_work = stop
        self._over = threading.Event()
        self._context = contextvars.copy_context()  # so that its lines say what they are about
        self.is_stale = False

    def __enter__(self) -> Pulse:
        """Start beating."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop beating."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """Until the stage is done, or stale."""
        self._context.run(self._beat)

    def _beat(self) -> None:
        uid, attempt, token = self._claim
        while not self._over.wait(self._ledger.times.beat):
            try:
                alive = self._ledger.renew(uid, attempt, token=token)
            except RedisError as error:
                log.warning("pulse_unheard", error=str(error))
                continue
            if not alive:
                log.warning("work_is_stale")
                self.is_stale = True
                self._stop_work()
                return
