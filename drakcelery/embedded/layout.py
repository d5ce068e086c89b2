"""Where the files are that are not code: the Procfile, its entry points and the samples."""

from __future__ import annotations

from pathlib import Path

from drakcelery.errors import StackError

_PACKAGE = Path(__file__).resolve().parent.parent


def home() -> Path:
    """The directory with ``Procfile``, ``workers/`` and ``samples/``: in the wheel, else the checkout.

    Raises:
        StackError: neither is there.
    """
    for directory in (_PACKAGE / "_stack", _PACKAGE.parent):
        if (directory / "Procfile").is_file() and (directory / "workers").is_dir():
            return directory
    raise StackError(
        f"no Procfile beside {_PACKAGE}: the installation is incomplete; install drakcelery again"
    )
