"""Messages that drakcelery did not send, or not to this worker: dropped with one warning, and never sent
back.

Anybody who may write to the broker can put anything into our queues. Dropping a genuine message does not lose
an analysis: the ledger knows all of them, and an attempt whose message does not come is sent again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from queue import Empty
from typing import Any

import structlog
from kombu.exceptions import KombuError
from kombu.message import Message
from kombu.transport import redis, virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads
from pydantic import ValidationError

from drakcelery.model.analysis import Stage, Step

log = structlog.get_logger(__name__)

UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError, KombuError)
"""What is raised by a message that kombu did not make."""
_USUAL: Mapping[str, Collection[Any]] = {
    "expires": (None,),
    "timelimit": (None, [None, None]),
    "retries": (None, 0),
    "group": (None,),
    "shadow": (None,),
    "stamped_headers": (None, []),
    "stamps": (None, {}),
}
"""Headers, and the values that ours have. With other values Celery's worker, or its pool, fails permanently,
when the message has been taken and has a slot."""
_ON_GUESTS = (Stage.PREPARE, Stage.RUN)


def step_of(message: Message) -> Step | None:
    """The step in a Celery message (protocol 2: args, kwargs, embed); None if there is none in it."""
    try:
        return Step.parse(message.payload[0][0])
    except (ValidationError, *UNREADABLE):
        return None


def misfit(
    stage: Stage, step: Step | None, message: Message, *, host: str, profiles: Collection[str] | None
) -> str | None:
    """Why a message is not for this worker, as a sentence; None if it is.

    Args:
        profiles: those that a vm worker has slots of; None for an io worker.
    """
    if step is None:
        return "there is no step of an analysis in it"
    if (shape := _misshapen(message)) is not None:
        return shape
    if (message.headers or {}).get("eta") is not None:
        return "it is to be held back, which ours never are"
    odd = [name for name, usual in _USUAL.items() if (message.headers or {}).get(name) not in usual]
    if odd:
        return f"ours never say so of {', '.join(odd)}"
    if (stage in _ON_GUESTS) != (profiles is not None):
        return f"{stage.value} is not done by this worker"
    if stage is Stage.PREPARE and step.profile not in (profiles or ()):
        return f"no slot here has the profile {step.profile}"
    if step.host != host and not (stage is Stage.PREPARE and step.host is None):
        return f"it is for the host {step.host}"
    return None


def _misshapen(message: Message) -> str | None:
    """What is wrong with the rest of a body that has a step; Celery unpacks it once a slot is claimed."""
    body = message.payload
    if not isinstance(body, list) or len(body) != len(("args", "kwargs", "embed")):
        return "its body is not one of Celery's"
    args, kwargs, embed = body
    if not isinstance(args, list) or len(args) != 1 or kwargs != {} or not isinstance(embed, dict):
        return "there is more in it than a step and what follows it"
    chain = embed.get("chain") or []
    if any(embed.get(name) for name in ("callbacks", "errbacks", "chord")):
        return "it calls for more than the steps that follow it"
    if not isinstance(chain, list) or not all(map(_is_signature, chain)):
        return "what follows it are no steps"
    return None


def _is_signature(task: Any) -> bool:
    """Whether *task* is a task in a chain as Celery writes it, which comes after our own task."""
    return isinstance(task, dict) and all(
        isinstance(task.get(name), kind)
        for name, kind in (("task", str), ("args", list), ("kwargs", dict), ("options", dict))
    )


def drop(message: Message, why: str) -> None:
    """Have the broker forget *message*."""
    log.warning("message_dropped", reason=why)
    message.reject()


class Shaped(virtual.Message):
    """A message that has all that kombu and Celery take for granted."""

    def __init__(self, payload: Any, channel: Any = None, **more: Any) -> None:
        """As kombu's. Raises ValueError, or another of :data:`UNREADABLE`, if it is no message.

        If a bad message counts as delivered, it ends the worker, or keeps it from all other messages.
        """
        if (wrong := _wrong(payload)) is not None:
            raise ValueError(wrong)
        super().__init__(payload, channel=channel, **more)


def _wrong(payload: Any) -> str | None:
    """What is wrong with a message of kombu's, whatever it carries: a step, or remote control."""
    if not isinstance(payload, dict):
        return "it is no object"
    properties, headers = payload.get("properties"), payload.get("headers")
    if not isinstance(properties, dict) or not isinstance(headers, dict):
        return "it has no properties, or no headers"
    origin, tag = properties.get("delivery_info"), properties.get("delivery_tag")
    if not isinstance(tag, str) or not tag:
        return "it has no delivery tag"
    if not isinstance(origin, dict) or not all(
        isinstance(origin.get(name), str) for name in ("exchange", "routing_key")
    ):
        return "it says not where it was sent"
    if not all(isinstance(headers.get(name, ""), str) for name in ("task", "id")):
        return "its task, or its id, is no text"
    return None


class Tolerant(redis.Channel):
    """A channel that skips what is no message; in Redis, anything may be in a queue."""

    Message = Shaped

    def _brpop_read(self, **options: Any) -> Any:
        """As kombu's, but skip such messages, which would end kombu's worker."""
        try:
            return super()._brpop_read(**options)  # type: ignore[misc] # the stubs lack it
        except UNREADABLE as error:
            self._pass_over(error)
            raise Empty from None

    def _receive_one(self, c: Any) -> Any:
        """As kombu's, for messages that were published to all, such as remote control."""
        try:
            return super()._receive_one(c)  # type: ignore[misc] # the stubs lack it
        except UNREADABLE as error:
            self._pass_over(error)
            raise Empty from None

    def receive(self, raw: bytes) -> Any:
        """Read a message that is no longer in Redis; None, with a warning, if it is none."""
        try:
            message = self.Message(loads(bytes_to_str(raw)), channel=self)
            self.qos.append(message, str(message.delivery_tag))
        except UNREADABLE as error:
            self._pass_over(error)
            return None
        return message

    def show(self, raw: bytes) -> Any:
        """Read a message that stays in Redis; None if it is none."""
        try:
            return self.Message(loads(bytes_to_str(raw)), channel=self)
        except UNREADABLE:
            return None

    @staticmethod
    def _pass_over(error: Exception) -> None:
        log.warning("message_unreadable", error=f"{type(error).__name__}: {error}")
