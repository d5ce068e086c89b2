"""The virtual environment that the package holds: built here, at home at another path and in Debian's Python.

It is made for Debian's own Python of this Python's minor version: what a package depends on may differ with
the third number as well. The dependencies are the locked ones, checked by their hashes, and kept below
``build/``.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from distribution import LOCK, ROOT

HOME = PurePosixPath("/usr/lib/drakcelery")
"""Where it is on the machine: not below /opt, which Debian's packages leave alone."""
EXTRAS = ("misp", "stix", "tracing")
"""What a production host may be told to use; the emulator, the embedded servers and capa are left out."""
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
"""Debian's package, and its program in /usr/bin."""
DEBIANS = Path("/usr/bin") / PYTHON
OURS = PurePosixPath("lib") / PYTHON / "site-packages" / "drakcelery"
PROGRAMS = ("celery", "drakcelery")
"""Those of the environment's programs that people use."""
BOOKS = ("direct_url.json", "INSTALLER", "REQUESTED", "RECORD")
"""What pip notes about an installation; here dpkg keeps the books."""


def build(cache: Path, target: Path) -> None:
    """Make the environment at *target*, the place of :data:`HOME` in the package's tree."""
    kept = _dependencies(cache)
    shutil.copytree(kept, target, symlinks=True)
    wheels = cache / "wheel"
    shutil.rmtree(wheels, ignore_errors=True)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), cwd=ROOT)
    (wheel,) = wheels.glob("*.whl")
    _pip(target, "--no-deps", str(wheel))
    _make_at_home(target)
    _compile(target, OURS)


def version(cache: Path) -> str:
    """That of the wheel which :func:`build` has put into the environment."""
    (wheel,) = (cache / "wheel").glob("*.whl")
    return wheel.name.split("-")[1]


def _dependencies(cache: Path) -> Path:
    """An environment with all but drakcelery itself: made and compiled once for each state of the lock."""
    wanted = "".join(f"{one}\n" for one in _requirements())
    digest = hashlib.sha256(LOCK.read_bytes() + wanted.encode() + _debians_version()).hexdigest()[:16]
    place = cache / f"compiled-{digest}"
    if place.is_dir():
        return place
    for old in cache.glob("compiled-*"):
        shutil.rmtree(old)
    cache.mkdir(parents=True, exist_ok=True)
    draft, listed = cache / "draft", cache / "requirements.txt"
    listed.write_text(wanted, encoding="utf-8")
    shutil.rmtree(draft, ignore_errors=True)
    run(str(DEBIANS), "-m", "venv", "--without-pip", "--symlinks", str(draft))
    _pip(draft, "--require-hashes", "--constraint", str(LOCK), "--requirement", str(listed))
    _compile(draft, PurePosixPath("lib"))
    return draft.rename(place)


def _debians_version() -> bytes:
    if not DEBIANS.is_file():
        raise SystemExit(f"{DEBIANS} is not there: the package is for Debian's own Python; install {PYTHON}")
    return subprocess.run([DEBIANS, "--version"], check=True, capture_output=True).stdout


def _requirements() -> Sequence[str]:
    """What the wheel asks for, with :data:`EXTRAS`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(one for extra in EXTRAS for one in extras[extra])]


def _pip(environment: Path, *arguments: str) -> None:
    python = environment / "bin" / "python"
    run(
        *(sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"),
        *("--disable-pip-version-check", "--no-compile", *arguments),
    )


def _make_at_home(target: Path) -> None:
    """Leave nothing in the environment that names this machine: its Python, its paths, its programs."""
    programs = target / "bin"
    for path in programs.iterdir():
        if path.name not in PROGRAMS:
            _remove(path)
    for name in PROGRAMS:
        text = (programs / name).read_text(encoding="utf-8").partition("\n")[2]
        (programs / name).write_text(f"#!{HOME}/bin/python3\n{text}", encoding="utf-8")
        (programs / name).chmod(0o755)
    (programs / "python3").symlink_to(DEBIANS)
    (target / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {PYTHON.removeprefix('python')}\n",
        encoding="utf-8",
    )
    for folder in (target / "lib" / PYTHON / "site-packages").glob("*.dist-info"):
        for name in BOOKS:
            (folder / name).unlink(missing_ok=True)
    for name in ("include", "share", ".gitignore", "lib64"):
        _remove(target / name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _compile(target: Path, part: PurePosixPath) -> None:
    """Byte code that is taken as it is: nothing writes there later, and no start compiles again."""
    run(
        *(str(DEBIANS), "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"),
        *("-s", str(target), "-p", str(HOME), str(target / part)),
        may_fail=True,  # some packages bring templates of modules, which no Python reads
    )


def installed(target: Path) -> list[tuple[str, str, str]]:
    """(name, version, licence) of each package in the environment."""
    found = []
    for path in sorted((target / "lib" / PYTHON / "site-packages").glob("*.dist-info/METADATA")):
        text = path.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
        fields = {
            key: match[1].strip()
            for key in ("Name", "Version", "License-Expression", "License")
            if (match := re.search(rf"^{key}: (.+)$", text, re.MULTILINE))
        }
        classified = re.findall(r"^Classifier: License :: (?:OSI Approved :: )?(.+)$", text, re.MULTILINE)
        licence = fields.get("License-Expression") or ", ".join(classified) or fields.get("License", "")
        found.append((fields["Name"], fields["Version"], licence or "see its own files"))
    return found


def run(*command: str, cwd: Path | None = None, may_fail: bool = False) -> None:
    """Run a tool; what it said is the error where it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0 and not may_fail:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
