"""What an analysis, a host, a slot or a profile may be called. Pure."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import StringConstraints

UID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
"""An analysis uid becomes a directory name, an S3 prefix and a Redis key; nothing else may be in it."""
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Names of hosts, slots and profiles: they become queue names and directory names."""
Uid = Annotated[str, StringConstraints(pattern=UID_PATTERN)]
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
AttemptId = tuple[str, int]
"""An attempt: the uid of its analysis, and its number."""


SHORTEST_PREFIX = 4
"""Characters of a uid that people have to give at least."""
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What an artifact or a dump may be called: never a path, never hidden."""


def is_uid(text: str) -> bool:
    """Whether *text* may serve as an analysis uid."""
    return re.fullmatch(UID_PATTERN, text) is not None and ".." not in text


def is_name(text: str) -> bool:
    """Whether *text* may serve as a name of a host, a slot or a profile, or of a quality."""
    return re.fullmatch(NAME_PATTERN, text) is not None


def is_file_name(text: str) -> bool:
    """Whether *text* may serve as the name of an artifact, and so of a file."""
    return _FILE.fullmatch(text) is not None
