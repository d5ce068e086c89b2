"""What our processes start without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"boto3", "argon2", "opentelemetry", "rich", "pygments", "yaml", "flower", "tornado"}
"""Packages that libraries of ours import, and we do not use."""


def output(code: str, *, libraries: Path | None = None) -> str:
    """What a new Python prints, which finds modules in *libraries* as well."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | ({"PYTHONPATH": str(libraries)} if libraries else {}),
    )
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


def test_what_comes_along_is_there(tmp_path: Path) -> None:
    """A package has the modules that the left out one would have brought; also if it is loaded again."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("from .base import Base\nfrom .plain import plain\n")
    (package / "base.py").write_text("from . import brought\nclass Base: pass\n")
    (package / "brought.py").touch()
    (package / "plain.py").write_text("plain = 1\n")
    code = (
        "from drakcelery import lean; lean.DEFERRED['package'] = 'package.base'; lean.start()\n"
        "import importlib, sys, package\n"
        "print(hasattr(package, '__wrapped__'), 'package.base' in sys.modules)\n"
        "print(package.brought.__name__, package.base.Base is package.Base, hasattr(package, 'nothing'))\n"
        "before = package.Base; importlib.reload(package); print(package.Base is before)"
    )
    said = output(code, libraries=tmp_path).splitlines()
    assert said == ["False False", "package.brought True False", "True"]


def test_other_threads_find_all(tmp_path: Path) -> None:
    """While one thread imports a library lean, another may need what is left out."""
    (tmp_path / "extra.py").write_text("wanted = 1\n")
    (tmp_path / "slow.py").write_text("import turns; turns.taken()\n")
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("from .base import Base\nimport turns; turns.taken()\n")
    (package / "base.py").write_text("class Base: pass\n")
    (tmp_path / "turns.py").write_text(
        "import threading\nbegun, go_on = threading.Semaphore(0), threading.Semaphore(0)\n"
        "def taken():\n    begun.release(); go_on.acquire()\n"
    )
    code = (
        "from drakcelery import lean; import importlib, sys, threading, turns\n"
        "lean.UNUSED['slow'] = ('extra',); lean.DEFERRED['package'] = 'package.base'; lean.start()\n"
        "def other(name):\n"
        "    one = threading.Thread(target=importlib.import_module, args=(name,), daemon=True); one.start()\n"
        "    turns.begun.acquire(); return one\n"
        "one = other('slow'); import extra; turns.go_on.release(); one.join()\n"
        "one = other('package'); base = sys.modules['package.base']; turns.go_on.release()\n"
        "import package; print(extra.wanted, base.Base is package.Base, isinstance(base.Base, type))"
    )
    assert output(code, libraries=tmp_path) == "1 True True"


def test_a_library_that_needs_it_gets_it(tmp_path: Path) -> None:
    """Another version of a library may not do without."""
    (tmp_path / "extra.py").write_text("wanted = 1\n")
    (tmp_path / "needs.py").write_text("from extra import wanted\n")
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("from .base import Base\nclass Further(Base, dict): pass\n")
    (package / "base.py").write_text("class Base: pass\n")
    code = (
        "from drakcelery import lean\n"
        "lean.UNUSED['needs'] = ('extra',); lean.DEFERRED['package'] = 'package.base'; lean.start()\n"
        "import needs, package; print(needs.wanted, package.Further.__mro__[1] is package.Base)"
    )
    assert output(code, libraries=tmp_path) == "1 True"


def test_tools_that_watch_imports_see_them() -> None:
    """Programs that measure others put a finder in front of all, and ask the loader of what comes by."""
    code = (
        "import sys; seen = []\n"
        "class Watch:\n    def find_spec(self, name, path, target=None): seen.append(name)\n"
        "sys.meta_path.insert(0, Watch())\n"
        "from drakcelery import lean; lean.start(); import importlib.util, os\n"
        "there = os.path.exists(importlib.util.find_spec('redis').loader.get_filename('redis'))\n"
        "import karton.core; print({'redis', 'karton.core'} <= set(seen), there)"
    )
    assert output(code) == "True True"


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
