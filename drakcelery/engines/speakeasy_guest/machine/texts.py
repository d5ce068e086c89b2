"""Strings of the emulated program; Speakeasy reads them by single characters, for a minute per megabyte."""

from __future__ import annotations

from typing import Final

from speakeasy import Win32Emulator

from drakcelery.engines.speakeasy_guest.apis.api import read_string
from drakcelery.engines.speakeasy_guest.machine.ansi import ANSI

MAX_TEXT: Final = 4 * 1024 * 1024
"""Bytes of one string that are looked at; a longer one ends there."""

ENCODINGS: Final = {1: ANSI, 2: "utf-16-le"}


class Texts(Win32Emulator):  # type: ignore[misc]  # the base has no types
    """A Windows that reads strings page by page."""

    def read_mem_string(self, address: int, width: int = 1, max_chars: int = 0) -> str:
        """The string at an address, *max_chars* characters at most if that is not 0."""
        text = self.mem_string(address, width, max_chars * width or MAX_TEXT)
        return text.decode(ENCODINGS[width], "ignore")

    def mem_string_len(self, address: int, width: int = 1) -> int:
        """The characters of the string at an address."""
        return len(self.mem_string(address, width)) // width

    def mem_string(self, address: int, width: int, limit: int = MAX_TEXT) -> bytes:
        """The bytes of the string at an address, without its zero; *limit* at most."""
        return read_string(self, address, width, min(limit, MAX_TEXT))
