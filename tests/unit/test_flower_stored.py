"""Artifacts on the page of their analysis: texts in pieces, and a zip that is made while it is sent."""

from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drakcelery.flower.stored import archive as archives
from drakcelery.flower.stored import texts
from drakcelery.flower.stored.archive import archive
from drakcelery.flower.stored.texts import Piece, bounds, is_text, piece

PIECE = 16
"""Bytes of a piece here."""
LINES_OF_A_PIECE = 5


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kinds of pieces are small."""
    monkeypatch.setattr(texts, "PIECE", PIECE)
    monkeypatch.setattr(texts, "MOST_LINES", LINES_OF_A_PIECE)
    monkeypatch.setattr(archives, "PIECE", PIECE)


def read(text: bytes, *, start: int | None = None, before: int | None = None) -> Piece:
    """A piece, of what S3 would answer."""
    first, front, length = bounds(start=start, before=before)
    return piece(text[front : front + length], first=first, size=len(text), before=before)


def forwards(text: bytes) -> list[Piece]:
    """All pieces from the first on."""
    pieces = [read(text)]
    while pieces[-1].end < len(text):
        pieces.append(read(text, start=pieces[-1].end))
        assert pieces[-1].end > pieces[-2].end
    return pieces


LINES = st.lists(st.text(st.sampled_from("ab{}\x1b<"), max_size=40), max_size=12)


@given(LINES, st.booleans())
@example(["", "", ""], True)
@example(["x" * 40, "y"], False)
@example(["", "<" * 15], True)
@example([""] * 12, True)
def test_pieces_make_the_whole(lines: list[str], ends: bool) -> None:
    """Each byte is in one piece; lines are whole unless they are longer than a piece."""
    text = "\n".join(lines).encode() + (b"\n" if ends else b"")
    pieces = forwards(text)
    assert [one.start for one in pieces] == [0, *(one.end for one in pieces[:-1])]
    joined = "".join(
        "\n".join(one.lines) + ("" if one.ends_within or one.end == len(text) else "\n") for one in pieces
    )
    assert joined == text.decode().removesuffix("\n").replace("\x1b", "\ufffd")
    for one in pieces:
        assert len(one.lines) <= LINES_OF_A_PIECE + 1
        if one.begins_within or one.ends_within:
            assert any(len(line) >= PIECE - 1 for line in "\n".join(lines).split("\n"))


@given(LINES)
@example([""] * 12)
@example([*"abcdefg", ""])
def test_backwards(lines: list[str]) -> None:
    """From the end to the beginning, nothing is left out."""
    text = "\n".join(lines).encode()
    at, seen = len(text), 0
    while at:
        one = read(text, before=at)
        assert one.end == at
        assert one.start < at
        assert len(one.lines) <= LINES_OF_A_PIECE
        seen, at = seen + one.end - one.start, one.start
    assert seen == len(text)


def test_a_text_is_text() -> None:
    """Bytes that are none, control characters and the ends of lines of Windows do nothing."""
    one = read(b"\xff\x1b[1m\r\n<b>\x00")
    assert one.lines == ("\ufffd\ufffd[1m", "<b>\ufffd")
    assert not one.begins_within
    assert not one.ends_within
    assert read(b"").lines == ()
    assert [is_text(name) for name in ("a.log", "report.json", "dumps.zip", "dump.pcap")] == [
        *(True, True, False, False)
    ]


@given(st.dictionaries(st.sampled_from(["a.log", "b.json", "dumps.zip", "c"]), st.binary(max_size=70)))
def test_a_zip_of_all(files: dict[str, bytes]) -> None:
    """What comes out is a zip with each artifact below the uid, whose checksums are right."""
    asked = []

    def part(name: str, first: int, length: int) -> bytes:
        asked.append(length)
        return files[name][first : first + length]

    whole = b"".join(archive({name: len(data) for name, data in files.items()}, part, folder="a-1"))
    assert max(asked, default=0) <= PIECE
    with zipfile.ZipFile(io.BytesIO(whole)) as made:
        assert made.testzip() is None
        assert {name: made.read(name) for name in made.namelist()} == {
            f"a-1/{name}": data for name, data in files.items()
        }


def test_a_zip_whose_source_fails_is_no_zip() -> None:
    """The error comes out where the pieces do, and what was sent so far has no directory."""

    def fail(name: str, first: int, length: int) -> bytes:
        if name == "b":
            raise OSError(f"{first} is away")
        return b"x" * length

    made = archive({"a": 40, "b": 1}, fail, folder="a-1")
    sent = b"".join(next(made) for _ in range(3))
    with pytest.raises(OSError, match="0 is away"):
        next(made)
    assert sent.count(b"x") == 40
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(sent))
