"""The ETag of a file on its way to S3."""

from __future__ import annotations

import functools
import hashlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakcelery.etag import FileOnItsWay

PART = 10
md5 = functools.partial(hashlib.md5, usedforsecurity=False)


def sent(data: bytes, length: int, reads: list[int]) -> tuple[FileOnItsWay, bytes]:
    """Read a file for an upload in pieces of these sizes, then to its end."""
    file = FileOnItsWay(io.BytesIO(data), length, PART)
    pieces = [file.read(size) for size in reads]
    return file, b"".join(pieces) + file.read()


@given(st.binary(min_size=1, max_size=60), st.lists(st.integers(1, 25), max_size=10))
def test_it_is_s3s_own(data: bytes, reads: list[int]) -> None:
    """MD5 for one part; for more, the MD5 of their MD5s and their number; however the file was read."""
    file, read = sent(data, len(data), reads)
    parts = [md5(data[start : start + PART]) for start in range(0, len(data), PART)]
    joined = md5(b"".join(part.digest() for part in parts)).hexdigest()
    assert read == data
    assert file.etag() == (parts[0].hexdigest() if len(parts) == 1 else f"{joined}-{len(parts)}")
    file.check()


def test_a_file_that_grows_is_cut_off() -> None:
    """Only the length that was announced is sent, and that is no error: logs grow."""
    file, read = sent(b"abcdef", 4, [3])
    assert read == b"abcd"
    file.check()


def test_a_file_that_shrinks_is_filled_up_and_reported() -> None:
    """Reading never fails half-way; the shortage is raised afterwards."""
    file, read = sent(b"abc", 5, [4])
    assert read == b"abc\0\0"
    with pytest.raises(OSError, match="shorter"):
        file.check()


class Broken(io.BytesIO):
    """A disk that fails."""

    def read(self, _size: int | None = -1, /) -> bytes:
        """Fail."""
        raise OSError(5, "Input/output error")


def test_an_unreadable_file_is_reported_afterwards() -> None:
    """An error of the disk is raised when the upload is over, not in the middle of it."""
    file = FileOnItsWay(Broken(), 3, PART)
    assert file.read() == bytes(3)
    with pytest.raises(OSError, match="Input/output error"):
        file.check()
