"""``install.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Self


class InstallInfo:
    """What was installed."""

    def __init__(self, vnc_passwd: str) -> None:
        self.vnc_passwd = vnc_passwd

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises KeyError where it is no such file."""
        return cls(json.loads(path.read_bytes())["vnc_passwd"])
