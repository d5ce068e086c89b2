"""``drakcelery demo`` for a person who watches it: what it ends with on a terminal, and where that goes."""

from __future__ import annotations

import re
from pathlib import Path

from tests.acceptance.deployment import PROGRAMS
from tests.terminal import on_terminal, plain


def test_the_end_on_a_terminal(tmp_path: Path) -> None:
    """A person is told what the sample did, in a few lines; what is piped on has none of it."""
    out, page = on_terminal(PROGRAMS / "drakcelery", "demo", directory=tmp_path)
    lines = plain(page).splitlines()
    begin = lines.index("The sample was watched until the run ended. What it was seen to do is listed.")
    said = lines[begin:]
    assert any(re.match(r" *processes +.*behaviour\.exe", line) for line in said), said
    assert any("sample[.]drakcelery[.]invalid" in line for line in said), said
    where = "".join(said).rpartition("More: drakcelery report ")[2].replace(" ", "")
    assert (tmp_path / where.strip() / "report.json").is_file(), said
    assert "What it was seen to do" not in out
    assert "Done. The files are in" in " ".join(out.split())
