"""Formats of ``printf`` that no compiler would pass."""

from __future__ import annotations

import time
import warnings

import pytest

with warnings.catch_warnings():  # Unicorn uses pkg_resources, which setuptools has declared old
    warnings.simplefilter("ignore")
    from drakcelery.engines.speakeasy_guest.crt.formats import SPECIFICATION


@pytest.mark.parametrize("form", [f"%{'0' * 60_000}", f"%{'-' * 60_000}!", f"%.{'0' * 60_000}!"])
def test_a_format_without_end(form: str) -> None:
    """It takes no longer than its length says."""
    begun = time.process_time()
    assert SPECIFICATION.match(form) is None
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    ("form", "flags", "width", "precision"),
    [
        ("%05d", "0", "5", None),
        ("%-+ 12.34f", "-+ ", "12", "34"),
        ("%.-5d", "", None, "-5"),
        ("%*.*s", "", "*", "*"),
        ("%.x", "", None, ""),
    ],
)
def test_its_parts(form: str, flags: str, width: str | None, precision: str | None) -> None:
    """As a C runtime reads them."""
    found = SPECIFICATION.match(form)
    assert found is not None
    assert (found["flags"], found["width"], found["precision"]) == (flags, width, precision)
