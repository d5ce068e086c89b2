"""Which processes belong to the sample, while the log still grows. Pure."""

from __future__ import annotations

from drakcelery.behaviour.assembly import Known
from drakcelery.behaviour.reader import Reader
from drakcelery.behaviour.tables import Row

_AGAIN = 10
"""After so many looks the answer is found anew, though no process came: some get another parent."""


class Kin:
    """The sample's processes so far, as the report has them; all processes while none of them is known."""

    def __init__(self, reader: Reader, name: str) -> None:
        """*name* is the sample's in the guest."""
        self._reader, self._name = reader, name
        self._known = Known(reader, name)
        self._seen: tuple[int | None, ...] = ()
        self._looks = 0

    def refresh(self) -> bool:
        """Find them anew if something has changed. Whether that is so."""
        reader = self._reader
        processes = reader.processes
        seen = (
            *(len(processes.all), len(processes.others), len(reader.injections.table)),
            reader.sample_pid,
        )
        self._looks += 1
        if seen == self._seen and self._looks % _AGAIN:
            return False
        self._seen = seen
        before = self._known.origins
        self._known = Known(reader, self._name)
        injections = tuple(reader.injections.report(self._known.of, self._known.number))
        self._known.find_own(self._known.begun(), injections)
        return self._known.origins.keys() != before.keys()

    @property
    def are_known(self) -> bool:
        """Whether one of them is known."""
        return bool(self._known.origins)

    def has(self, number: int) -> bool:
        """Whether the process with this number in the list is one of them."""
        return not self.are_known or number in self._known.origins

    def has_done(self, row: Row) -> bool:
        """Whether one of them did what *row* says, or nobody knows who did."""
        numbers = self._known.of(row)
        return not self.are_known or not numbers or not self._known.origins.keys().isdisjoint(numbers)

    def has_pid(self, pid: int | None, at: int) -> bool:
        """Whether the process with this *pid* at the event *at* is one of them, or is not known."""
        if pid is None or not self.are_known:
            return True
        number = self._known.number(pid, at)
        return number is None or number in self._known.origins
