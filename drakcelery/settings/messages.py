"""A wrong setting in words: which file, section, key and value, and what was expected."""

from __future__ import annotations

import configparser
import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from drakcelery.model.names import NAME_PATTERN
from drakcelery.settings.all_sections import Settings
from drakcelery.settings.section import Section
from drakcelery.settings.values import ADDRESS_PATTERN, BUCKET_PATTERN, IDENTITY_PATTERN, REGION_PATTERN

Origin = Mapping[tuple[str, str], str]
"""Where the value of a section's key came from: a file, or a variable of the environment."""

OUR_SECTIONS = tuple(sorted(set(Settings.model_fields) - {"source", "remarks"}))
SECRET_KEYS = frozenset(
    {"access_key", "broker_url", "password", "request_headers", "secret", "secret_key", "url"}
)
ADDRESS_KEYS = frozenset({"address", "endpoint", "host"})
"""Into which somebody may write user and password, where they do not belong: ``user:password@host``."""

PATTERN_WORDS = {
    NAME_PATTERN: "a name of letters, digits, '.', '_' and '-' (64 at most, a letter or digit first)",
    IDENTITY_PATTERN: "a Karton identity: no spaces, no '?'",
    ADDRESS_PATTERN: "http://host:port or https://host:port",
    REGION_PATTERN: "the name of a region, such as eu-central-1",
    BUCKET_PATTERN: "a bucket name: 3 to 63 lower-case letters, digits, '.' and '-'",
}


def _or(choices: str) -> str:
    """pydantic writes ``'a', 'b' or 'c'``; without the quotes it is what belongs into the file."""
    return choices.replace("'", "")


def _number(bound: float) -> str:
    return f"{bound:.0f}" if bound == int(bound) else f"{bound:g}"


WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "bool_parsing": lambda _: "true or false (1/0, yes/no, on/off)",
    "bool_type": lambda _: "true or false (1/0, yes/no, on/off)",
    "dict_type": lambda _: 'a JSON object such as {"type": "sample"}',
    "float_parsing": lambda _: "a number",
    "greater_than_equal": lambda context: f"at least {_number(context['ge'])}",
    "int_parsing": lambda _: "a whole number",
    "int_parsing_size": lambda _: "a whole number of fewer digits",
    "less_than_equal": lambda context: f"at most {_number(context['le'])}",
    "literal_error": lambda context: _or(context["expected"]),
    "string_pattern_mismatch": lambda context: PATTERN_WORDS[context["pattern"]],
    "too_short": lambda _: "at least one entry",
    "tuple_type": lambda _: 'a JSON list of objects such as [{"type": "sample"}]',
}
"""What was expected, by pydantic's type of error; other errors bring their own words."""


def explain(error: ValidationError, origin: Origin, path: Path | None) -> str:
    """One sentence for each wrong value, in the order of the sections."""
    return "\n".join(_sentence(dict(detail), origin, path) for detail in error.errors())


def _sentence(detail: dict[str, Any], origin: Origin, path: Path | None) -> str:
    context = detail.get("ctx", {})
    where = detail["loc"] or (context.get("section", ""), context.get("key", ""))
    section, key, *inner = [str(part) for part in (*where, "")][: len(where) + 1]
    source = origin.get((section, key), str(path) if path else "settings")
    if detail["type"] == "extra_forbidden":
        return f"{source}: {unknown_key(section, key)}"
    value = repr(context.get("value", detail.get("input")))
    if key in SECRET_KEYS or (key in ADDRESS_KEYS and "@" in value):
        value = "***"
    return f"{source}: [{section}] {key} = {value}: expected {_expected(detail, inner)}"


def _expected(detail: dict[str, Any], inner: list[str]) -> str:
    """``inner`` says where in a JSON value the trouble is, or that a name and not its value is wrong."""
    if detail["type"] in WORDS:
        expected = WORDS[detail["type"]](detail.get("ctx", {}))
    else:
        expected = str(detail["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    places = [part for part in inner if part]
    if places == ["[key]"]:
        return f"left of the '=' {expected}"
    if places and places[0].isdecimal():
        return f"{expected} (entry {int(places[0]) + 1})"
    return expected


def unknown_key(section: str, key: str) -> str:
    """``[redis] hots: no such setting; did you mean host?``"""
    model = Settings.model_fields[section].annotation
    known = sorted(model.model_fields) if isinstance(model, type) and issubclass(model, Section) else []
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"[{section}] has {', '.join(known)}"
    return f"[{section}] {key}: no such setting; {hint}"


def similar_section(name: str) -> str | None:
    """The section of ours of which *name* looks like a misspelling; None if of none."""
    close = difflib.get_close_matches(name.lower(), OUR_SECTIONS, n=1, cutoff=0.75)
    return close[0] if close else None


def ini_trouble(error: configparser.Error | UnicodeDecodeError | OSError) -> str:
    """Why a file cannot be read. Never quotes a line of it: the line may hold a secret."""
    match error:
        case configparser.DuplicateOptionError():
            return f"line {error.lineno}: [{error.section}] {error.option} is set a second time"
        case configparser.DuplicateSectionError():
            return f"line {error.lineno}: a second section [{error.section}]"
        case configparser.MissingSectionHeaderError():
            return f"line {error.lineno}: expected a [section] before the first key"
        case configparser.ParsingError():
            lines = ", ".join(str(number) for number, _ in error.errors)
            return f"line {lines}: expected key = value"
        case configparser.InterpolationError():
            return (
                f"[{error.section}] {error.option}: a '%' in a value is written '%%' "
                f"(or %(key)s for the value of another key of the section)"
            )
        case UnicodeDecodeError():
            return f"expected text in UTF-8 (byte {error.start + 1} is not)"
        case OSError():
            return f"cannot be read: {error.strerror or error}"
        case _:
            return f"not an INI file ({type(error).__name__})"
