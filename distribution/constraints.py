"""The locked versions of what an installation needs, without the development tools. Pure: text in, text out.

``requirements.lock`` says of each package which others need it (``# via``): what the project itself needs is
followed from there, so that no network and no environment is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

PROJECT = "drakcelery (pyproject.toml)"
"""Who needs what is no development tool, in the lock's words."""
HEAD = """\
# The versions that drakcelery {version} was tested with: dependencies of it and of its extras.
#   pip install --constraint constraints.txt ./drakcelery-{version}-py3-none-any.whl
"""

_VIA = re.compile(r"^ +# +(?:via )?(?P<who>\S.*)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Locked:
    """A package at one version; a package may have several, for different machines."""

    name: str
    pin: str
    """``name==version``, with its marker."""
    text: str
    """The whole entry, hashes included."""
    wanted_by: frozenset[str]


def read(lock: str) -> list[Locked]:
    """The entries of ``requirements.lock``."""
    return [_entry(text) for text in re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]]


def _entry(text: str) -> Locked:
    return Locked(
        name=text.partition("==")[0],
        pin=text.partition("\n")[0].removesuffix("\\").strip(),
        text=text,
        wanted_by=frozenset(who["who"] for who in _VIA.finditer(text)),
    )


def needed(entries: list[Locked]) -> list[Locked]:
    """Those that the project needs, and those that these need, and so on."""
    known = {PROJECT}
    while found := {one.name for one in entries if one.wanted_by & known} - known:
        known |= found
    return [one for one in entries if one.name in known]


def plain(lock: str, *, version: str) -> str:
    """The file of constraints: names and versions."""
    lines: Iterator[str] = (one.pin for one in needed(read(lock)))
    return HEAD.format(version=version) + "\n".join(lines) + "\n"
