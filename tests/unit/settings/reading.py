"""Settings from a text."""

from __future__ import annotations

from pathlib import Path

import pytest

from drakcelery.errors import SettingsError
from drakcelery.settings import Settings, load


def write(directory: Path, text: str) -> Path:
    """A configuration file that holds *text*."""
    path = directory / "settings.ini"
    path.write_text(text, encoding="utf-8")
    return path


def read(directory: Path, text: str, **environment: str) -> Settings:
    """The settings that *text* and *environment* give."""
    return load(write(directory, text), environment=environment)


def complaint(directory: Path, text: str, **environment: str) -> str:
    """What is said of *text*, without the directory of the file."""
    with pytest.raises(SettingsError) as caught:
        read(directory, text, **environment)
    return str(caught.value).replace(f"{directory}/", "")
