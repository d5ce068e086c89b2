"""With whom an analysis may be shared, by the header that Karton's services have for it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

HEADER = "share_3rd_party"
Level = Literal["green", "amber", "red"]
"""Of the Traffic Light Protocol, as STIX 2.1 has it (section 7.2.1.4: version 1 of the protocol)."""


def level(headers: Mapping[str, Any]) -> Level:
    """The community may see it if the header says so, the recipient's organization if there is none, and else
    only who got it: in version 1 of the protocol ``amber`` lets an organization's customers see it too."""
    if HEADER not in headers or headers[HEADER] is None:
        return "amber"
    return "green" if headers[HEADER] is True else "red"
