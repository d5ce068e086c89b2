"""The Debian packages that the machine is made of: downloaded by apt, unpacked, never installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

XEN = "xen-system-amd64"
KERNEL = "linux-image-amd64"
"""Both name the current version by what they depend on."""

LIBRARIES = re.compile(r"lib(xen[a-z0-9.]*|yajl\d+)")
"""What Xen's tools need and this machine need not have; all other libraries are taken from it."""


PACKAGES = {"qemu-system-x86_64": "qemu-system-x86", "dpkg-deb": "dpkg", "ldd": "libc-bin"}
"""Where a program's package has another name."""


class Missing(Exception):
    """Something is not to be had here: says what, and what to install."""


def find(program: str) -> str:
    """A program of this machine. Raises :class:`Missing` where it is not there."""
    found = shutil.which(program)
    if found is None:
        package = PACKAGES.get(program, program)
        raise Missing(f"{program} is not installed (Debian: apt-get install {package})")
    return found


def unpacked(directory: Path) -> Path:
    """The packages' files below ``directory/root``; what was done before is not done again.

    Raises:
        Missing: they cannot be had.
    """
    names = _names()
    root, stamp = directory / "root", directory / "packages.txt"
    if stamp.exists() and stamp.read_text().split() == names:
        return root
    shutil.rmtree(root, ignore_errors=True)
    archives = directory / "archives"
    shutil.rmtree(archives, ignore_errors=True)
    archives.mkdir(parents=True)
    _apt("get", "-qq", "download", *names, cwd=archives)
    for archive in sorted(archives.iterdir()):
        subprocess.run([find("dpkg-deb"), "--extract", archive, root], check=True)
    stamp.write_text("\n".join(names))
    return root


def _names() -> list[str]:
    """The packages: hypervisor, kernel, tools with their libraries, and a shell."""
    xen, kernel = _depends(XEN), _depends(KERNEL)
    tools = [name for name in xen if name.startswith(("xen-utils-", "xen-hypervisor-"))]
    libraries = {name for name in _everything(*tools) if LIBRARIES.fullmatch(name)}
    images = [name for name in kernel if name.startswith("linux-image-")]
    if len(tools) < 2 or not images or not libraries:
        raise Missing(f"apt knows no {XEN} or {KERNEL} (Debian, amd64): run apt-get update")
    return sorted({*tools, *libraries, *images[:1], "busybox-static", "xenstore-utils"})


def _depends(name: str) -> list[str]:
    return re.findall(r"^\s+Depends: (\S+)$", _apt("cache", "depends", name), re.MULTILINE)


def _everything(*names: str) -> list[str]:
    kinds = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    without = [f"--no-{kind}" for kind in kinds]
    return re.findall(r"^(\S+)$", _apt("cache", "depends", "--recurse", *without, *names), re.MULTILINE)


def _apt(command: str, *words: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [find(f"apt-{command}"), *words], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Missing(f"apt-{command} {words[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout
