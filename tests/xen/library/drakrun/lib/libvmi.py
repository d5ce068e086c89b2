"""``runtime.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self


class VmiInfo:
    """Offsets, and the process to inject into."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    @classmethod
    def load(cls, file_path: Path) -> Self:
        """Raises OSError or ValueError."""
        return cls(json.loads(Path(file_path).read_bytes()))
