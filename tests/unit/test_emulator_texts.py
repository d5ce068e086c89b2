"""Texts for the emulated program: how many bytes they are, and what of them has room."""

from __future__ import annotations

import pytest

from drakcelery.engines.speakeasy_guest.apis import texts


@pytest.mark.parametrize(
    ("text", "wide", "data"),
    [
        ("é€", False, b"\xe9\x80"),
        ("\x81字", False, b"\x81?"),
        ("é字", True, b"\xe9\0\x57\x5b"),
        ("\ud800", True, b"\0\xd8"),
        ("😀", True, b"\x3d\xd8\0\xde"),
    ],
)
def test_bytes_of_a_text(text: str, wide: bool, data: bytes) -> None:
    """In the code page, or in UTF-16 with whatever the program has made of it."""
    assert texts.encoded(text, wide=wide) == data
    assert texts.ended(text, wide=wide) == data + bytes(1 + wide)


@pytest.mark.parametrize(
    ("text", "room", "wide", "data"),
    [
        ("abc", 4, False, b"abc\0"),
        ("abc", 3, False, b"ab\0"),
        ("abc", 1, True, b"\0\0"),
        ("a😀b", 3, True, b"a\0\x3d\xd8\0\0"),
    ],
)
def test_what_has_no_room_is_cut(text: str, room: int, wide: bool, data: bytes) -> None:
    """Never more than the program has room for, whose characters are UTF-16's units."""
    assert texts.cut(text, room, wide=wide) == data
    assert len(texts.field(text, room, wide=wide)) == room * (1 + wide)
    assert texts.fits(text, room, wide=wide) == (len(texts.ended(text, wide=wide)) == len(data))
