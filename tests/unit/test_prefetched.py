"""Samples that were fetched before their attempts begin: only whole ones, and only once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from drakcelery.host.workspace import Prefetched

CONTENT = b"MZ"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def ahead(tmp_path: Path) -> Prefetched:
    """A place that holds the sample of the first attempt at ``some.uid``, and one that was not finished."""
    ours = Prefetched.of(tmp_path)
    ours.clear()
    part = ours.part()
    part.write_bytes(CONTENT)
    ours.add(part, "some.uid", 1, SHA256)
    ours.part().write_bytes(b"M")
    return ours


def test_it_is_taken_once(ahead: Prefetched, tmp_path: Path) -> None:
    """It moves to where it is wanted, with its sha256; nobody gets it a second time, nor another attempt."""
    target = tmp_path / "sample.exe"
    assert ahead.move("some.uid", 2, target) is None
    assert ahead.move("other", 1, target) is None
    assert ahead.move("some.uid", 1, target) == SHA256
    assert target.read_bytes() == CONTENT
    assert ahead.move("some.uid", 1, target) is None


def test_what_is_not_finished_is_nobodys(ahead: Prefetched) -> None:
    """A file gets its name when it is complete."""
    assert list(ahead.all()) == [("some.uid", 1)]
    assert len(list(ahead.root.iterdir())) == 2


def test_only_what_is_not_wanted_goes(ahead: Prefetched) -> None:
    """Another attempt's is left alone, and one that is not there is no error."""
    ahead.remove({("some.uid", 2), ("other", 1)})
    assert list(ahead.all()) == [("some.uid", 1)]
    ahead.remove({("some.uid", 1)})
    assert not ahead.all()


def test_a_worker_that_begins_finds_nothing(ahead: Prefetched, tmp_path: Path) -> None:
    """Whatever another one left is gone; and where nobody has begun, there is nothing to take."""
    ahead.clear()
    assert not list(ahead.root.iterdir())
    never = Prefetched.of(tmp_path / "never")
    assert never.move("some.uid", 1, tmp_path / "sample.exe") is None
