"""An artifact while it is written. It is hashed on the way, so that it need not be read again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from drakcelery.model.manifest import Artifact

Ready = Callable[[Artifact], None]
"""Called with an artifact as soon as it is complete, under its final name."""

_BUFFER = 64 * 1024


def nobody(_: Artifact) -> None:
    """Do nothing with the artifact."""


class Output:
    """A context: a new file that appears as *path* when it is complete, or not at all.

    Leaving the context without a call of :meth:`finish` removes what was written.
    """

    def __init__(self, path: Path, ready: Ready = nobody) -> None:
        self._path = path
        self._ready = ready
        self._part = path.with_name(f".{path.name}.part")
        self._file = self._part.open("xb", _BUFFER)
        self._sha256 = hashlib.sha256(usedforsecurity=False)
        self._size = 0
        self._finished = False

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._finished:
            try:
                self._file.close()
            finally:
                self._part.unlink()

    def write(self, data: bytes) -> int:
        """Append *data*."""
        self._sha256.update(data)
        self._size += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        """How much was written."""
        return self._size

    def finish(self) -> None:
        """Give the file its final name, and call *ready*."""
        self._file.close()
        self._part.rename(self._path)
        self._finished = True
        self._ready(Artifact(name=self._path.name, size=self._size, sha256=self._sha256.hexdigest()))
