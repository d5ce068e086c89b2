"""The emulator's libraries and dialogues, as far as they are no Windows: names, relocations, templates."""

from __future__ import annotations

import struct
import warnings

import pytest

from drakcelery.engines.speakeasy_guest.apis.dialog_templates import controls
from drakcelery.engines.speakeasy_guest.programs.library_search import with_ending

with warnings.catch_warnings():  # of Unicorn's bindings
    warnings.simplefilter("ignore")
    from drakcelery.engines.speakeasy_guest.programs.library_image import Unloadable, parse, relocate


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("name", "name.dll"),
        ("name.", "name"),
        ("name.dll", "name.dll"),
        ("name.ocx", "name.ocx"),
        ("C:/some.folder/name", "C:\\some.folder\\name.dll"),
        ("name ", "name.dll"),
        ("", ""),
    ],
)
def test_the_name_of_a_library(given: str, wanted: str) -> None:
    """LoadLibrary completes a name without an ending."""
    assert with_ending(given) == wanted


def test_relocations() -> None:
    """Addresses of 4 and 8 bytes move; a block that is damaged ends them, and nothing outside is touched."""
    image = bytearray(0x3000)
    struct.pack_into("<I", image, 0x1004, 0x401000)
    struct.pack_into("<Q", image, 0x1010, 0x140001000)
    entries = (3 << 12 | 0x004, 10 << 12 | 0x010, 0)
    struct.pack_into("<II3H", image, 0x2000, 0x1000, 14, *entries)
    struct.pack_into("<II1H", image, 0x200E, 0x2000, 10, 3 << 12 | 0xFFE)
    struct.pack_into("<II", image, 0x2018, 0x1000, 4)
    before = bytes(image)
    relocate(image, 0x2000, 0x100, 0x10000)
    assert struct.unpack_from("<I", image, 0x1004) == (0x411000,)
    assert struct.unpack_from("<Q", image, 0x1010) == (0x140011000,)
    assert image[0x1018:] == before[0x1018:]


@pytest.mark.parametrize("data", [b"", b"MZ", b"text", b"MZ" + bytes(200)])
def test_what_is_no_library(data: bytes) -> None:
    """ERROR_BAD_EXE_FORMAT."""
    with pytest.raises(Unloadable) as refused:
        parse(data, "C:\\x.dll", bits=32)
    assert refused.value.code == 193


def _wide(text: str) -> bytes:
    return f"{text}\0".encode("utf-16-le")


def test_a_template_of_a_dialogue() -> None:
    """The old form: a button by default, a box that is disabled, a field of a class by name."""
    head = struct.pack("<IIHhhhh", 0x40, 0, 3, 0, 0, 100, 100) + 2 * b"\0\0" + _wide("Title")
    data = head + struct.pack("<H", 8) + _wide("Font")
    for style, number, kind, text in (
        (0x1, 1, b"\xff\xff\x80\0", _wide("Next")),
        (0x08000003, 7, b"\xff\xff\x80\0", _wide("Agree")),
        (0, 9, _wide("RichEdit20W"), b"\xff\xff\x05\0"),
    ):
        data += bytes(-len(data) % 4)
        data += struct.pack("<IIhhhhH", style, 0, 0, 0, 10, 10, number) + kind + text + b"\0\0"
    button, box, field = controls(data)
    assert (button.number, button.text, button.default, button.enabled) == (1, "Next", True, True)
    assert (box.number, box.checks, box.default, box.enabled) == (7, True, False, False)
    assert (field.number, field.button, field.text) == (9, False, "")
    assert [one.number for one in controls(data[:-8])] == [1, 7]
    assert controls(b"") == []
