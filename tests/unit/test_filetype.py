"""libmagic looks at samples in a process of its own, which may die of them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drakcelery.errors import BadTask
from drakcelery.karton import filetype

PDF = b"%PDF-1.4\n"
DEADLY = """
import os, signal
from drakcelery.karton import filetype
looked = filetype.magic.from_buffer
def look(head):
    if b"deadly" in head:
        os.kill(os.getpid(), signal.SIGSEGV)
    if b"endless" in head:
        signal.pause()
    return looked(head)
filetype.magic.from_buffer = look
filetype.serve()
"""


@pytest.fixture
def looker() -> Iterator[filetype._Looker]:
    """A process of its own."""
    made = filetype._Looker()
    yield made
    made.end()


def pid(looker: filetype._Looker) -> int:
    """The process that answers now."""
    assert looker._process is not None
    return looker._process.pid


def test_it_lasts(looker: filetype._Looker, tmp_path: Path) -> None:
    """One process answers for sample after sample, large ones too, with what libmagic says."""
    samples = [PDF, b"MZ" + bytes(1024**2), b"#!/bin/sh\n", b"\xff\xfe\x00"]
    looker.describe(PDF)
    first = pid(looker)
    for sample in samples:
        (tmp_path / "sample").write_bytes(sample)
        assert looker.describe(sample) == filetype.describe_file(tmp_path / "sample")
    assert pid(looker) == first


def test_one_that_was_killed(looker: filetype._Looker) -> None:
    """A process that somebody killed is replaced, and the sample is looked at all the same."""
    looker.describe(PDF)
    os.kill(pid(looker), signal.SIGKILL)
    assert looker.describe(PDF).startswith("PDF document")


@pytest.mark.parametrize("head", [b"deadly", b"endless", b"deadly" * 100_000])
def test_a_sample_that_it_does_not_survive(
    looker: filetype._Looker, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    """What kills libmagic, or never ends, is refused after two tries; the next sample is looked at (R4)."""
    monkeypatch.setattr(filetype, "COMMAND", (sys.executable, "-c", DEADLY))
    looker.describe(PDF)
    first = pid(looker)
    if head == b"endless":
        monkeypatch.setattr(filetype, "LIMIT", 1)
    with pytest.raises(BadTask, match="libmagic does not survive this sample"):
        looker.describe(head)
    monkeypatch.undo()
    assert looker.describe(PDF).startswith("PDF document")
    assert pid(looker) != first
