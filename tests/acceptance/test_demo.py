"""``drakcelery demo`` for a person who watches it: what it ends with on a terminal, and where that goes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

from drakcelery.embedded.supervision import marked
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


def test_it_is_ended_from_outside(tmp_path: Path) -> None:
    """Its processes and its data go as after Ctrl-C, and it dies of the signal."""
    words: list[str | Path] = [PROGRAMS / "drakcelery", "demo"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as process:
        assert process.stdout is not None
        assert any("Redis" in line for line in process.stdout), "the stack did not come up"
        (data_dir,) = tmp_path.glob("drakcelery-demo-*")
        assert marked(str(data_dir))
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
    assert process.returncode == -signal.SIGTERM
    assert not data_dir.exists()
    assert not marked(str(data_dir))
