"""Man pages of every command, made from click's own tree: man(7), as text.

Ours, as click-man makes a page of each command's help as one paragraph, and knows nothing of the sections
in which our commands are listed.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import click

from drakcelery.cli import SECTIONS

FILES = (
    ("/etc/drakcelery/config.ini", "settings of this machine"),
    ("/var/lib/drakcelery", "files of the analyses that this host works on, and its slot table"),
)


@dataclass(frozen=True, kw_only=True)
class Page:
    """A command with its place in the tree."""

    path: tuple[str, ...]
    """``("drakcelery", "bucket", "grant")``."""
    command: click.Command
    context: click.Context

    @property
    def name(self) -> str:
        """``drakcelery-bucket-grant``."""
        return "-".join(self.path)


def pages(command: click.Command, *, version: str, date: str) -> Mapping[str, str]:
    """The text of each page by the name of its file, such as ``drakcelery-submit.1``."""
    return {
        f"{page.name}.1": _text(page, version=version, date=date)
        for page in _tree(command, ("drakcelery",), None)
    }


def _tree(command: click.Command, path: tuple[str, ...], parent: click.Context | None) -> Iterator[Page]:
    context = click.Context(command, info_name=path[-1], parent=parent, **command.context_settings)
    yield Page(path=path, command=command, context=context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from _tree(found, (*path, name), context)


def _text(page: Page, *, version: str, date: str) -> str:
    summary = page.command.get_short_help_str(limit=200).rstrip(".")
    pieces = " ".join(page.command.collect_usage_pieces(page.context))
    lines = [
        f'.TH "{page.name.upper()}" "1" "{date}" "drakcelery {version}" "drakcelery"',
        ".SH NAME",
        escaped(f"{page.name} - {summary}", hyphens=False),
        ".SH SYNOPSIS",
        f".B {escaped(' '.join(page.path))}",
        *([escaped(pieces)] if pieces else []),
        ".SH DESCRIPTION",
        *_paragraphs(page.command.help or page.command.short_help or summary),
        *_options(page),
        *_commands(page),
        *_ending(page),
    ]
    return "\n".join(lines) + "\n"


def _paragraphs(help_text: str) -> Iterator[str]:
    """The paragraphs of a help text; what click keeps as it is written stays so."""
    for number, block in enumerate(re.split(r"\n\s*\n", inspect.cleandoc(help_text).partition("\f")[0])):
        if number:
            yield ".PP"
        if block.startswith("\b"):
            yield from (".nf", *map(escaped, block.splitlines()[1:]), ".fi")
        else:
            yield escaped(" ".join(block.split()))


def _options(page: Page) -> Iterator[str]:
    records = [
        record
        for parameter in page.command.get_params(page.context)
        if (record := parameter.get_help_record(page.context)) is not None and record[1]
    ]
    if records:
        yield ".SH OPTIONS"
    for names, says in records:
        yield from (".TP", f".B {escaped(names)}", escaped(" ".join(says.split())))


def _commands(page: Page) -> Iterator[str]:
    if not isinstance(page.command, click.Group):
        return
    yield ".SH COMMANDS"
    if len(page.path) > 1:
        for name in page.command.list_commands(page.context):
            yield from (".TP", f".BR {page.name}-{name} (1)".replace("-", r"\-"))
            found = page.command.get_command(page.context, name)
            yield escaped(found.get_short_help_str(limit=200) if found else "")
        return
    for title, commands in SECTIONS.items():
        yield f".SS {escaped(title)}"
        for name, (_, says) in commands.items():
            yield from (".TP", f".BR drakcelery-{name} (1)".replace("-", r"\-"), escaped(says))


def _ending(page: Page) -> Iterator[str]:
    yield ".SH FILES"
    for path, what in FILES:
        yield from (".TP", f".I {escaped(path)}", escaped(what))
    if len(page.path) > 1:
        yield from (".SH SEE ALSO", f".BR {'-'.join(page.path[:-1])} (1)".replace("-", r"\-"))


def escaped(text: str, *, hyphens: bool = True) -> str:
    """*text* so that roff prints it as it is; *hyphens* are those that one types."""
    clean = text.replace("\\", r"\e").replace("-", r"\-" if hyphens else "-")
    clean = clean.replace("'", r"\(aq") if clean.startswith("'") else clean
    return rf"\&{clean}" if clean.startswith(".") else clean
