"""The host runtime: what a worker's process works with, in one object on the Celery app.

Celery makes its steps, strategies and commands itself, and hands each of them its app: here they find the
rest. The settings are read, and what follows from them is made, when they are first asked for, not when the
app is imported. A process of the pool has a runtime of its own: nothing of its parent's but the wakeup.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from celery import Celery

from drakcelery.broker.life import ask
from drakcelery.engines import create
from drakcelery.host.presence import Presence
from drakcelery.host.slots import SlotTable
from drakcelery.ledger import Patience
from drakcelery.ledger.watch import ServerId
from drakcelery.settings import Settings, find, load
from drakcelery.stages import dispatch
from drakcelery.stages.context import HostContext
from drakcelery.stages.dispatch import Send
from drakcelery.wiring import make_ledger, make_storage
from drakcelery.worker.janitor import Janitor
from drakcelery.worker.shutdown import Stopper
from drakcelery.worker.wakeup import Wakeup


@dataclass(kw_only=True)
class Runtime:
    """Of one process. What has to be started is noted here by the step that starts it."""

    context: HostContext
    """The settings, the ledger, the slots, the storage, the engine and the heartbeats of this host."""
    wakeup: Wakeup
    """Signalled when a slot comes free. Made before the pool's processes, which signal it."""
    send: Send
    """Send the current attempt of a record on its way."""
    ask_broker: Callable[[], ServerId]
    """Ask the broker for a sign of life."""
    presence: Presence | None = None
    """Shows that this worker is alive, and looks whether the host's other worker is."""
    janitor: Janitor | None = None
    """Looks after the slots of a vm worker."""
    stopper: Stopper | None = None
    """Ends the guests of a vm worker that shuts down."""


class App(Celery):
    """Celery's app, with the settings of this process and its runtime."""

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings; the environment says where their file is."""
        return load(find())

    @functools.cached_property
    def runtime(self) -> Runtime:
        """That of a worker's main process."""
        return self._runtime(Wakeup(), Patience.SHORT)

    def begin_in_pool(self) -> None:
        """Make the runtime of a process that was just forked; it waits for hours while Redis is away."""
        self.runtime = self._runtime(self.runtime.wakeup, Patience.LONG)

    def _runtime(self, wakeup: Wakeup, patience: Patience) -> Runtime:
        ours = self.settings
        ledger = make_ledger(ours, patience=patience)
        return Runtime(
            context=HostContext(
                settings=ours,
                ledger=ledger,
                slots=SlotTable(
                    ours.drakcelery.state_dir,
                    quarantine_after=ours.drakcelery.quarantine_after,
                    freed=wakeup.signal,
                ),
                storage=make_storage(ours),
                engine=create(ours.engine, ours),
            ),
            wakeup=wakeup,
            send=functools.partial(dispatch.send, self, ledger),
            ask_broker=functools.partial(ask, self),
        )
