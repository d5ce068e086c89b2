"""Keeps the recorded traffic, if there was any.

Formats: draft-ietf-opsawg-pcap (classic) and draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import io
import shutil
import struct
from pathlib import Path
from typing import BinaryIO

from drakcelery.artifacts.output import Output, Ready, nobody
from drakcelery.artifacts.untrusted import open_untrusted

PCAP = "dumps.pcap"

_CLASSIC = (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d")
"""Magic numbers: both byte orders, times in micro- and in nanoseconds."""
_CLASSIC_HEADER = 24
_CLASSIC_RECORD_HEADER = 16
_SECTION = b"\x0a\x0d\x0d\x0a"
_LITTLE_ENDIAN = b"\x4d\x3c\x2b\x1a"
_PACKET_BLOCKS = (2, 3, 6)
_BLOCKS_BEFORE_PACKETS = 1000
"""Descriptions of interfaces and names come first, a handful; more is not read."""
_COPY = 1024**2


def keep_pcap(source: Path, target: Path, ready: Ready = nobody) -> str | None:
    """Copy *source* to *target* if it is a capture that holds a packet.

    Returns:
        Why there is nothing to keep; None if *target* was written.

    Raises:
        UntrustedFileError: *source* is not a regular file.
    """
    try:
        raw = open_untrusted(source)
    except FileNotFoundError:
        return "none was recorded"
    with raw:
        if reason := _nothing_in(raw):
            return reason
        raw.seek(0)
        with Output(target, ready) as out:
            shutil.copyfileobj(raw, out, _COPY)
            out.finish()
    return None


def _nothing_in(file: BinaryIO) -> str | None:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    magic = file.read(4)
    if magic in _CLASSIC:
        enough = size > _CLASSIC_HEADER + _CLASSIC_RECORD_HEADER
    elif magic == _SECTION:
        enough = _has_packet_block(file, size)
    else:
        return "it is no pcap or pcapng file"
    return None if enough else "it holds no packet"


def _has_packet_block(file: BinaryIO, size: int) -> bool:
    """Whether one of the first blocks of a pcapng file is a complete packet."""
    file.seek(8)
    order = "<" if file.read(4) == _LITTLE_ENDIAN else ">"
    position = 0
    for _ in range(_BLOCKS_BEFORE_PACKETS):
        file.seek(position)
        header = file.read(8)
        if len(header) < 8:
            return False
        kind, length = struct.unpack(f"{order}II", header)
        position += length
        if length < 12 or position > size:
            return False
        if kind in _PACKET_BLOCKS:
            return True
    return False
