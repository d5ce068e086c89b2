"""What a check is, and what it finds. Pure values."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from drakcelery.doctor.subject import Subject

LONGEST = 1000
"""Most characters of a finding's text."""


class Status(enum.StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """It works, but there is something to know or to improve."""
    FAILED = "failed"
    """Something that drakcelery needs, or promises, is not there."""
    SKIPPED = "skipped"
    """It makes no sense here, or only after another check is fixed."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of one check."""

    status: Status
    said: str
    """What was found, as a sentence without its full stop."""
    remedy: str | None = None
    """How to fix it, if that can be said more precisely than by the check's general remedy. No command."""
    commands: tuple[str, ...] = ()
    """What fixes it, for a shell, as it stands."""

    def mended_by(self, *commands: str) -> Verdict:
        """The same with commands, if it asks for the check's general remedy."""
        to_mend = self.status in (Status.WARNING, Status.FAILED) and self.remedy is None
        return replace(self, commands=commands) if to_mend else self


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing to look at. docs/doctor.md has a row for each; a test holds the two together."""

    name: str
    """``<area>.<what>``; stable, for scripts."""
    what: str
    """What must be true."""
    remedy: str
    """How to fix it, in general. Commands are in the verdicts, which know the names to put in."""
    examine: Callable[[Subject], Verdict]
    """May raise :class:`~drakcelery.errors.DrakceleryError` or RedisError, which is a failure."""
    needs: tuple[str, ...] = ()
    """The checks without which this one makes no sense."""
    seconds: float = 15.0
    """After so many seconds it counts as failed."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of one check."""

    check: str
    what: str
    status: Status
    said: str
    remedy: str | None
    """None if there is nothing to fix."""
    commands: tuple[str, ...] = ()
    """What fixes it, each for a shell as it stands."""
    seconds: float
    """How long the check took."""

    def as_json(self) -> dict[str, Any]:
        """The keys are stable."""
        return {
            "check": self.check,
            "what": self.what,
            "status": self.status.value,
            "said": self.said,
            "remedy": self.remedy,
            "commands": list(self.commands),
            "seconds": round(self.seconds, 3),
        }


def ok(said: str) -> Verdict:
    """All is well."""
    return Verdict(status=Status.OK, said=said)


def warning(said: str, remedy: str | None = None, *commands: str) -> Verdict:
    """It works, but something should be known or improved."""
    return Verdict(status=Status.WARNING, said=said, remedy=remedy, commands=commands)


def failed(said: str, remedy: str | None = None, *commands: str) -> Verdict:
    """It does not work."""
    return Verdict(status=Status.FAILED, said=said, remedy=remedy, commands=commands)


def skipped(said: str) -> Verdict:
    """It makes no sense here."""
    return Verdict(status=Status.SKIPPED, said=said)
