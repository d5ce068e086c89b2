"""What other workers know and a new one does not: which messages were revoked, and how late it is by Celery's
clock, by which Flower sorts.

Celery asks for it as well (``mingle``), but then takes no message, and no command, until a second is over in
which others may answer: at each start, and whenever the broker was away. Here a thread asks, and the worker
works meanwhile. So what was revoked while this worker was away is known a second late.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from celery.worker.consumer import mingle
from kombu.exceptions import OperationalError

ANSWER_SECONDS = 1.0
"""How long the others have to answer; as in Celery."""


class Hello(mingle.Mingle):
    """Consumer step of every worker, instead of the one that ``--without-mingle`` leaves out."""

    def __init__(self, parent: Any, **options: Any) -> None:
        """*parent* is the consumer."""
        super().__init__(parent, **options | {"without_mingle": False})

    def start(self, parent: Any) -> None:
        """Called whenever the consumer (re)connects."""
        revoked = list(parent.controller.state.revoked)
        threading.Thread(target=self._ask, args=(parent, revoked), name="hello", daemon=True).start()

    def _ask(self, parent: Any, revoked: list[str]) -> None:
        """Tell the others what this worker knows was *revoked*, and take over what they know."""
        app = parent.app
        connection = app.connection_for_write()
        # A broker that is away again: the next connection begins with this anew
        with connection, contextlib.suppress(OperationalError, *connection.connection_errors):
            asked = app.control.inspect(timeout=ANSWER_SECONDS, connection=connection)
            for node, known in (asked.hello(parent.hostname, revoked) or {}).items():
                if node != parent.hostname and known:
                    self._take_over(parent, node, known)

    def _take_over(self, parent: Any, node: str, known: Any) -> None:
        """In the thread of the worker, which reads what is revoked meanwhile; without its loop, here."""
        if parent.hub is None:
            self.on_node_reply(parent, node, known)
        else:
            parent.hub.call_soon(self.on_node_reply, parent, node, known)
