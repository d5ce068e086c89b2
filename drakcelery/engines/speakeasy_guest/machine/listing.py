"""Files by their paths; Speakeasy's own list is searched from its beginning for each of them.

A program that encrypts a disk makes some ten thousand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

MAX_PATH: Final = 260
"""Characters of a folder's path up to which it is known to be one for a file that lies in it."""


class Listing:
    """Files in the order in which they came; the first one of a name stays."""

    def __init__(self) -> None:
        self._by_path: dict[str, Any] = {}
        self._inside: Counter[str] = Counter()
        """How many files are in a folder, at any depth."""

    def __iter__(self) -> Iterator[Any]:
        """Those that are there now."""
        return iter(list(self._by_path.values()))

    def __len__(self) -> int:
        """Their number."""
        return len(self._by_path)

    def append(self, file: Any) -> None:
        """Add a file."""
        path = file.get_path().lower()
        if self._by_path.setdefault(path, file) is file:
            self._inside.update(_around(path))

    def remove(self, file: Any) -> None:
        """Take a file away; one that is not there is fine."""
        path = file.get_path().lower()
        if self._by_path.get(path) is file:
            del self._by_path[path]
            for folder in _around(path):
                self._inside[folder] -= 1
                if not self._inside[folder]:
                    del self._inside[folder]

    def rename(self, file: Any, path: str) -> None:
        """Give a file another path, where there is none."""
        self.remove(file)
        file.path = path
        self.append(file)

    def find(self, path: str) -> Any:
        """The file of that path, or None."""
        return self._by_path.get(path.lower())

    def is_folder(self, path: str) -> bool:
        """Whether a file lies in the folder of that path, which ends without a backslash."""
        return path.lower() in self._inside


def _around(path: str) -> Iterator[str]:
    """The folders that a path lies in, without the drive."""
    at = path.find("\\", path.find("\\") + 1)
    while 0 <= at <= MAX_PATH:
        yield path[:at]
        at = path.find("\\", at + 1)
