"""Keeps the machine that runs the tests out of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drakcelery import settings as settings_module
from drakcelery.settings import all_sections


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the files or the environment of whoever runs it."""
    for variable in [name for name in os.environ if name.startswith("DRAKCELERY_")]:
        monkeypatch.delenv(variable)
    elsewhere = tmp_path / "etc"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings_module, "MINIO_ENVIRONMENT", elsewhere / "minio.env")
    monkeypatch.setattr(
        settings_module,
        "SEARCH_PATHS",
        (Path("drakcelery.ini"), elsewhere / "drakcelery.ini", elsewhere / "drakrun.ini"),
    )
    monkeypatch.setattr(all_sections, "XEN_CONTROL", elsewhere / "privcmd")
