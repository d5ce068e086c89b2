"""The registry: what regmon says of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from drakcelery.behaviour import autostart
from drakcelery.behaviour.events import Event, Handler
from drakcelery.behaviour.report import RegistryActivity
from drakcelery.behaviour.tables import Budget, Row, Table, Who

MOST = 5000
DEFAULT = "(Default)"
"""The value of a key that has no name, as DRAKVUF calls it."""


class Registry:
    """The values that were set or deleted, and the keys that were deleted."""

    def __init__(self, budget: Budget, changed: Callable[[Event, str, str, str], None]) -> None:
        """*changed* is told of each value that is set: key, name, value."""
        self.table = Table("registry", MOST, budget)
        self._changed = changed
        self.methods: Mapping[str, Handler] = {
            "NtSetValueKey": self._set,
            "NtDeleteValueKey": self._value_deleted,
            "NtDeleteKey": self._key_deleted,
        }

    def handler(self, event: Event) -> Handler | None:
        """What reads *event*; None if it changes nothing."""
        return self.methods.get(event.method)

    def _set(self, event: Event) -> None:
        name, value = event.text("ValueName") or DEFAULT, event.text("Value")
        row = self._add(event, "set", name)
        if row is not None:
            row.details["value"] = value
        self._changed(event, event.text("Key"), name, value)

    def _value_deleted(self, event: Event) -> None:
        self._add(event, "deleted", event.text("ValueName") or DEFAULT)

    def _key_deleted(self, event: Event) -> None:
        self._add(event, "deleted", "")

    def _add(self, event: Event, action: str, name: str) -> Row | None:
        """*name* is the value's; empty for a key."""
        key = event.text("Key")
        if not key:
            return None
        return self.table.add(event, action, key.lower(), name.lower(), shown=(action, key, name))

    def report(self, processes: Who) -> Iterator[RegistryActivity]:
        """What is known of each."""
        for row in self.table:
            action, key, name = row.key
            yield RegistryActivity(
                action="set" if action == "set" else "deleted",
                key=key,
                value_name=name or None,
                value=row.details.get("value"),
                autostart=autostart.of_key(key, name) if action == "set" else None,
                **row.seen(processes),
            )
