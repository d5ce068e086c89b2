"""Memory dumps of the emulator: names, limits, and what is worth a dump."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakcelery.engines.speakeasy_guest.machine import memory
from drakcelery.engines.speakeasy_guest.record.dumps import Block, Dumps, dump_name
from drakcelery.engines.speakeasy_guest.record.journal import Journal

NAME = re.compile(r"^[a-f0-9]{4,16}_[a-f0-9]{16}$")
"""What the consumers of dumps.zip accept."""


def dumps(
    path: Path, *, plugins: tuple[str, ...] = ("memdump",), single: int = 1 << 20, total: int = 1 << 20
) -> Dumps:
    """Dumps into the test's directory."""
    log = Journal(path / "log", plugins=plugins, limit=1 << 20, context=dict, on_trouble=lambda: None)
    return Dumps(path / "dumps", journal=log, single_limit=single, total_limit=total)


def add(into: Dumps, base: int, *chunks: bytes) -> str | None:
    """Dump a block of process 7."""
    block = Block(base=base, reason="Possible shellcode detected", method="FinishAnalysis", pid=7)
    return into.add(block, chunks)


@given(st.integers(min_value=0, max_value=2**64 - 1), st.binary())
def test_every_name_is_one_that_consumers_accept(base: int, content: bytes) -> None:
    """The base address and the content's hash, lower-case hex, within the contract's lengths."""
    name = dump_name(base, hashlib.sha256(content).hexdigest())
    assert NAME.fullmatch(name)
    assert int(name.partition("_")[0], 16) == base


def test_a_dump_has_a_line_of_its_own(tmp_path: Path) -> None:
    """The file holds the block; memdump's line names it, with address and size in hex."""
    name = add(dumps(tmp_path), 0x50000, b"abc", b"def")
    assert name == f"50000_{hashlib.sha256(b'abcdef').hexdigest()[:16]}"
    assert (tmp_path / "dumps" / name).read_bytes() == b"abcdef"
    line = json.loads((tmp_path / "log").read_bytes())
    assert {key: line[key] for key in line if key.startswith("Dump")} == {
        "DumpReason": "Possible shellcode detected",
        "DumpPID": 7,
        "DumpAddr": "0x50000",
        "DumpSize": "0x6",
        "DumpFilename": name,
        "DumpsCount": 1,
    }


def test_equal_empty_and_zero_blocks_are_left_out(tmp_path: Path) -> None:
    """The same block is dumped once; nothing, or nothing but zeros, not at all; no half file stays."""
    into = dumps(tmp_path)
    assert add(into, 0x1000, b"x" * 10)
    assert add(into, 0x1000, b"x" * 10) is None
    assert add(into, 0x2000) is None
    assert add(into, 0x3000, bytes(5000), bytes(5000)) is None
    assert len(list((tmp_path / "dumps").iterdir())) == 1


def test_without_the_plugin_there_are_none(tmp_path: Path) -> None:
    """A job without memdump gets no dumps."""
    assert add(dumps(tmp_path, plugins=("apimon",)), 0x1000, b"x") is None
    assert not (tmp_path / "dumps").exists()


def test_one_dump_and_all_dumps_are_bounded(tmp_path: Path) -> None:
    """A block beyond the limit is cut and says so; when the total is used up, nothing more is written."""
    into = dumps(tmp_path, single=100, total=150)
    names = [add(into, 0x1000 * number, bytes([number]) * 300) for number in (1, 2, 3)]
    assert names[2] is None
    sizes = [(tmp_path / "dumps" / name).stat().st_size for name in names if name]
    assert sizes == [100, 50]
    lines = [json.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    assert [line["Truncated"] for line in lines] == [True, True]


def test_a_full_disk_is_our_fault_not_the_samples(tmp_path: Path) -> None:
    """An error of the file system is kept for the engine, and no more is tried."""
    (tmp_path / "dumps").write_text("a file where the directory should be")
    into = dumps(tmp_path)
    assert add(into, 0x1000, b"x") is None
    assert isinstance(into.failure, OSError)


def test_the_first_free_range_is_found() -> None:
    """Gaps that are large enough are used, those that are not are skipped, in whole pages."""
    taken = [(0x3000, 0x5000), (0x1000, 0x2000), (0x6000, 0x7000)]
    assert memory.first_free(taken, 0x1000, 0x1000, 1 << 32) == (0x2000, 0x1000)
    assert memory.first_free(taken, 0x1001, 0x1000, 1 << 32) == (0x7000, 0x2000)
    assert memory.first_free(taken, 1, 0x5123, 1 << 32) == (0x5000, 0x1000)
    assert memory.first_free([], 0, 0x9000, 1 << 32) == (0x9000, 0x1000)


def test_no_room_is_an_error() -> None:
    """A range that would end beyond the address space is refused."""
    with pytest.raises(MemoryError, match="no room"):
        memory.first_free([(0, (1 << 32) - 0x1000)], 0x2000, 0, 1 << 32)


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(1, 50))),
    st.integers(1, 0x20000),
    st.integers(0, 0x100000),
)
def test_a_free_range_overlaps_nothing(blocks: list[tuple[int, int]], size: int, start: int) -> None:
    """Whatever is taken, what is given is free, aligned and large enough."""
    taken = [(page * 0x1000, (page + count) * 0x1000) for page, count in blocks]
    base, total = memory.first_free(taken, size, start, 1 << 64)
    assert base % 0x1000 == total % 0x1000 == 0
    assert total >= size
    assert all(base >= end or base + total <= begin for begin, end in taken)
