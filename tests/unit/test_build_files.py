"""The build files say what they promise: every target is listed, every version is locked."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import reference

ROOT = reference.ROOT
MAKE = shutil.which("make") or "make"
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PINNED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)", re.MULTILINE)


def _project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _requirements() -> list[Requirement]:
    project = _project()
    groups = (
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    )
    return [Requirement(text) for group in groups for text in group]


def test_tests_that_make_names_are_there() -> None:
    """What coverage is measured by: pytest runs none at all where one of them is missing."""
    told = subprocess.run(
        (MAKE, "--dry-run", "coverage"), cwd=ROOT, capture_output=True, text=True, check=True
    )
    named = set(re.findall(r"(?<=\s)tests/[\w/.]+", told.stdout))
    assert len(named) > 10
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_every_rule_beside_slow_tests_is_there() -> None:
    """pytest runs nothing at all where one of those that `make test-fast` names is missing."""
    told = subprocess.run(
        (MAKE, "--dry-run", "test-fast"), cwd=ROOT, capture_output=True, text=True, check=True
    )
    named = re.findall(r"(tests/[\w/.]+)::(\w+)", told.stdout)
    assert len(named) > 5
    for file, test in named:
        assert f"\ndef {test}(" in (ROOT / file).read_text(encoding="utf-8"), (file, test)


def test_help_lists_every_target() -> None:
    """Whoever types `make` sees all there is to type."""
    shown = subprocess.run((MAKE, "help"), cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = set(re.findall(r"^\.PHONY: (\S+)$", MAKEFILE, re.MULTILINE)) - {"check-python"}
    assert {"install", "demo", "up", "test", "lint", "types", "docs", "lock", "wheel", "clean"} <= targets
    listed = {line.split()[1] for line in shown.splitlines() if line.startswith("  make ")}
    assert listed == targets


@pytest.mark.parametrize("requirement", _requirements(), ids=str)
def test_lock_satisfies_pyproject(requirement: Requirement) -> None:
    """Each dependency is locked at a version that pyproject.toml allows; else: make lock."""
    versions = [
        match["version"]
        for match in PINNED.finditer(LOCK)
        if canonicalize_name(match["name"]) == canonicalize_name(requirement.name)
    ]
    assert versions, f"requirements.lock lacks {requirement.name}; run make lock"
    assert all(requirement.specifier.contains(version, prereleases=True) for version in versions)


def test_lock_has_hashes_and_no_addresses() -> None:
    """What is installed is what was locked, wherever it is downloaded from."""
    entries = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in LOCK
    assert "index-url" not in LOCK


def test_ci_runs_the_same_targets() -> None:
    """What CI checks, anyone can check with make."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for target in ("test", "lint", "types", "docs", "wheel"):
        assert re.search(rf"^make {target}( \|\| {{)?$", script, re.MULTILINE)


@pytest.mark.parametrize("sample", ["plain.exe", "with space.exe", "a'quote.exe", 'a"quote.exe', "a;b&c.exe"])
def test_demo_takes_any_file_name(sample: str) -> None:
    """`make demo SAMPLE=…` hands the name on as it is, and no part of it to the shell."""
    recipe = MAKEFILE.split("\ndemo:", 1)[1].split("\n\n", 1)[0].splitlines()[1]
    command = recipe.strip().removeprefix("@").replace("$$", "$")
    program = "import sys; print(ascii(sys.argv[1:]))"
    shown = subprocess.run(
        ("/bin/sh", "-c", command.replace("$(BIN)/drakcelery", f"{sys.executable} -c '{program}'")),
        env={"SAMPLE": sample},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.strip() == ascii(["demo", "--sample", sample])


def test_libmagic_comes_from_the_wheel() -> None:
    """`import magic` finds no library on a fresh machine unless pylibmagic was imported before."""
    for path in sorted((ROOT / "drakcelery").rglob("*.py")):
        lines = path.read_text(encoding="utf-8").splitlines()
        if "import magic" in lines:
            before = lines[: lines.index("import magic")]
            assert any(line.startswith("import pylibmagic") for line in before), (
                f"{path.relative_to(ROOT)} imports magic without pylibmagic before it"
            )
