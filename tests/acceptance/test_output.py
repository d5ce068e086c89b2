"""Where the output goes is not ours to choose: full disks, closed pipes, terminals without our letters."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from drakcelery.model.text import LONGEST_LINE, printable
from drakcelery.testing import RECORDED

FORMATS = ("text", "markdown")
"""One that rich prints, and one that click does."""
FULL = Path("/dev/full")
"""A device that is always full (Linux)."""


def report(directory: Path, *words: str, how: str = '"$@"', **environment: str) -> tuple[int, str, str]:
    """Exit status, output and errors of `drakcelery report`, which bash runs as *how* says."""
    done = subprocess.run(
        [
            "/bin/bash",
            "-c",
            how,
            "bash",
            sys.executable,
            "-m",
            "drakcelery",
            "report",
            str(directory),
            *words,
        ],
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An analysis with a name that ASCII does not have."""
    made = Path(shutil.copytree(RECORDED, tmp_path / "analysis"))
    text = (made / "report.json").read_text(encoding="utf-8")
    changed = json.loads(text) | {"sample": json.loads(text)["sample"] | {"name": "отчёт.exe"}}
    (made / "report.json").write_text(json.dumps(changed), encoding="utf-8")
    return made


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk(directory: Path, form: str) -> None:
    """It ends with a sentence, and no traceback."""
    status, _, said = report(directory, "--format", form, how=f'"$@" > {FULL}')
    assert (status, said) == (1, "Error: the output: No space left on device\n")


@pytest.mark.parametrize("form", FORMATS)
def test_nowhere_to_write(directory: Path, form: str) -> None:
    """A closed output is as good as /dev/null; a reader that goes away ends it quietly."""
    assert report(directory, "--format", form, how='"$@" >&-') == (0, "", "")
    status, out, said = report(
        directory, "--all", "--format", form, how='"$@" | head -c 1; exit ${PIPESTATUS[0]}'
    )
    assert (status in (0, 1), len(out), said) == (True, 1, "")


@pytest.mark.parametrize(
    ("encoding", "form"), [("ascii", "text"), ("latin-1", "text"), ("latin-1", "markdown")]
)
def test_letters_that_a_terminal_lacks(directory: Path, encoding: str, form: str) -> None:
    """They are shown by their numbers."""
    status, out, said = report(directory, "--format", form, PYTHONIOENCODING=encoding)
    assert (status, said) == (0, "")
    assert "\\u043e\\u0442\\u0447\\u0451\\u0442.exe" in out.splitlines()[0]


def test_errors_reach_the_terminal_as_text(tmp_path: Path) -> None:
    """Whoever chose a name that is in an error, it moves no cursor."""
    status, _, said = report(tmp_path / "\x1b[2J\u202ename")
    assert status == 1
    assert "�[2J�name is no analysis" in said
    assert printable("a\nb\x1b\r\n" + "c" * 5000) == "a\nb��\n" + "c" * LONGEST_LINE + "…"
