"""A look at the headers of a program."""

from __future__ import annotations

import gc
from pathlib import Path

import pefile
import pytest

from drakcelery.model.program_file import headers

SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "behaviour.exe"


def test_a_look_searches_for_no_garbage(tmp_path: Path) -> None:
    """Not in a process as large as a worker: pefile would, whenever it closes a file or finds one broken."""
    (tmp_path / "broken").write_bytes(b"MZ" + bytes(100))
    searched: list[int] = []

    def seen(_phase: str, info: dict[str, int]) -> None:
        searched.append(info["generation"])

    gc.callbacks.append(seen)
    gc.disable()  # it has its own times
    try:
        with headers(SAMPLE) as image:
            assert image.FILE_HEADER.Machine == 0x8664
        with pytest.raises(pefile.PEFormatError), headers(tmp_path / "broken"):
            pass
    finally:
        gc.enable()
        gc.callbacks.remove(seen)
    assert searched == []


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
