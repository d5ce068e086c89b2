"""When a file was made, read and written last: by the clock of the emulated Windows, in its units."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any


@dataclass
class Times:
    """Of one file; 100 nanoseconds since 1601."""

    created: int
    accessed: int
    written: int

    def data(self) -> bytes:
        """Three times ``FILETIME``, in the order in which Windows always has them."""
        return struct.pack("<3Q", self.created, self.accessed, self.written)


def times_of(emu: Any, file: Any) -> Times:
    """Those of a file; of a folder (None) and of what came with Windows those of its installation."""
    times: Times | None = getattr(file, "times", None)
    if times is None:
        installed = emu.clock.installed
        times = Times(installed, installed, installed)
        if file is not None:
            file.times = times
    return times


def made(emu: Any, file: Any) -> Any:
    """A new file, which is given back."""
    now = emu.clock.file_time
    file.times = Times(now, now, now)
    return file


def written(emu: Any, file: Any) -> None:
    """A file is written to."""
    times = times_of(emu, file)
    times.written = times.accessed = emu.clock.file_time
