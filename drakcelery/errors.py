"""What can go wrong, sorted by what has to be done about it.

Three kinds reach a stage, and each has one treatment (:mod:`drakcelery.stages.failures`):

* :class:`BadTask`: the sample task cannot be analysed. Final; CRASHED in Karton at once.
* :class:`InfrastructureError`: this attempt failed through no fault of the sample. Tried again.
* :class:`Superseded`: another attempt owns the analysis by now. Stop quietly.

Every message is a sentence for the person who reads it in karton-dashboard or on a terminal. It is
the only positional argument, and whatever else an error says is an attribute: so errors survive pickling
between processes.
"""

from __future__ import annotations

import enum
import errno
import os
from typing import Self


class DrakceleryError(Exception):
    """An error that drakcelery raises on purpose; its text is meant for people."""

    remedy: str | None = None
    """What mends it, as sentences, if that is not in the text; without commands."""

    def mended_by(self, remedy: str) -> Self:
        """Itself, with a remedy; survives pickling, as all attributes of an error do."""
        self.remedy = remedy
        return self


class SettingsError(DrakceleryError):
    """A setting is missing or wrong. Names the file, section, key, value and what was expected."""


class NameTaken(SettingsError):
    """Another machine has this host's name."""


class SlotsUnusable(SettingsError):
    """The file of the slots is of no use now: its host takes no sample."""


class SlotsLost(SlotsUnusable):
    """The file of the slots was taken away under its worker."""


class SlotsDamaged(SlotsUnusable):
    """The file of the slots cannot be read. It is kept, since it says what operators have drained."""


class SlotsBlocked(SlotsUnusable):
    """The file of the slots cannot be written, or somebody keeps it locked. It is as it was before."""


class StackError(DrakceleryError):
    """The embedded stack cannot start, is not running, or was asked for something it cannot do."""


class UnreadableRecord(DrakceleryError):
    """This version cannot read the ledger's record of an analysis."""


class BadTask(DrakceleryError):
    """The sample task cannot be analysed, however often it is tried."""


class AlreadyFinished(BadTask):
    """The analysis that the task asks for exists already: it is complete, and of another task."""


class Unreadable(BadTask):
    """What Karton has for the task is no task: neither we nor Karton's own programs can read it."""


class UnsupportedSample(BadTask):
    """The engine cannot detonate this kind of file."""


class InfrastructureError(DrakceleryError):
    """This attempt failed through no fault of the sample; another attempt may work."""


class DiskFull(InfrastructureError):
    """The disk of this host, which all of its stages share, has no room."""


class Blame(enum.StrEnum):
    """What an engine says is broken when an attempt fails."""

    SLOT = "slot"
    """The slot, as long as the sample fails in no other."""
    SAMPLE = "sample"
    """The sample: it would fail anywhere."""
    SNAPSHOT = "snapshot"
    """What the slot's VM is restored from."""
    HOST = "host"
    """Something that all slots of the host need: its network, say."""


class EngineError(InfrastructureError):
    """The engine could not restore, run or destroy a guest."""

    def __init__(self, *sentence: str, blames: Blame = Blame.SLOT, code: int | None = None) -> None:
        """*blames* is what the engine says is broken; most errors cannot tell. *code* is the error code of
        Windows."""
        super().__init__(*sentence)
        self.blames = blames
        self.code = code


class InDoubt(EngineError):
    """The run left less than runs in other slots: it is accepted only if another slot shows the same."""

    def __init__(self, *sentence: str, lacks: str = "") -> None:
        """*lacks* is what is missing, for the record."""
        super().__init__(*sentence)
        self.lacks = lacks


class StorageError(InfrastructureError):
    """S3 did not do what was asked, after retries."""


class GuestLost(EngineError):
    """The attempt has lost its slot and its guest: a process died, say, or the slots' file was lost.

    A sample to which this happens twice is poison.
    """


class StorageAway(StorageError):
    """S3 does not answer, or not as it should. It is waited for."""


class EvidenceLost(InfrastructureError):
    """A file that an earlier stage made is gone or was changed. Such a run is never published."""


class ArtifactMissing(DrakceleryError):
    """An analysis has no artifact of this name, or is not there at all."""


class ArtifactUnreadable(DrakceleryError):
    """What is there of an analysis is not what an analysis consists of, or cannot be read."""


class Superseded(DrakceleryError):
    """The ledger says that this attempt is stale, or that the analysis is over."""


class Astray(Superseded):
    """The attempt is on another machine, which has lost this host's name permanently."""


class Changed(Superseded):
    """Karton's task has changed since it was read, and must be read again."""


class NeedsSolitude(DrakceleryError):
    """The stage has cost a process before; it may not begin while other work is under way on the host."""


class UnderWay(Superseded):
    """The same message was delivered before, and that delivery is at work."""


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FULL_WORDS = tuple(os.strerror(number) for number in _FULL)


def is_full(error: BaseException | None) -> bool:
    """Whether *error*, or what it was raised from, says that a disk is full. A host without room takes no
    more samples (:mod:`drakcelery.host.readiness`)."""
    while error is not None:
        if isinstance(error, DiskFull) or (isinstance(error, OSError) and error.errno in _FULL):
            return True
        error = error.__cause__
    return False


def blamed_by(text: str) -> Blame:
    """What another process blames in *text*, all that is left of its error: the host for a full disk, or the
    slot."""
    return Blame.HOST if any(words in text for words in _FULL_WORDS) else Blame.SLOT


def unexpected(where: str, error: Exception) -> str:
    """The sentence for an unexpected error that came up in *where*."""
    if isinstance(error, MemoryError):
        return f"{where} ran out of memory"
    return f"unexpected {type(error).__name__}: {error}"
