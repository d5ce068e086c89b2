"""The Lua scripts of the ledger: how they are read, and how they are called.

A script begins by declaring what it needs, one in each line, and then uses it by name::

    -- KEY record   the record
    -- KEY host?    may be left out
    -- ARG attempt  the attempt
    -- ARG told*    as many as are given: a table
    -- WITH ending  ``lua/prelude/ending.lua`` stands before it, and names keys and arguments itself

``KEY.record`` becomes ``KEYS[1]`` when the script is loaded, so a name costs nothing when it runs. Callers
use the same names, but leave out keys of which there is only one (:data:`drakcelery.ledger.keys.FIXED`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import redis

from drakcelery.ledger.keys import FIXED

Value = str | int | float | Sequence[str] | Sequence[int]
"""What a name stands for: several values if it has a star."""
COMMON = "common"
"""The part that stands before every script."""
_FOLDER = resources.files("drakcelery.ledger") / "lua"
_DECLARED = re.compile(r"^-- (KEY|ARG|WITH) ([a-z_]+)([*?]?)(?= |$)", re.MULTILINE)
_NAMED = re.compile(r"\b(KEY|ARG)\.([a-z_]+)\b")


@dataclass(frozen=True, kw_only=True)
class Name:
    """One key or argument of a script."""

    word: str
    mark: str = ""
    """``*`` for as many as are given, ``?`` for one that may be left out."""

    def among(self, given: Mapping[str, Value]) -> list[Any]:
        """Its values among those *given*. Raises :class:`LookupError` if it is missing."""
        if self.mark == "*":
            return list(given[self.word])  # type: ignore[arg-type] # several
        return [given[self.word]] if self.mark != "?" or self.word in given else []


@dataclass(frozen=True, kw_only=True)
class Source:
    """A script, with the parts that stand before it."""

    text: str
    """The text that Redis gets."""
    keys: tuple[Name, ...]
    args: tuple[Name, ...]

    def placed(self, keys: Mapping[str, Value], args: Mapping[str, Value]) -> tuple[list[Any], list[Any]]:
        """The given values in the script's order, with the fixed keys added.

        Raises:
            TypeError: a name is missing, or is none of the script's.
        """
        fixed = {name.word: FIXED[name.word] for name in self.keys if name.word in FIXED}
        return _placed(self.keys, {**fixed, **keys}), _placed(self.args, args)


class Scripts:
    """The scripts of one client, by name."""

    def __init__(self, client: redis.Redis, *names: str) -> None:
        """*names*: the scripts that are called."""
        self._sources = {name: source(name) for name in names}
        self._sent = {name: client.register_script(one.text) for name, one in self._sources.items()}

    def __call__(self, script: str, keys: Mapping[str, Value] | None = None, **args: Value) -> Any:
        """Run *script*; *keys* are those that are not fixed.

        Raises:
            TypeError: a name is missing, or is none of the script's; nothing was sent.
        """
        return self._sent[script](*self._sources[script].placed(keys or {}, args))


@cache
def source(script: str) -> Source:
    """The script of this name. Raises :class:`ValueError` if it uses a name that it does not declare."""
    own = _read(script)
    parts = [_read(f"prelude/{part}") for part in dict.fromkeys([COMMON, *_parts(own)])]
    names = {kind: _names(kind, [own, *parts]) for kind in ("KEY", "ARG")}

    def put(match: re.Match[str]) -> str:
        kind, word = match.groups()
        known = {name.word: (number, name.mark) for number, name in enumerate(names[kind], start=1)}
        if word not in known:
            raise ValueError(f"{script}.lua says {kind}.{word} and does not declare it")
        (number, mark), given = known[word], "KEYS" if kind == "KEY" else "ARGV"
        return f"rest({given}, {number})" if mark == "*" else f"{given}[{number}]"

    text = "".join(_NAMED.sub(put, part) for part in (*parts, own))
    return Source(text=text, keys=names["KEY"], args=names["ARG"])


def _read(path: str) -> str:
    return (_FOLDER / f"{path}.lua").read_text(encoding="utf-8")


def _parts(text: str) -> Iterator[str]:
    """The parts that *text* needs; each comes after those that it needs itself."""
    for kind, word, _ in _DECLARED.findall(text):
        if kind == "WITH":
            yield from _parts(_read(f"prelude/{word}"))
            yield word


def _names(kind: str, texts: Sequence[str]) -> tuple[Name, ...]:
    """What *texts* declare, each once. Raises :class:`ValueError` if a name with a mark is not the last."""
    found = [match for text in texts for match in _DECLARED.findall(text) if match[0] == kind]
    names = tuple(dict.fromkeys(Name(word=word, mark=mark) for _, word, mark in found))
    if any(name.mark for name in names[:-1]):
        raise ValueError(f"{kind} with a mark before the last of {[name.word for name in names]}")
    return names


def _placed(names: Sequence[Name], given: Mapping[str, Value]) -> list[Any]:
    words = {name.word for name in names}
    lacking = [name.word for name in names if name.mark != "?" and name.word not in given]
    if lacking or given.keys() - words:
        raise TypeError(f"missing: {lacking}; not known: {sorted(given.keys() - words)}")
    return [value for name in names for value in name.among(given)]
