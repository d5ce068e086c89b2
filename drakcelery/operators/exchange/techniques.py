"""The techniques of ATT&CK that capa found, each once. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from drakcelery.behaviour.report import Report
from drakcelery.operators.exchange import values
from drakcelery.operators.exchange.selection import MOST

_ID = re.compile(r"(T\d{4})(?:\.(\d{3}))?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Technique:
    """A technique, or a part of one, by the rules that name it."""

    id: str
    """``T1059.003``."""
    name: str
    """As ATT&CK has it: of a part, its own name."""
    rules: tuple[str, ...]


def techniques(report: Report) -> list[Technique]:
    """The first 1000, by their numbers."""
    rules: dict[tuple[str, str], dict[str, None]] = {}
    for one in report.capabilities:
        for found in one.attack:
            name = values.line(found.subtechnique or found.technique, 200)
            rule = values.line(one.rule, 200)
            if _ID.fullmatch(found.id) and name and rule:
                rules.setdefault((found.id, name), {})[rule] = None
    known = {number: (name, by) for (number, name), by in sorted(rules.items())}
    return [
        Technique(id=number, name=name, rules=tuple(by)) for number, (name, by) in list(known.items())[:MOST]
    ]
