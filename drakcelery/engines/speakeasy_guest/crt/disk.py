"""Files of the emulated Windows, as the C runtime reaches them: by path, in Speakeasy's own file manager."""

from __future__ import annotations

import fnmatch
import io
import ntpath
from collections.abc import Iterator
from typing import Any

MAX_FILE = 256 * 1024 * 1024
"""Bytes up to which a file may grow."""


class Disk:
    """The emulated file system."""

    def __init__(self, emu: Any) -> None:
        self._emu = emu
        self._folders: set[str] = set()

    def full(self, path: str) -> str:
        """The absolute path, with backslashes."""
        path = path.replace("/", "\\")
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
        return self._emu.get_file_manager().create_file(self.full(path))

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

    def handle(self, file: Any) -> int:
        """A handle by which Windows' functions know the file too."""
        handle = int(file.get_handle())
        self._emu.get_file_manager().file_handles[handle] = file
        return handle

    def close(self, handle: int) -> None:
        """Forget a handle."""
        self._emu.get_file_manager().file_handles.pop(handle, None)

    def delete(self, path: str) -> bool:
        """Remove a file; False if there is none."""
        file = self.find(path)
        if file is None:
            return False
        self._emu.get_file_manager().files.remove(file)
        return True

    def rename(self, path: str, target: str) -> bool:
        """Give a file another name; False if there is no such file."""
        file = self.find(path)
        if file is None:
            return False
        file.path = self.full(target)
        return True

    def make_folder(self, path: str) -> bool:
        """Make a folder; False if it is there already."""
        full = self.full(path).lower()
        if full in self._folders:
            return False
        self._folders.add(full)
        return True

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder of that name: one that was made, or that a file lies in."""
        full = self.full(path).lower().rstrip("\\")
        known = (file.get_path().lower() for file in self._emu.get_file_manager().files)
        return full in self._folders or len(full) <= 2 or any(item.startswith(full + "\\") for item in known)

    def matching(self, pattern: str) -> Iterator[Any]:
        """Files that a pattern with ``*`` and ``?`` names."""
        full = self.full(pattern[:-2] if pattern.endswith("\\*.*") or pattern == "*.*" else pattern).lower()
        for file in list(self._emu.get_file_manager().files):
            path = self.full(file.get_path()).lower()
            if path.count("\\") == full.count("\\") and fnmatch.fnmatchcase(path, full.replace("[", "[[]")):
                yield file

    def note(self, path: str, event: str, **more: Any) -> None:
        """Tell the recorder what happened to a file."""
        self._emu.recorder.log_file_access(None, self.full(path), event, **more)
