"""The configuration file: what differs from the defaults and what has to be filled in, each with its comment.

The comments are those of the complete example, ``config/drakcelery.ini``, which comes with the package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from drakcelery.deploy.importing import Sections
from drakcelery.embedded.layout import home
from drakcelery.errors import StackError
from drakcelery.settings import Settings
from drakcelery.settings.messages import SECRET_KEYS

NEEDED: Mapping[str, tuple[str, ...]] = {
    "redis": ("host",),
    "s3": ("address", "access_key", "secret_key", "bucket"),  # Karton's programs have no default for it
    "drakmon": ("system_disable",),
    "slots": (),
}
"""What stands in every file, set or not."""

HEAD = """\
# Written by drakcelery init: what differs from the defaults, and what every installation has to say.
# All settings: docs/settings.md. It holds credentials: mode 0640, readable by the group of the services.
"""

BLANK_HEAD = "# Brought by the package. While it is unchanged, drakcelery init fills in what it finds here."

_SECTION = re.compile(r"\[(?P<name>[a-z0-9_]+)\]")
_KEY = re.compile(r";?(?P<key>[a-z0-9_]+) =")
MASK = "***"


@dataclass(kw_only=True)
class _Example:
    intro: str = ""
    comments: dict[str, str] = field(default_factory=dict)
    """By key, each line with its ``#``."""


def example() -> str:
    """The complete example. Raises :class:`StackError` if the installation lacks it."""
    path = home() / "config" / "drakcelery.ini"
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise StackError(
            f"{path}: {error.strerror}: the installation is incomplete; install drakcelery again"
        ) from None


def _parse(text: str) -> dict[str, _Example]:
    """The sections of the example: a block of comments below the heading, then one above each key."""
    sections: dict[str, _Example] = {}
    current, block = _Example(), list[str]()
    for line in [*text.splitlines(), ""]:
        if heading := _SECTION.fullmatch(line):
            current = sections.setdefault(heading["name"], _Example())
            block = []
        elif key := _KEY.match(line):
            current.comments.setdefault(key["key"], "\n".join(block))
            block = []
        elif line.startswith("#"):
            block.append(line)
        else:
            current.intro = current.intro or "\n".join(block)
            block = []
    return sections


def render(values: Sections, *, text: str) -> str:
    """The file for *values*, which our settings accept, with the comments of the example *text*."""
    parts, loaded = [HEAD], Settings.model_validate(values)
    for section, shown in _parse(text).items():
        pairs = dict(_shown(section, values, loaded))
        if not pairs and section not in NEEDED:
            continue
        lines = [f"[{section}]", *([shown.intro] if shown.intro else []), ""]
        for key, value in pairs.items():
            lines += [*filter(None, [shown.comments.get(key, "")]), f"{key} = {_written(value)}".rstrip()]
            lines += [""] if key in shown.comments else []
        parts.append("\n".join(lines).rstrip() + "\n")
    return "\n".join(parts)


def blank() -> str:
    """The file that a package brings: what has to be filled in, and nothing set."""
    text = render({"drakmon": {"system_disable": "1"}}, text=example())
    return text.replace(HEAD.splitlines()[0], BLANK_HEAD, 1)


def _shown(section: str, values: Sections, loaded: Settings) -> Iterator[tuple[str, str]]:
    """The needed keys first, then whatever differs from the default. Names of the user's own have none."""
    given = values.get(section, {})
    needed = NEEDED.get(section, ())
    ours, plain = getattr(loaded, section), getattr(Settings(), section)
    for key in needed:
        yield key, given.get(key, _default(getattr(plain, key)))
    for key, value in given.items():
        if key not in needed and (isinstance(ours, dict) or getattr(ours, key) != getattr(plain, key)):
            yield key, value


def _written(value: str) -> str:
    """On one line; the reader interpolates, so a percent sign is written twice."""
    return " ".join(line.strip() for line in value.strip().splitlines()).replace("%", "%%")


def _default(value: object) -> str:
    return "" if value is None else str(int(value)) if isinstance(value, bool) else str(value)


def missing(values: Sections) -> list[str]:
    """What has to be filled in before anything can start, as ``[s3] access_key``."""
    s3 = values.get("s3", {})
    unset = [f"[{section}]" for section in ("redis", "s3") if not values.get(section)]
    if s3 and s3.get("iam_auth", "0") in ("0", "false", "no", "off"):
        unset += [f"[s3] {key}" for key in ("access_key", "secret_key") if not s3.get(key)]
    return unset


def masked(text: str) -> str:
    """The file without its secrets, to be shown."""
    secret = "|".join(sorted(SECRET_KEYS))
    return re.sub(rf"^({secret}) = .+$", rf"\1 = {MASK}", text, flags=re.MULTILINE)
