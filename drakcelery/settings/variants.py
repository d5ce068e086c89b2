"""The section ``[variants]``: second looks at samples whose first one has clues."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from drakcelery.model.names import NAME_PATTERN
from drakcelery.model.second_look import HIDING
from drakcelery.settings.section import Section
from drakcelery.settings.values import QualityNames, comma_list, is_meant

NO_PLUGINS = "none"
"""As an empty text is the default."""


def _profiles(text: str) -> str:
    """Check a comma-separated list. Raises ValueError, whose text reads on from "expected "."""
    for name in comma_list(text):
        if not re.fullmatch(NAME_PATTERN, name):
            raise ValueError(f"names of profiles such as win7-x64; {name!r} is none")
    return text


def _hiding(text: str) -> str:
    """Check a comma-separated list, or ``none``. Raises ValueError, as above."""
    for name in comma_list(text) if text != NO_PLUGINS else ():
        if name not in HIDING:
            raise ValueError(f"{NO_PLUGINS}, or plugins that hide a guest ({', '.join(HIDING)})")
    return text


ProfileNames = Annotated[str, AfterValidator(_profiles)]
PluginNames = Annotated[str, AfterValidator(_hiding)]


class VariantsSection(Section):
    """``[variants]``: second looks at samples whose first one has clues."""

    mode: Literal["off", "asked", "on"] = Field(default="off", description="asked: only where a task says so")
    qualities: QualityNames = Field(default="", description="with mode = on, comma-separated; default: all")
    max_per_root: int = Field(default=1, ge=1, le=10)
    max_share: float = Field(default=0.15, ge=0.01, le=1, description="of the slot time of first looks")
    profiles: ProfileNames = Field(default="", description="to try, comma-separated; default: none")
    format_profiles: ProfileNames = Field(default="", description="for other programs; default: as profiles")
    plugins: PluginNames = Field(default="hidevm, hidsim", description="DRAKVUF's, that hide the guest")
    extra_timeout: int = Field(default=300, ge=0, description="seconds more for a sample that sleeps")

    @property
    def profile_names(self) -> tuple[str, ...]:
        """Those in ``profiles``."""
        return comma_list(self.profiles)

    @property
    def format_profile_names(self) -> tuple[str, ...]:
        """Those in ``format_profiles``."""
        return comma_list(self.format_profiles)

    @property
    def plugin_names(self) -> tuple[str, ...]:
        """Those in ``plugins``."""
        return comma_list(self.plugins) if self.plugins != NO_PLUGINS else ()

    @property
    def most(self) -> int:
        """How many second looks a root may have; 0: they are off."""
        return 0 if self.mode == "off" else self.max_per_root

    def most_of(self, quality: str, asked: int | None) -> int:
        """How many the root of a task may have that says *asked*."""
        if asked is not None:
            return min(asked, self.most)
        return self.most if self.mode == "on" and is_meant(self.qualities, quality) else 0
