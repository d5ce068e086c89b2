"""Text that others wrote, made fit to be stored and shown. Pure.

A name is for display only (I7): whatever it contains, the sample runs. Python turns each byte of a file name
that is not UTF-8 into a lone surrogate, which neither Redis nor S3 nor a terminal accepts.
"""

from __future__ import annotations

import re

REPLACEMENT = "\ufffd"
SHOWN = 400
"""Characters of one value that a person is shown, unless more are asked for."""
LONGEST_LINE = 4000
"""Characters of a line of a message."""
_SURROGATE = re.compile("[\ud800-\udfff]")


def storable(text: str) -> str:
    """*text* as UTF-8 can hold it: each lone surrogate is replaced."""
    return _SURROGATE.sub(REPLACEMENT, text)


def is_storable(text: str) -> bool:
    """Whether UTF-8 can hold *text* as it is."""
    return _SURROGATE.search(text) is None


def clean(text: object, limit: int = SHOWN) -> str:
    """*text* for a terminal or a page: bounded, with unprintable characters replaced.

    Control characters, line ends, escape sequences and lone surrogates are not printable. Markup is not
    escaped here.
    """
    given = text if isinstance(text, str) else str(text)
    shown = given[:limit]
    if not shown.isprintable():
        shown = "".join(char if char.isprintable() else REPLACEMENT for char in shown)
    return shown + ("…" if len(given) > limit else "")


def printable(text: str) -> str:
    """A message of some lines for a terminal, each as :func:`clean` has it."""
    return "\n".join(clean(line, LONGEST_LINE) for line in text.split("\n"))


def natural(name: str) -> tuple[str, int, str]:
    """The key by which names are sorted: ``vm-2`` before ``vm-10``."""
    stem = name.rstrip("0123456789")
    digits = name[len(stem) :]
    return (stem, int(digits) if digits else -1, name)
