"""How long the slots of a host are in each state, measured by looking at its slot table again and again."""

from __future__ import annotations

from collections.abc import Iterable

from drakcelery.host.slot import Slot, SlotState
from drakcelery.telemetry import metrics


class SlotClock:
    """Turns each look at the table into metrics. The more often it is looked at, the truer they are.

    The table says when a slot last changed. Of several changes between two looks only the last is seen; all
    the time before it counts for the earlier state. The gate looks twice a second, and whenever a slot is
    claimed or a message settled; so at least the time for which slots are free is exact to the millisecond.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Slot, float]] = {}
        """The slot as it was, and when, for each name."""

    def observe(self, slots: Iterable[Slot], *, now: float) -> None:
        """Account for the time since the last look; *now* is a UNIX time."""
        seen = {slot.name: (slot, now) for slot in slots}
        for name, (slot, _) in seen.items():
            if name in self._seen:
                before, looked = self._seen[name]
                self._account(before, slot, looked, now)
            else:
                metrics.slot_known(slot.profile)
        self._seen = seen

    def _account(self, before: Slot, slot: Slot, looked: float, now: float) -> None:
        if slot.since == before.since:
            metrics.slot_spent(before.profile, before.status, now - looked)
            return
        changed = min(max(slot.since, looked), now)
        metrics.slot_spent(before.profile, before.status, changed - looked)
        metrics.slot_spent(slot.profile, slot.status, now - changed)
        if before.state is SlotState.FREE and slot.state is SlotState.PREPARING:
            metrics.slot_turned_around(slot.profile, max(0.0, slot.since - before.since))
        if slot.state is SlotState.QUARANTINED:
            metrics.slot_quarantined(slot.profile)
