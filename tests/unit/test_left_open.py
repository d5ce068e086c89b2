"""What tests leave open is found."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import BinaryIO

from tests.left_open import unraisable


class Holder:
    """Holds a file, and itself: nothing but a collection finds it."""

    def __init__(self, held: BinaryIO | None) -> None:
        self.held, self.me = held, self


def test_an_open_file_in_a_cycle() -> None:
    """It is named; what holds nothing open is not."""
    Holder(Path(os.devnull).open("rb"))  # noqa: SIM115 left open on purpose
    with unraisable() as said:
        gc.collect()
    assert said != []
    assert all("unclosed" in text for text in said)
    Holder(None)
    with unraisable() as said:
        gc.collect()
    assert said == []
