"""Programs as the emulator loads them: the same as Speakeasy's own, in less time."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from drakcelery.engines.speakeasy_guest.programs import images

with warnings.catch_warnings():  # of Unicorn's bindings
    warnings.simplefilter("ignore")
    from speakeasy.windows.common import PeFile

    from drakcelery.engines.speakeasy_guest.programs.image import Image

SAMPLES = sorted((Path(__file__).parents[2] / "samples").glob("*.exe")) + sorted(
    (Path(__file__).parents[2] / "samples").glob("*.dll")
)
SIZE_OF_RAW_DATA = 16
"""Where an ``IMAGE_SECTION_HEADER`` has it."""


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_an_image_is_what_speakeasy_makes_of_a_program(path: Path) -> None:
    """Content, linked imports, exports and entry point."""
    data = path.read_bytes()
    ours, theirs = Image(data=data), PeFile(data=data)
    assert ours.mapped_image == theirs.mapped_image
    assert ours.imports == theirs.imports
    assert ours.import_table == theirs.import_table
    assert (ours.base, ours.ep, ours.hash) == (theirs.base, theirs.ep, theirs.hash)
    assert [(one.name, one.address) for one in ours.get_exports()] == [
        (one.name, one.address) for one in theirs.get_exports()
    ]


def test_there_are_samples() -> None:
    """The test above has something to look at."""
    assert SAMPLES


def test_sections_have_whole_sectors_of_what_is_there() -> None:
    """A stated size is rounded up, and never beyond the end of the file; nothing else is changed."""
    data = SAMPLES[0].read_bytes()
    table = images.section_table(data)
    first = table.start + SIZE_OF_RAW_DATA
    short = data[:first] + (1).to_bytes(4, "little") + data[first + 4 :]
    start = int.from_bytes(data[first + 4 : first + 8], "little")
    for one, size in ((short, images.SECTOR), (short[: start + 100], 100)):
        whole = images.in_whole_sectors(one)
        assert int.from_bytes(whole[first : first + 4], "little") == size
        assert whole[:first] == one[:first]
    assert images.in_whole_sectors(data) == data


@pytest.mark.parametrize("data", [b"", b"MZ", b"text", b"MZ" + bytes(58) + b"\xff\xff\xff\x7f"])
def test_what_is_no_program_is_left_alone(data: bytes) -> None:
    """Whatever it is."""
    assert images.in_whole_sectors(data) == data
