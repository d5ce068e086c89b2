"""What the demo refuses before it starts anything."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from rich.console import Console

from drakcelery.embedded import demo
from drakcelery.errors import BadTask

LARGE = 4 * 1024**3


def large(path: Path) -> None:
    """A file of many bytes that takes no room."""
    path.touch()
    os.truncate(path, LARGE)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (os.mkfifo, "is no file"),  # to read it would wait for a writer, forever
        (Path.mkdir, "is no file"),
        (Path.touch, "is empty"),
        (large, f"has {LARGE} bytes"),
        (lambda path: path.symlink_to("/proc/self/mem"), "some.*thing cannot be read: Input/output error"),
        (lambda path: path.write_text("text"), "cannot tell how to start"),
    ],
)
def test_a_sample_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object], why: str
) -> None:
    """With a sentence, as `submit` does."""

    def started(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a stack was started")

    monkeypatch.setattr(demo, "background", started)
    make(tmp_path / "some[b]thing")
    with pytest.raises(BadTask, match=why):
        demo.run(tmp_path / "some[b]thing", timeout=1, to=tmp_path, console=Console())
