"""What our processes start without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"boto3", "argon2", "opentelemetry", "rich", "pygments", "yaml", "flower", "tornado"}
"""Packages that libraries of ours import, and we do not use."""


def output(code: str) -> str:
    """What a new Python prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("module", "needed"),
    [
        ("drakcelery.celery", set[str]()),
        ("drakcelery.cli.services", {"boto3"}),  # Karton's own way to write a bind
        ("drakcelery.cli.karton_system", {"boto3"}),
        ("drakcelery.embedded.stack", set[str]()),
        ("drakcelery.operators.waiting", set[str]()),
        ("drakcelery.operators.analyses", {"rich"}),
    ],
)
def test_a_role_imports_no_more_than_it_needs(module: str, needed: set[str]) -> None:
    """Nothing of what libraries import because it is there, or for what only others use of them."""
    loaded = output(
        f"from drakcelery import lean; lean.start(); import sys, {module}\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    assert "structlog" in loaded.split()
    assert HEAVY & set(loaded.split()) <= needed


def test_karton_system_needs_no_more_than_karton() -> None:
    """karton-system's process has nothing of ours but settings, logs and Karton's tasks."""
    loaded = output(
        "from drakcelery import lean; lean.start()\n"
        "import sys, drakcelery.cli.karton_system; print(*sys.modules)"
    ).split()
    assert not {"celery", "minio", "drakcelery.ingress", "drakcelery.stages"} & set(loaded)


def test_what_was_left_out_comes_when_it_is_wanted() -> None:
    """Karton's services, MinIO's administrator and rich are there for who imports them later."""
    code = (
        "from drakcelery import lean; lean.start(); import karton.core, minio, redis, structlog\n"
        "before = hasattr(karton.core, 'nothing')\n"
        "from karton.core import Karton, Producer; from minio import Minio, MinioAdmin; import rich, yaml\n"
        "print(before, Producer.__name__, karton.core.Karton is Karton, MinioAdmin.__name__, Minio.__name__)"
    )
    assert output(code) == "False Producer True MinioAdmin Minio"


def test_what_is_imported_already_stays() -> None:
    """A library that somebody imported before is as it was."""
    code = (
        "import karton.core, karton.core.karton as before, rich\n"
        "from drakcelery import lean; lean.start(); import sys\n"
        "print(sys.modules['karton.core.karton'] is before, sys.modules['rich'] is rich)"
    )
    assert output(code) == "True True"


def test_a_library_is_as_others_import_it() -> None:
    """Whoever asks a library where it is from gets the answer of Python's own loader."""
    code = (
        "from drakcelery import lean; lean.start(); lean.start(); import sys\n"
        "import importlib.resources, karton.core, redis\n"
        "print(*{type(one).__name__ for library in (karton.core, redis)"
        " for one in (library.__loader__, library.__spec__.loader)},"
        " importlib.resources.files(redis).joinpath('__init__.py').is_file(),"
        " sum(type(one).__module__ == lean.__name__ for one in sys.meta_path))"
    )
    assert output(code) == "SourceFileLoader True 1"


def test_a_library_that_is_not_there_is_missed_as_ever() -> None:
    """Where a library is not installed, the error is Python's."""
    code = (
        "from drakcelery import lean; lean.UNUSED['no_such_library'] = (); lean.start()\n"
        "try:\n    import no_such_library\nexcept ModuleNotFoundError as error:\n    print(error)"
    )
    assert output(code) == "No module named 'no_such_library'"


def test_the_command_starts_lean(tmp_path: Path) -> None:
    """A command that needs Karton's tasks, and none of its services, imports these only."""
    config = tmp_path / "drakcelery.ini"
    config.touch()
    code = (
        "import atexit, sys; from drakcelery.cli import main\n"
        "wanted = {'boto3', 'rich.traceback', 'karton.core.task'}\n"
        "atexit.register(lambda: print(*wanted & set(sys.modules)))\n"
        f"main(['wait', '--config', {str(config)!r}, '-'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, input="")
    assert "no uid was given" in done.stderr
    assert done.stdout.split() == ["karton.core.task"]
