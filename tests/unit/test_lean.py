"""What our processes start without."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"boto3", "argon2", "opentelemetry", "rich", "pygments", "yaml", "flower", "tornado"}
"""Packages that libraries of ours import, and we do not use."""


def output(code: str) -> str:
    """What a new Python prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("module", "libraries", "needed"),
    [
        ("drakcelery.celery", "", set[str]()),
        ("drakcelery.cli.services", "", {"boto3"}),  # Karton's own way to write a bind
        ("drakcelery.cli.karton_system", "'structlog', 'redis'", {"boto3"}),
        ("drakcelery.embedded.stack", "'structlog', 'redis', 'minio'", set[str]()),
    ],
)
def test_a_role_imports_no_more_than_it_needs(module: str, libraries: str, needed: set[str]) -> None:
    """Nothing of what libraries import because it is there, or for what only others use of them."""
    loaded = output(
        f"from drakcelery import lean; lean.start({libraries}); import sys, {module}\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    assert "structlog" in loaded.split()
    assert HEAVY & set(loaded.split()) <= needed


def test_karton_system_needs_no_more_than_karton() -> None:
    """karton-system's process has nothing of ours but settings, logs and Karton's tasks."""
    loaded = output(
        "from drakcelery import lean; lean.start('structlog', 'redis')\n"
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
