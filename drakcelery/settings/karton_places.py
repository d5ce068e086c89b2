"""Where Karton has its settings beside ours: its files, and its variables.

Facts are from ``karton.core.config.Config`` 5.9: of its files a later one counts more, in the order ``/etc``,
home, current directory, ``KARTON_CONFIG_FILE``; variables ``KARTON_<SECTION>_<KEY>`` count most.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from drakcelery.errors import SettingsError

FILE_VARIABLE = "KARTON_CONFIG_FILE"
_KEY = re.compile(r"KARTON_(REDIS|S3|MINIO)_[A-Z0-9_]+")


def karton_files() -> list[Path]:
    """This user's files of Karton, those below ``/etc`` aside; what counts most comes first.

    Raises:
        SettingsError: the variable names a file that is not there, or it cannot be found out.
    """
    places = [Path("karton.ini").absolute()]
    with contextlib.suppress(RuntimeError):  # some containers' users have no home
        places.append(Path.home() / ".config" / "karton" / "karton.ini")
    found = [path for path in places if _is_there(path)]
    named = os.environ.get(FILE_VARIABLE)
    if not named:
        return found
    if not _is_there(Path(named)):
        raise SettingsError(f"{FILE_VARIABLE} {named}: no such file")
    return [Path(named).absolute(), *found]


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None


def karton_variables() -> list[str]:
    """Names of the variables with which Karton's programs, started here, would find other servers."""
    return sorted(name for name in os.environ if _KEY.fullmatch(name))
