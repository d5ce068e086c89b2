"""docs/migration.md says of each old key what the code does with it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from drakcelery.deploy.oldkeys import INI, TOML, Fate
from tests.reference import ROOT

PAGE = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("heading", "table"),
    [("### `config.ini` of v0.18", INI), ("### `config.toml` of v0.19 to v0.21", TOML)],
)
def test_page_and_table_agree(heading: str, table: Mapping[tuple[str, str], Fate]) -> None:
    """Each key has its row, in the table's words; there are no other rows."""
    part = PAGE.split(heading, 1)[1].split("\n#", 1)[0]
    rows = [line for line in part.splitlines() if line.startswith("| `[")]
    assert rows == [_row(section, key, fate) for (section, key), fate in table.items()]


def _row(section: str, key: str, fate: Fate) -> str:
    here = "–" if fate.target is None else f"`[{fate.target[0]}] {fate.target[1]}`"  # noqa: RUF001 a dash in the text
    return f"| `[{section}] {key}` | {here} | {fate.handling}: {fate.why} |"
