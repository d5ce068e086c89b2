"""Words that several versions of us write, and read."""

from __future__ import annotations

import enum
from typing import Self


class Word(enum.StrEnum):
    """One of several words, as another version of us may have written it: a fleet is upgraded host by host.

    A word that this version does not know is kept and shown unchanged. It is none of the class' words, and
    equal to none.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        unknown = str.__new__(cls, value)
        unknown._name_ = unknown._value_ = value
        return unknown

    @property
    def is_known(self) -> bool:
        """Whether this version knows the word."""
        return self._name_ in type(self).__members__
