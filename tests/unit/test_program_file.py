"""A look at the headers of a program."""

from __future__ import annotations

import gc
from pathlib import Path

import pefile
import pytest

from drakcelery.model.program_file import headers

SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "behaviour.exe"


def test_a_look_searches_for_no_garbage() -> None:
    """Not in a process as large as a worker: pefile would, whenever it closes a file."""
    searched: list[int] = []

    def seen(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            searched.append(info["generation"])

    gc.callbacks.append(seen)
    try:
        with headers(SAMPLE) as image:
            assert image.FILE_HEADER.Machine == 0x8664
    finally:
        gc.callbacks.remove(seen)
    assert 2 not in searched


def test_what_is_no_program(tmp_path: Path) -> None:
    """Says so; the file can be removed afterwards."""
    for content in (b"", b"MZ", b"text"):
        path = tmp_path / "a"
        path.write_bytes(content)
        with pytest.raises(pefile.PEFormatError), headers(path):
            pass
        path.unlink()
    with pytest.raises(FileNotFoundError), headers(path):
        pass
