"""Hands in one file after the other: what the settings or the fleet cannot take is refused before it is
uploaded, and keeps no other from being handed in."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from karton.core.task import Task

from drakcelery.errors import BadTask
from drakcelery.karton import contract
from drakcelery.karton.contract import SampleFacts
from drakcelery.karton.kept import Wishes
from drakcelery.karton.places import require_place
from drakcelery.karton.policy import policy_of
from drakcelery.karton.submit import Sender, facts_of, sample_task
from drakcelery.ledger import Ledger
from drakcelery.model.analysis import Place
from drakcelery.model.text import clean
from drakcelery.operators.submitting.archives import Passwords, is_zip, unpack
from drakcelery.operators.submitting.found import Found, Refused
from drakcelery.operators.wishes import require_possible
from drakcelery.settings import Settings

_HEAD = 4


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """A sample that Karton has."""

    uid: str
    """Of its analysis."""
    label: str
    """What was handed in."""
    name: str
    sha256: str | None
    size: int


@dataclass(kw_only=True)
class Submission:
    """How samples are handed in: all of them in the same way."""

    settings: Settings
    wishes: Wishes
    places: frozenset[Place]
    """Places that the fleet has had lately; none: nobody knows yet."""
    sender: Sender
    unzip: bool = True
    passwords: Passwords = field(default_factory=Passwords)

    @classmethod
    def begin(
        cls,
        settings: Settings,
        ledger: Ledger,
        wishes: Wishes,
        *,
        unzip: bool = True,
        passwords: Passwords | None = None,
    ) -> Submission:
        """Check what is the same for all samples.

        Raises:
            BadTask: nobody can have samples analysed in this way.
            StackError: no ingress would get them.
        """
        places = frozenset(ledger.fleet.places())
        require_possible(wishes, policy_of(settings), places)
        return cls(
            settings=settings,
            wishes=wishes,
            places=places,
            sender=Sender(settings),
            unzip=unzip,
            passwords=passwords or Passwords(),
        )

    def push(self, found: Iterable[Found | Refused]) -> Iterator[Pushed | Refused]:
        """Hand in each; what becomes of it.

        Raises:
            StorageError, RedisError: S3 or Redis does not take any.
        """
        for one in found:
            if isinstance(one, Refused):
                yield one
            else:
                yield from self._push(one)

    def _push(self, one: Found) -> Iterator[Pushed | Refused]:
        try:
            with _read():
                facts = facts_of(one.path)
                is_to_unpack = self.unzip and is_zip(one.name, _head(one.path), facts.magic)
            if is_to_unpack:
                yield from self._push_files_of(one)
            else:
                yield self._push_one(one, facts)
        except BadTask as error:
            yield Refused(label=one.label, reason=str(error))

    def _push_files_of(self, archive: Found) -> Iterator[Pushed | Refused]:
        """Raises :class:`BadTask` if all of the zip is refused."""
        with tempfile.TemporaryDirectory(prefix="drakcelery-") as directory:
            to = Path(directory) / "sample"
            for one in unpack(
                archive.path,
                archive.label,
                to,
                passwords=self.passwords,
                largest=self.settings.drakcelery.max_sample_size,
            ):
                if one.trouble is not None:
                    yield Refused(label=one.label, reason=one.trouble)
                    continue
                file = Found(path=to, name=one.name, label=one.label)
                try:
                    facts = facts_of(to)
                    self._require_no_zip(file, facts)
                    pushed = self._push_one(file, facts)
                except BadTask as error:
                    yield Refused(label=one.label, reason=str(error))
                else:
                    yield pushed

    def _require_no_zip(self, inner: Found, facts: SampleFacts) -> None:
        """Raise :class:`BadTask` for a zip within a zip, unless somebody says what to do with it."""
        if self.wishes.start_command is None and is_zip(inner.name, _head(inner.path), facts.magic):
            raise BadTask("a zip within a zip is not opened: unpack the outer one, and submit the inner one")

    def _push_one(self, one: Found, facts: SampleFacts) -> Pushed:
        """Raises :class:`BadTask` if it would be refused."""
        with _read():
            task = sample_task(one.path, self.wishes, name=one.name, facts=facts)
        self._check(task, facts)
        uid = self.sender.send(task)
        sample = task.payload["sample"]
        return Pushed(uid=uid, label=one.label, name=str(sample.name), sha256=sample.sha256, size=facts.size)

    def _check(self, task: Task, facts: SampleFacts) -> None:
        """As ingress will, which does it again. Raises :class:`BadTask`."""
        analysis = contract.read_task(task, facts, policy_of(self.settings))
        if self.places:
            require_place(analysis.place, self.places)
        if (obstacle := self.sender.obstacle(task)) is not None:
            raise BadTask(obstacle)


@contextmanager
def _read() -> Iterator[None]:
    """A file that cannot be read, or not to its end, is refused like any other. Raises :class:`BadTask`."""
    try:
        yield
    except OSError as error:
        raise BadTask(f"cannot be read: {clean(error.strerror or error, 80)}") from None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)
