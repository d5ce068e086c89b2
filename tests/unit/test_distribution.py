"""What is released beside the wheel: constraints, man pages, and the form of a version."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib

import click
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from distribution import LOCK, constraints, manual
from distribution.deb import debian_version
from drakcelery import __version__
from drakcelery.cli import SECTIONS, cli
from tests import reference
from tests.conftest import require

PROJECT = tomllib.loads((reference.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PLAIN = constraints.plain(LOCK.read_text(encoding="utf-8"), version="1.2.3")


def test_constraints_have_what_an_installation_needs() -> None:
    """Every dependency and every extra's is pinned; no development tool is; pip can read each line."""
    lines = [line for line in PLAIN.splitlines() if not line.startswith("#")]
    pinned = {canonicalize_name(Requirement(line).name) for line in lines}
    project = PROJECT["project"]
    wanted = [
        *project["dependencies"],
        *(one for some in project["optional-dependencies"].values() for one in some),
    ]
    assert {canonicalize_name(Requirement(one).name) for one in wanted} <= pinned
    assert {"vine", "botocore"} <= pinned, "what the dependencies need"
    assert not {"pytest", "ruff", "mypy", "sphinx", "hypothesis"} & pinned
    assert all(re.search(r"==\d", line) and "--hash" not in line for line in lines)


@pytest.mark.parametrize(
    ("ours", "debians"),
    [("1.0.0", "1.0.0"), ("1.0.0rc1", "1.0.0~rc1"), ("1.0.0.dev3", "1.0.0~dev3"), ("1.0.0b2", "1.0.0~b2")],
)
def test_version_in_debians_form(ours: str, debians: str) -> None:
    """What comes before a release is older than it at Debian as well."""
    assert debian_version(ours) == debians


def test_every_command_has_a_page() -> None:
    """So has each command of a group; it names the options, and the group its commands."""
    pages = manual.pages(cli, version="1.2.3", date="2026-01-02")
    names = [name for commands in SECTIONS.values() for name in commands]
    assert {"drakcelery.1", "drakcelery-bucket-grant.1", *(f"drakcelery-{name}.1" for name in names)} <= set(
        pages
    )
    assert r"\-\-priority" in pages["drakcelery-submit.1"]
    assert r"\-h" in pages["drakcelery-submit.1"]
    assert r"drakcelery\-bucket\-grant" in pages["drakcelery-bucket.1"]


@click.command(help="First.\n\n\b\n.dot\n'quote\n\nback\\slash --option")
def odd() -> None:
    """Has a help full of what roff reads."""


def test_pages_are_read_without_a_warning() -> None:
    """groff takes every page, and prints what the help says."""
    groff = shutil.which("groff")
    require(groff is not None, "groff is not installed (package groff-base)")
    assert groff is not None
    pages = manual.pages(cli, version="1.2.3", date="2026-01-02")
    (hard,) = manual.pages(odd, version="1", date="2026-01-02").values()
    for name, text in [*pages.items(), ("odd", hard)]:
        done = subprocess.run(
            [groff, "-man", "-Tascii", "-ww", "-P-c"], input=text, capture_output=True, text=True, check=True
        )
        assert done.stderr == "", name
    shown = done.stdout
    assert all(one in shown for one in (".dot\n", "'quote\n", "back\\slash --option"))


def test_changelog_begins_with_this_version() -> None:
    """A release is one number in one place, and the changelog's first part is its."""
    text = (reference.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = re.search(r"^## (\S+) - (unreleased|\d{4}-\d\d-\d\d)$", text, re.MULTILINE)
    assert heading is not None
    assert heading[1] == __version__
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "drakcelery/__init__.py"
