"""Real Windows programs that this project did not write: the launchers inside pip and setuptools."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Literal


def _file(distribution: str, ending: str) -> Path:
    files = metadata.files(distribution) or []
    return next(Path(str(file.locate())) for file in files if str(file).endswith(ending))


def launcher(bits: Literal[32, 64]) -> Path:
    """setuptools' command line launcher."""
    return _file("setuptools", f"setuptools/cli-{bits}.exe")


def distlib_launcher(bits: Literal[32, 64]) -> Path:
    """The console launcher of distlib, as pip carries it."""
    return _file("pip", f"distlib/t{bits}.exe")
