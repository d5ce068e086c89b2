"""``FILE`` streams: buffers over descriptors, and the structures that programs look into."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from drakcelery.engines.speakeasy_guest.crt.descriptors import (
    EINVAL,
    O_APPEND,
    O_BINARY,
    O_CREAT,
    O_RDWR,
    O_TEXT,
    O_TRUNC,
    O_U8TEXT,
    O_U16TEXT,
    O_WRONLY,
    SEEK_CUR,
)
from drakcelery.engines.speakeasy_guest.crt.lent_buffers import PATIENCE, ROOM, LentBuffers
from drakcelery.engines.speakeasy_guest.crt.machine import to_units
from drakcelery.engines.speakeasy_guest.crt.variables import STREAMS, file_size

BUFFER = 4096
"""Bytes that are gathered before they are written, and read at a time."""

IO_READ, IO_WRITE, IO_EOF, IO_ERROR, IO_RW = 0x1, 0x2, 0x10, 0x20, 0x80
"""Bits of ``_flag``."""


@dataclass
class Stream:
    """An open ``FILE``."""

    address: int
    number: int
    """Its descriptor."""
    flags: int
    out: bytearray = field(default_factory=bytearray)
    ready: bytes = b""
    """What was read ahead."""
    at: int = 0
    """How much of that was taken."""
    returns: int = 0
    """Ends of lines in it that are two bytes in the file."""
    unbuffered: bool = False
    started: bool = False
    """Something was written: a byte order mark comes first."""
    process: int = 0
    """Of a pipe: the process behind it."""
    single: int = 0
    """Calls for a single character, one after the other."""
    room: int = 0
    """Memory of the program's for what is lent to it; 0 for none yet."""
    lent: int = 0
    """Bytes that the program goes through itself, at ``lent_at``."""
    lent_at: int = 0


def mode_flags(mode: str, default: int) -> int | None:
    """``fopen``'s mode as flags of ``_open``; None for one that is not known."""
    mode, _, encoding = mode.lower().replace(" ", "").partition(",ccs=")
    if not mode or mode[0] not in "rwa":
        return None
    flags = {"r": 0, "w": O_CREAT | O_TRUNC, "a": O_CREAT | O_APPEND}[mode[0]]
    flags |= O_RDWR if "+" in mode else O_WRONLY if mode[0] in "wa" else 0
    flags |= O_BINARY if "b" in mode else O_TEXT if "t" in mode else default & (O_BINARY | O_TEXT)
    if encoding in ("utf-8", "utf8"):
        flags |= O_U8TEXT
    elif encoding:
        flags |= O_U16TEXT
    return flags


class Streams:
    """The streams of one process."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self._open: dict[int, Stream] = {}
        self._size = file_size(runtime.machine)
        self._spare: list[int] = []
        self.lent = LentBuffers(runtime.machine)

    def standard(self, number: int) -> int:
        """The address of stdin, stdout or stderr."""
        address: int = self._runtime.variables.address("_iob") + number % STREAMS * self._size
        if number < 3 and address not in self._open:
            self._add(address, number, IO_READ if number == 0 else IO_WRITE)
        return address

    def get(self, address: int) -> Stream | None:
        """The stream at an address; None, with ``errno`` set, where there is none."""
        if address not in self._open and address:
            start = self._runtime.variables.address("_iob")
            if start <= address < start + 3 * self._size:
                self.standard((address - start) // self._size)
        stream = self._open.get(address)
        if stream is None:
            self._runtime.fail(EINVAL)
        else:
            self._take_back(stream)
        return stream

    def open(self, number: int, flags: int) -> int:
        """A stream over an open descriptor."""
        address = self._spare.pop() if self._spare else self._runtime.heap.zeroed(self._size)
        if not address:
            return 0
        bits = IO_RW if flags & O_RDWR else IO_WRITE if flags & O_WRONLY else IO_READ
        self._add(address, number, bits)
        return int(address)

    def _add(self, address: int, number: int, flags: int) -> None:
        self._open[address] = Stream(address, number, flags)
        self._runtime.machine.write(address, bytes(self._size))
        self._show(self._open[address])

    def lend(self, stream: Stream) -> None:
        """After many calls for a character each: have the program itself put the next ones, or get them."""
        stream.single += 1
        descriptor = self._runtime.files.get(stream.number)
        wide = descriptor is None or descriptor.encoding
        if stream.single < PATIENCE or stream.unbuffered or stream.number == 2 or wide:
            return
        data = stream.ready[stream.at : stream.at + ROOM]
        if stream.out and not data:
            size = ROOM
        elif data and not stream.out:
            size = len(data)
        else:
            return
        stream.room = stream.room or self._runtime.heap.allocate(ROOM)
        if stream.room:
            self.lent.lend(stream, stream.room, data, room=size)

    def _take_back(self, stream: Stream) -> None:
        """Know what the program did with what was lent to it."""
        if not stream.lent:
            return
        done = self.lent.take_back(stream)
        if stream.ready:
            stream.at += len(done)
        else:
            stream.out += done

    def _show(self, stream: Stream) -> None:
        """What macros read: no buffer, so that they call a function for each character."""
        machine = self._runtime.machine
        size = machine.size
        machine.put(stream.address + size, 0, 4)
        machine.put(stream.address + 3 * size, stream.flags, 4)
        machine.put(stream.address + 3 * size + 4, stream.number, 4)

    def mark(self, stream: Stream, bits: int) -> None:
        """Note the end of the file or an error."""
        stream.flags |= bits
        self._show(stream)

    def clear(self, stream: Stream) -> None:
        """Forget both."""
        stream.flags &= ~(IO_EOF | IO_ERROR)
        self._show(stream)

    # Writing.

    def write(self, stream: Stream, data: bytes) -> int:
        """Bytes into the buffer, which is written when it is full; how many went in."""
        self._unread(stream)
        stream.started = True
        stream.out += data
        if len(stream.out) >= BUFFER or stream.unbuffered or stream.number == 2:
            return len(data) if self.flush(stream) == 0 else 0
        return len(data)

    def write_text(self, stream: Stream, text: str, width: int) -> int:
        """Text of that width, as the stream's mode has it."""
        if width == 1:
            return self.write(stream, to_units(text, 1))
        descriptor = self._runtime.files.get(stream.number)
        encoding = descriptor.encoding if descriptor else ""
        if encoding:
            mark = "" if stream.started or descriptor.position else "\ufeff"
            lines = text.replace("\n", "\r\n") if descriptor.is_text and encoding != "utf-8" else text
            return self.write(stream, (mark + lines).encode(encoding, "surrogatepass"))
        narrow = descriptor is None or descriptor.is_text
        return self.write(stream, to_units(text, 1 if narrow else 2))

    def flush(self, stream: Stream) -> int:
        """Write what is in the buffer; -1 if that failed."""
        data, stream.out = bytes(stream.out), bytearray()
        if not data:
            return 0
        descriptor = self._runtime.files.get(stream.number)
        raw = descriptor is not None and descriptor.encoding == "utf-16-le"
        if self._runtime.files.write(stream.number, data, raw=raw) < 0:
            self.mark(stream, IO_ERROR)
            return -1
        return 0

    def flush_all(self) -> int:
        """Write the buffers of all streams; how many there are."""
        for stream in list(self._open.values()):
            self._take_back(stream)
            self.flush(stream)
        return len(self._open)

    # Reading.

    def read(self, stream: Stream, size: int) -> bytes:
        """Up to *size* bytes; less at the end of the file."""
        if stream.out:
            self.flush(stream)
        parts = bytearray()
        while len(parts) < size:
            if stream.at >= len(stream.ready):
                before = self._runtime.files.position(stream.number)
                more = self._runtime.files.read(stream.number, max(BUFFER, size - len(parts)))
                if not more:
                    self.mark(stream, IO_ERROR if more is None else IO_EOF)
                    break
                stream.ready, stream.at = more, 0
                stream.returns = self._runtime.files.position(stream.number) - before - len(more)
            piece = stream.ready[stream.at : stream.at + size - len(parts)]
            stream.at += len(piece)
            parts += piece
        return bytes(parts)

    def push_back(self, stream: Stream, data: bytes) -> None:
        """Put bytes before what is read next."""
        stream.ready, stream.at = data + stream.ready[stream.at :], 0
        stream.flags &= ~IO_EOF
        self._show(stream)

    def _unread(self, stream: Stream) -> None:
        if stream.at < len(stream.ready):
            self._runtime.files.seek(stream.number, -_ahead(stream), SEEK_CUR)
        stream.ready, stream.at = b"", 0

    # Position and end.

    def seek(self, stream: Stream, offset: int, whence: int) -> int:
        """Move; 0, or -1."""
        self.flush(stream)
        self._unread(stream)
        self.clear(stream)
        return 0 if self._runtime.files.seek(stream.number, offset, whence) >= 0 else -1

    def position(self, stream: Stream) -> int:
        """Where the stream is, or -1."""
        self.flush(stream)
        position: int = self._runtime.files.seek(stream.number, 0, SEEK_CUR)
        return position - _ahead(stream) if position >= 0 else -1

    def close(self, stream: Stream) -> int:
        """Write what is left and close the descriptor; 0, or -1."""
        self.flush(stream)
        del self._open[stream.address]
        if stream.number > 2:
            self._spare.append(stream.address)
        return int(self._runtime.files.close(stream.number))


def _ahead(stream: Stream) -> int:
    """Bytes of the file that were read and not taken yet; its last lines' ends count as two, if any do."""
    left = stream.ready[stream.at :]
    return len(left) + max(min(left.count(b"\n"), stream.returns), 0)
