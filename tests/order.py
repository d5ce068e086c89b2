"""A plugin of pytest: where several processes share the tests, files of all folders run side by side.

Tests of fleets wait for most of their time, those of modules compute. One folder after the other, the
processors are idle through the first half of a run and the tests wait for them in the second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

HERE = Path(__file__).parent
A_LOOK_AT_THE_CODE = "the rules"
ENDS = {"unit": 1.0, "heart": 0.45, A_LOOK_AT_THE_CODE: 0.2}
"""The part of the run by whose end a folder has begun its last file. Small ones fill the end."""
OTHERS_END = 0.85


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the files in order, in each of the processes that share them (all have to agree)."""
    if hasattr(config, "workerinput"):
        files = [list(group) for _, group in groupby(items, key=lambda item: item.path)]
        places = side_by_side([group[0].path for group in files])
        items[:] = chain.from_iterable(files[place] for place in places)


def side_by_side(paths: Iterable[Path]) -> list[int]:
    """The places of *paths* in the order in which they run: each folder spread over the whole run."""
    folders = [_folder(path.relative_to(HERE)) for path in paths]
    totals, seen = Counter(folders), Counter[str]()
    keys = []
    for folder in folders:
        keys.append(ENDS.get(folder, OTHERS_END) * (seen[folder] + 0.5) / totals[folder])
        seen[folder] += 1
    return sorted(range(len(keys)), key=keys.__getitem__)


def _folder(path: Path) -> str:
    """That of a file below the tests. Those of the rules begin early: one process does all of them."""
    return A_LOOK_AT_THE_CODE if f"tests/{path.as_posix()}" in RULES else path.parts[0]


RULES = frozenset(
    f"tests/unit/test_{name}.py"
    for name in ("keys", "layers", "logs", "metrics", "process_state", "sizes", "states", "words")
)
"""Files that read the code of the whole package (``tests.modules``), which takes seconds to parse."""
SHARED = frozenset(
    f"tests/acceptance/test_{name}.py"
    for name in (
        *("behaviour", "collector", "commands", "contract", "doctor", "refusals", "report", "republish"),
        *("backup", "readme_report", "retry", "reuse", "submit"),
    )
)
"""Files that share one embedded stack (``tests.acceptance.conftest.deployment``)."""
HEART = "tests/heart/"
"""Files that share the servers (``tests.conftest.services``), which each process starts for itself."""
ITS_LARGEST = f"{HEART}test_every_error.py"
"""It takes as long as all others: in one process with them it would be the last one at work."""


class SideBySide(LoadFileScheduling):  # type: ignore[misc] # xdist has no types
    """Each file in one process; those that share a stack, servers, or the code as trees, in the same one."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        if file in RULES:
            return A_LOOK_AT_THE_CODE
        if file.startswith(HEART) and file != ITS_LARGEST:
            return HEART
        return "a shared stack" if file in SHARED else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SideBySide | None:
    """Share the tests out like this for ``--dist=loadfile``."""
    return SideBySide(config, log) if config.getvalue("dist") == "loadfile" else None
