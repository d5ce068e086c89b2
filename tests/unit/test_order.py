"""The order in which several processes share the test files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

from tests.order import HERE, OTHERS_END, RULES, SHARED, side_by_side

FOLDERS = {"acceptance": 20, "faults": 40, "unit": 80}


def ordered(counts: dict[str, int]) -> list[Path]:
    files = [
        HERE / folder / f"test_{number}.py" for folder, count in counts.items() for number in range(count)
    ]
    return [files[place] for place in side_by_side(files)]


def of(folder: str, files: Iterable[Path]) -> list[str]:
    return [file.name for file in files if file.parent.name == folder]


def test_every_file_once_and_each_folder_in_its_own_order() -> None:
    files = ordered(FOLDERS)
    assert {folder: of(folder, files) for folder in FOLDERS} == {
        folder: [f"test_{number}.py" for number in range(count)] for folder, count in FOLDERS.items()
    }


def test_each_part_of_the_run_has_files_of_all_folders() -> None:
    files = ordered(FOLDERS)
    parts = [files[start : start + 28] for start in range(0, 112, 28)]
    for folder, count in FOLDERS.items():
        assert all(abs(len(of(folder, part)) - count / 5) <= 2 for part in parts), folder


def test_the_small_ones_come_last() -> None:
    last = ordered(FOLDERS)[-round(80 * (1 - OTHERS_END)) :]
    assert {file.parent.name for file in last} == {"unit"}


def test_one_folder_stays_as_it_is() -> None:
    assert ordered({"heart": 5}) == [HERE / "heart" / f"test_{number}.py" for number in range(5)]


def test_those_that_share_a_stack_are_listed() -> None:
    """A file whose tests ask for ``deployment`` or what is made of it, and that has none of its own."""
    found = set()
    for path in (HERE / "acceptance").glob("test_*.py"):
        functions = [
            node
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef)
        ]
        asked = {argument.arg for function in functions for argument in function.args.args}
        if asked & {"deployment", "receiver"} and "deployment" not in {one.name for one in functions}:
            found.add(path.relative_to(HERE.parent).as_posix())
    assert found == SHARED


def test_those_that_read_the_code_are_listed() -> None:
    """A file that asks for the package's modules as trees, or for the log events in them."""
    asking = re.compile(
        r"^from tests\.(?:modules|actions|sizes) import|^from tests import .*\bactions\b", re.MULTILINE
    )
    found = {
        path.relative_to(HERE.parent).as_posix()
        for path in (HERE / "unit").rglob("test_*.py")
        if asking.search(path.read_text(encoding="utf-8"))
    }
    assert found == RULES


def test_those_that_read_the_code_begin_early() -> None:
    """One process does all of them: begun late, it would be the last one at work."""
    files = [
        *(HERE / "unit" / f"test_{number}.py" for number in range(100)),
        *(HERE.parent / one for one in RULES),
    ]
    places = side_by_side(files)
    assert max(places.index(number) for number in range(100, len(files))) < len(files) / 3
