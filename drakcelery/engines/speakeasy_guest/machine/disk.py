"""Files of the emulated Windows: by path, in Speakeasy's own file manager, and by handle."""

from __future__ import annotations

import fnmatch
import io
import itertools
import ntpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from speakeasy.windows.fileman import File, FileManager

from drakcelery.engines.speakeasy_guest.configuration import FOLDER, USER
from drakcelery.engines.speakeasy_guest.machine import file_times
from drakcelery.engines.speakeasy_guest.machine.listing import Listing

MAX_FILE = 256 * 1024 * 1024
"""Bytes up to which a file may grow."""

FIRST_HANDLE = 0x10000
"""Handles of files, pipes and folders begin here: above those of all else, which they would run into."""

FOLDERS = (
    f"C:\\Users\\{USER}\\AppData\\LocalLow",
    f"C:\\Users\\{USER}\\Downloads",
    "C:\\Users\\Public\\Desktop",
    "C:\\Users\\Public\\Documents",
    *("C:\\Windows\\System32", "C:\\Windows\\SysWOW64", "C:\\Windows\\Temp"),
    "C:\\Program Files\\Common Files",
    "C:\\Program Files (x86)\\Common Files",
    "C:\\ProgramData\\Microsoft\\Windows\\Start Menu\\Programs\\Startup",
    "C:\\Users\\Public",
    f"C:\\Users\\{USER}\\AppData\\Local\\Temp",
    f"C:\\Users\\{USER}\\AppData\\Roaming\\Microsoft\\Windows\\Start Menu\\Programs\\Startup",
    f"C:\\Users\\{USER}\\Documents",
    FOLDER,
)
"""Folders that every Windows has."""

MAX_FOLDERS = 65536
MAX_FOLDER_PATH = 1024
"""Characters of a folder's path; each folder around it has one, too."""


@dataclass
class Opened:
    """A file behind a handle, with a position of its own; to Speakeasy's functions it is a file of theirs."""

    disk: Disk
    file: Any
    position: int = 0
    is_dir: bool = False
    is_pipe: bool = False

    @property
    def path(self) -> str:
        """Where it is."""
        return str(self.file.path)

    @property
    def data(self) -> io.BytesIO:
        """Its bytes."""
        return self.disk.content(self.file)

    def get_path(self) -> str:
        """As Speakeasy's files have it, like what follows."""
        return self.path

    def get_size(self) -> int:
        """Bytes."""
        return self.disk.size(self.file)

    def get_data(self, size: int = -1, reset_pointer: bool = False) -> bytes:
        """Bytes from the position on, which moves."""
        if reset_pointer:
            self.position = 0
        data = self.disk.read(self.file, self.position, self.get_size() if size < 0 else size)
        self.position += len(data)
        return data

    def add_data(self, data: bytes) -> None:
        """Put bytes at the position, which moves. Raises :class:`MemoryError` where it would be too large."""
        if not self.disk.write(self.file, self.position, data):
            raise MemoryError(f"a file may have {MAX_FILE} bytes")
        self.position += len(data)

    def is_directory(self) -> bool:
        """Whether it is a folder."""
        return self.is_dir


class Files(FileManager):  # type: ignore[misc]  # the base has no types
    """Speakeasy's files, found by their paths."""

    def __init__(self, config: dict[str, Any], emu: Any) -> None:
        super().__init__(config, emu)
        self.files = Listing()

    def get_file_from_path(self, path: str) -> Any:
        """The file of that path, or None."""
        return self.files.find(path)


class Disk:
    """The emulated file system."""

    def __init__(self, emu: Any) -> None:
        self._emu = emu
        self._folders: set[str] = set()
        self._handles = itertools.count(FIRST_HANDLE, 4)
        for folder in FOLDERS:
            self._add_folder(emu.guest.located(folder.rstrip("\\")))

    def _add_folder(self, path: str) -> None:
        outer = ""
        while len(path) > 2 and path != outer and len(self._folders) < MAX_FOLDERS:
            self._folders.add(path.lower())
            path, outer = ntpath.dirname(path).rstrip("\\"), path  # that of a share is itself

    @property
    def _files(self) -> Listing:
        listing: Listing = self._emu.get_file_manager().files
        return listing

    def full(self, path: str) -> str:
        """The absolute path, with backslashes."""
        path = path.replace("/", "\\")
        for prefix in ("\\\\?\\", "\\??\\"):
            if path.startswith(prefix) and path[5:6] == ":":
                path = path[4:]
        if path.startswith("\\\\"):
            return path
        return ntpath.normpath(ntpath.join(self._emu.get_cd() or "C:\\", path)) if path else ""

    def find(self, path: str) -> Any:
        """Speakeasy's file of that name, or None."""
        files = self._emu.get_file_manager()
        full = self.full(path)
        file = files.get_file_from_path(full) or files.get_file_from_path(path)
        if file is None and files.get_emu_file(full) is not None:
            self._emu.file_open(full)
            file = files.get_file_from_path(full)
        return file

    def create(self, path: str) -> Any:
        """An empty file in place of whatever is there."""
        return file_times.made(self._emu, self._emu.get_file_manager().create_file(self.full(path)))

    def content(self, file: Any) -> io.BytesIO:
        """The bytes of a file, which may be read and changed."""
        if file.data is None:
            file.get_size()
        if isinstance(file.data, bytes):
            file.data = io.BytesIO(file.data)
        if file.data is None:
            file.data = io.BytesIO()
        data: io.BytesIO = file.data
        return data

    def size(self, file: Any) -> int:
        """Bytes of a file."""
        return self.content(file).getbuffer().nbytes

    def read(self, file: Any, position: int, size: int) -> bytes:
        """Bytes from *position* on."""
        self._emu.sections.before_read(file, position, size)
        return bytes(self.content(file).getbuffer()[position : position + size])

    def write(self, file: Any, position: int, data: bytes) -> bool:
        """Put bytes at *position*; False if the file would be too large."""
        if position + len(data) > MAX_FILE:
            return False
        content = self.content(file)
        before = content.tell()
        content.seek(position)
        content.write(data)
        content.seek(before)
        file.bytes_written += len(data)
        file_times.written(self._emu, file)
        self._emu.sections.after_write(file, position, data)
        return True

    def resize(self, file: Any, size: int) -> bool:
        """Cut a file or add zeros to it."""
        if size > MAX_FILE:
            return False
        data = self.read(file, 0, size)
        content = self.content(file)
        content.seek(0)
        content.truncate(0)
        content.write(data.ljust(size, b"\0"))
        content.seek(0)
        return True

    def open(self, file: Any, *, is_dir: bool = False) -> int:
        """A handle with a position of its own."""
        return self.add(Opened(self, file, is_dir=is_dir))

    def add(self, opened: Opened) -> int:
        """A handle of what is open; others that it has share the position."""
        handle = next(self._handles)
        self._emu.get_file_manager().file_handles[handle] = opened
        return handle

    def all_opened(self) -> list[Opened]:
        """What handles of ours stand for."""
        return [one for one in self._emu.get_file_manager().file_handles.values() if isinstance(one, Opened)]

    def is_open(self, opened: Opened) -> bool:
        """Whether there is still a handle of it."""
        return any(one is opened for one in self._emu.get_file_manager().file_handles.values())

    def opened(self, handle: int) -> Opened | None:
        """What a handle of :meth:`open` stands for; None for any other."""
        found = self._emu.get_file_manager().file_handles.get(handle)
        return found if isinstance(found, Opened) else None

    def close(self, handle: int) -> None:
        """Forget a handle."""
        self._emu.get_file_manager().file_handles.pop(handle, None)

    def delete(self, path: str) -> bool:
        """Remove a file; False if there is none."""
        file = self.find(path)
        if file is None:
            return False
        self._files.remove(file)
        return True

    def rename(self, path: str, target: str) -> bool:
        """Give a file another name; False if there is no such file, or there is one of that name."""
        file, there = self.find(path), self.find(target)
        if file is None or there not in (None, file):
            return False
        self._files.rename(file, self.full(target))
        return True

    def make_folder(self, path: str) -> bool:
        """Make a folder; False if it is there already, or Windows would not."""
        full = self.full(path).rstrip("\\")
        if self.is_folder(full) or len(self._folders) >= MAX_FOLDERS or len(full) > MAX_FOLDER_PATH:
            return False
        self._add_folder(full)
        return True

    def remove_folder(self, path: str) -> bool:
        """Remove an empty folder; False if it is none."""
        full = self.full(path).lower().rstrip("\\")
        inside = full + "\\"
        below = any(name.startswith(inside) for name in self._folders)
        if full not in self._folders or below or self._files.is_folder(full):
            return False
        self._folders.discard(full)
        return True

    def folder(self, path: str) -> Any:
        """A folder as a file without content, for a handle."""
        return File(self.full(path))

    def folders_matching(self, pattern: str) -> Iterator[str]:
        """Names of folders that a pattern with ``*`` and ``?`` names."""
        full = self._pattern(pattern)
        for path in sorted(self._folders):
            if path.count("\\") == full.count("\\") and fnmatch.fnmatchcase(path, full):
                yield ntpath.basename(path)

    def dots(self, pattern: str) -> tuple[str, ...]:
        """What a search for everything in a folder gives first, but not in that of a drive."""
        folder, name = ntpath.split(self._pattern(pattern))
        return (".", "..") if name == "*" and len(folder) > 3 and self.is_folder(folder) else ()

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder of that name: one that was made, or that a file lies in."""
        full = self.full(path).lower().rstrip("\\")
        return full in self._folders or len(full) <= 2 or self._files.is_folder(full)

    def matching(self, pattern: str) -> Iterator[Any]:
        """Files that a pattern with ``*`` and ``?`` names."""
        full = self._pattern(pattern)
        for file in self._files:
            path = self.full(file.get_path()).lower()
            if path.count("\\") == full.count("\\") and fnmatch.fnmatchcase(path, full):
                yield file

    def _pattern(self, pattern: str) -> str:
        every = pattern.endswith("\\*.*") or pattern == "*.*"
        return self.full(pattern[:-2] if every else pattern).lower().replace("[", "[[]")

    def note(self, path: str, event: str, **more: Any) -> None:
        """Tell the recorder what happened to a file."""
        self._emu.recorder.log_file_access(None, self.full(path), event, **more)
