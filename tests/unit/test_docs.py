"""The documentation names every setting and every command, and builds."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

import click
import pytest

from drakcelery import settings
from drakcelery.cli import cli
from tests import reference
from tests.commands import Command, extract

DOCS = reference.ROOT / "docs"
MAKEFILE = (reference.ROOT / "Makefile").read_text(encoding="utf-8")


def _section(name: str) -> str:
    return (
        (DOCS / "settings.md")
        .read_text(encoding="utf-8")
        .split(f"\n## `[{name}]`\n", 1)[1]
        .split("\n## ", 1)[0]
    )


@pytest.mark.parametrize("setting", reference.settings(), ids=lambda one: f"{one.section}.{one.key}")
def test_every_setting_is_documented(setting: reference.Setting) -> None:
    """docs/settings.md has a row for each key: default, variable, and a meaning."""
    rows = [
        line for line in _section(setting.section).splitlines() if line.startswith(f"| `{setting.key}` |")
    ]
    assert len(rows) == 1, f"docs/settings.md lacks [{setting.section}] {setting.key}"
    _, _, default, _, variable, meaning, _ = [cell.strip() for cell in rows[0].split("|")]
    shown = {"": "*none*", None: "*the host name*"}.get(setting.default, f"`{setting.default}`")
    assert (default, variable) == (shown, f"`{setting.variable}`")
    assert len(meaning.split()) > 2


def test_every_word_of_a_setting_is_documented() -> None:
    """Where a setting is one of a few words, its row has each of them."""
    found = 0
    for setting in reference.settings():
        model = reference.section_model(setting.section)
        assert model is not None
        words = words_of(model.model_fields[setting.key].annotation)
        if words:
            [row] = [
                line for line in _section(setting.section).splitlines() if f"`{setting.variable}`" in line
            ]
            meaning = row.rpartition(f"`{setting.variable}`")[2]
            assert {word for word in words if f"`{word}`" not in meaning} == set(), setting
            found += 1
    assert found > 3


def words_of(annotation: object) -> set[str]:
    """The words that a setting may be, alone or beside something else."""
    if get_origin(annotation) is Literal:
        return {str(word) for word in get_args(annotation)}
    return {word for part in get_args(annotation) for word in words_of(part)}


def test_words_beside_something_else_are_read() -> None:
    """A setting that is one of a few words, or nothing, is asked for them as well."""
    assert words_of(Literal["a", "b"] | None) == words_of(tuple[Literal["a", "b"], ...]) == {"a", "b"}
    assert words_of(str | None) == set()


def test_documented_settings_exist() -> None:
    """docs/settings.md has no row for a key that is gone."""
    known = {(setting.section, setting.key) for setting in reference.settings()}
    sections = {setting.section for setting in reference.settings()}
    first_cell = re.compile(r"^\| `([a-z0-9_]+)` \|", re.MULTILINE)
    rows = {(name, key) for name in sections for key in first_cell.findall(_section(name))}
    assert rows == known


@pytest.mark.parametrize("section", reference.free_sections())
def test_sections_of_free_keys_are_documented(section: str) -> None:
    """The sections whose keys are the user's own names have a part of their own."""
    assert f"DRAKCELERY_{section.upper()}_" in _section(section)


def _commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command of *group* that does something, with what is typed for it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        here = f"{path} {name}"
        if isinstance(command, click.Group):
            yield from _commands(command, here)
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield here, command


def _cli() -> click.Group:
    return cli


def _part(command: str, text: str) -> str:
    """The part of docs/commands.md whose heading is *command*."""
    heading = re.search(rf"^## `{re.escape(command)}`$", text, re.MULTILINE)
    assert heading is not None, f"docs/commands.md lacks a heading ## `{command}`"
    return text[heading.end() :].split("\n## ", 1)[0]


def test_every_command_and_option_is_documented() -> None:
    """docs/commands.md has a heading for each command, and names each option and argument below it."""
    group = _cli()
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    known = list(_commands(group, "drakcelery"))
    for path, command in [("drakcelery", group), *known]:
        part = _part(path, text)
        for parameter in command.params:
            names = (
                parameter.opts
                if isinstance(parameter, click.Option)
                else [parameter.make_metavar(click.Context(command))]
            )
            for name in [*names, *parameter.secondary_opts]:
                assert name.strip("[].") in part, f"docs/commands.md: {path} lacks {name}"


def test_documented_options_exist() -> None:
    """The tables of docs/commands.md have no option that is gone, and each option is in one of them."""
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    for path, command in _commands(_cli(), "drakcelery"):
        first_cells = re.findall(r"^\| (`.+?) \| .{3,} \|$", _part(path, text), re.MULTILINE)
        shown = {name for cell in first_cells for name in re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", cell)}
        options = [one for one in command.params if isinstance(one, click.Option)]
        assert shown == {name for one in options for name in [*one.opts, *one.secondary_opts]}, path


def test_every_choice_is_documented() -> None:
    """What an option may be stands below its command, or below submit where that is named instead."""
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    for path, command in _commands(_cli(), "drakcelery"):
        for one in command.params:
            if isinstance(one.type, click.Choice):
                words = {str(choice) for choice in one.type.choices}
                part = _part(path, text)
                if re.search(rf"^\| `{one.opts[0]}\b.*as for `submit`", part, re.MULTILINE):
                    part += _part("drakcelery submit", text)
                assert {word for word in words if f"`{word}`" not in part} == set(), path


def targets_of(makefile: str) -> set[str]:
    """What can be made by name: every rule for words, be it said to be phony or not."""
    rules = re.findall(r"^([a-z][a-z -]*?) *::?(?!=)", makefile, re.MULTILINE)
    return {name for rule in rules for name in rule.split()}


def test_every_form_of_a_target_is_read() -> None:
    """Two targets of one rule count, and one that .PHONY does not name; a variable does not."""
    assert targets_of("a b: c\nd:\n\t@x: y\nmore := 1\nE := 2\n.PHONY: f g\n") == {"a", "b", "d"}


def test_every_target_of_make_is_documented() -> None:
    """docs/development.md has a row for each target, and for none that is gone."""
    text = (DOCS / "development.md").read_text(encoding="utf-8")
    targets = targets_of(MAKEFILE) - {"help", "check-python"}
    assert set(re.findall(r"^\| `make ([a-z-]+)` \| .{3,} \|$", text, re.MULTILINE)) == targets


def asked_for() -> set[str]:
    """What the code of the settings has as a text that looks like the name of a variable."""
    trees = (
        ast.parse(path.read_text(encoding="utf-8")) for path in Path(settings.__file__).parent.glob("*.py")
    )
    texts = {
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {text for text in texts if re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", text)}


def test_every_variable_is_documented() -> None:
    """So are the variables of the environment that are no setting's own."""
    pages = "".join((DOCS / name).read_text(encoding="utf-8") for name in ("settings.md", "development.md"))
    names = {value for name, value in vars(settings).items() if name.endswith("_VARIABLE")} | asked_for()
    assert {name for name in names if f"`{name}`" not in pages} == set()
    assert {settings.CONFIG_VARIABLE, settings.DATA_DIR_VARIABLE} <= names


def test_documented_commands_exist() -> None:
    """docs/commands.md describes no command that is gone."""
    known = {"drakcelery", *(path for path, _ in _commands(_cli(), "drakcelery"))}
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^## `(drakcelery[^`]*)`$", text, re.MULTILINE)) == known


def _typed() -> list[Command]:
    """What the documents tell their readers to type."""
    pages = [*reference.ROOT.glob("*.md"), *DOCS.glob("*.md")]
    return [
        command
        for page in sorted(pages)
        for command in extract(page.read_text(encoding="utf-8"), str(page.relative_to(reference.ROOT)))
    ]


def _check_drakcelery(words: list[str]) -> None:
    """Parse as click would. Raises :class:`click.UsageError`."""
    command: click.Command = _cli()
    context = click.Context(command, info_name="drakcelery", resilient_parsing=True)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            raise click.UsageError(f"no command {words[0]}")
        command, words = found, words[1:]
    _, extra, _ = command.make_parser(click.Context(command)).parse_args(words)
    if extra:
        raise click.UsageError(f"too much: {extra}")


def _check_make(words: list[str]) -> None:
    targets = targets_of(MAKEFILE)
    unknown = [word for word in words if "=" not in word and word not in targets]
    if unknown:
        raise click.UsageError(f"no target {unknown}")


CHECKS = {"drakcelery": _check_drakcelery, "make": _check_make}
OTHER_PROGRAMS = frozenset(
    {"celery", "eval", "git", "cd", "source", ".", "export", "python", "wait"}
    | {"apt-get", "ln", "python3", "fetching/bin/pip", "/opt/drakcelery-0.1.0/bin/pip"}
)
"""Programs whose command lines are not ours to check: tests/acceptance runs them."""


@pytest.mark.parametrize("command", _typed(), ids=str)
def test_typed_commands_exist(command: Command) -> None:
    """Every command line in README and docs names programs, commands, options and targets that there are."""
    # What a shell substitutes is a command as well
    text = command.text.removeprefix("uid=$(").removesuffix(")") if "=$(" in command.text else command.text
    program, *words = shlex.split(text, comments=True)
    assert program in CHECKS.keys() | OTHER_PROGRAMS
    if program in CHECKS:
        CHECKS[program](words)


@pytest.mark.parametrize("wrong", ["submit a --wiat", "sumbit a", "fetch a b --to c", "worker xm"])
def test_wrong_command_lines_are_noticed(wrong: str) -> None:
    """The check above tells a slip from a command."""
    with pytest.raises(click.UsageError):
        _check_drakcelery(wrong.split())


@pytest.mark.slow
def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    """sphinx-build takes every page, finds every link, and needs no network."""
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(DOCS), str(tmp_path / "html")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for page in DOCS.glob("*.md"):
        assert (tmp_path / "html" / f"{page.stem}.html").is_file(), f"{page.name} is not part of the site"
