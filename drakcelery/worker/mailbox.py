"""How a worker answers a remote-control command: with a value, with ``{"error": …}``, or not at all.

Facts (Celery and kombu 5.7, read in their sources): a handler runs in the worker's main process, between two
messages; what it returns is sent back, or the ``repr`` of its exception. A node that is asked always replies;
one that has nothing to say needs :class:`Node` to keep silent.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from celery.app import control
from kombu import pidbox
from redis.exceptions import RedisError

from drakcelery.errors import DrakceleryError
from drakcelery.ledger.away import trouble

SILENT = object()
"""What a handler returns if its worker is not the one that has to answer."""
Reply = Any
Handler = Callable[..., Reply]


class Node(pidbox.Node):
    """A worker's mailbox that can keep silent."""

    def reply(self, data: Any, *args: Any, **kwargs: Any) -> None:
        """As kombu does, unless the handler returned :data:`SILENT`."""
        if data[self.hostname] is not SILENT:
            super().reply(data, *args, **kwargs)


class Mailbox(pidbox.Mailbox):
    """kombu's, with the node above."""

    node_cls = Node


class Control(control.Control):
    """Celery's, with the mailbox above."""

    Mailbox = Mailbox


def answered_by(*roles: Callable[[str], bool]) -> Callable[[Handler], Handler]:
    """Let only workers of these roles answer; errors, such as a wrong argument, are answered in a
    sentence."""

    def decorate(handler: Handler) -> Handler:
        signature = inspect.signature(handler)

        @functools.wraps(handler)
        def answer(state: Any, **arguments: Any) -> Reply:
            if not any(role(state.hostname) for role in roles):
                return SILENT
            try:
                signature.bind(state, **arguments)
            except TypeError as error:
                return {"error": f"{handler.__name__}: {error}"}
            try:
                return handler(state, **arguments)
            except DrakceleryError as error:
                return {"error": str(error)}
            except RedisError as error:
                return {"error": trouble(error)}

        return answer

    return decorate
