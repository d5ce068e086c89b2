"""Makes what QEMU boots: hypervisor, kernel, and the initramfs of a dom0 with Python and this checkout."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.xen.layout import REPOSITORY
from tests.xen.real.packages import Missing, find

HERE = Path(__file__).parent
MODULES = ("xen-privcmd", "xenfs", "xen-evtchn", "xen-gntdev", "xen-gntalloc")
"""In the order in which they are loaded."""
CHECKOUT = ("drakcelery", "tests")
MODULES_OF_CHECKS = ("drakcelery.engines.drakvuf.engine", "tests.xen.host", "pytest")
"""What the checks import: packages of this environment that come with it are taken along."""
UNUSED = (
    *("test", "idlelib", "lib2to3", "turtledemo", "ensurepip", "tkinter", "distutils", "pydoc_data"),
    *("site-packages", "dist-packages", "config-*", "*.opt-?.pyc"),
)
"""Of Python's library."""
GUEST_INIT = "#!/bin/sh\nwhile :; do sleep 3600; done\n"
GUEST_POWEROFF = "#!/bin/sh\nexec busybox poweroff -f\n"
"""What the guest's kernel starts when Xen asks it to switch off."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """Files for QEMU."""

    xen: Path
    kernel: Path
    initramfs: Path


def build(root: Path, directory: Path) -> Image:
    """Make the image in *directory* from the packages unpacked below *root*. Raises :class:`Missing`."""
    dom0, guest = directory / "dom0", directory / "guest"
    for tree in (dom0, guest):
        shutil.rmtree(tree, ignore_errors=True)
    kernel = _one(root, "boot/vmlinuz-*")
    _busybox(root, guest)
    _write(guest / "init", GUEST_INIT)
    _write(guest / "sbin/poweroff", GUEST_POWEROFF)
    _busybox(root, dom0)
    _xen_tools(root, dom0)
    _python(dom0)
    _copy(kernel, dom0 / "boot" / "vmlinuz")
    for number, name in enumerate(MODULES):
        _copy(
            _one(root, f"lib/modules/*/kernel/drivers/xen/**/{name}.ko"), dom0 / f"modules/{number}-{name}.ko"
        )
    _write(dom0 / "init", (HERE / "dom0.sh").read_text())
    (dom0 / "boot" / "guest.cpio").write_bytes(archive(guest))
    image = Image(xen=directory / "xen", kernel=directory / "vmlinuz", initramfs=directory / "dom0.cpio")
    image.xen.write_bytes(gzip.decompress(_one(root, "boot/xen-*-amd64.gz").read_bytes()))
    _copy(kernel, image.kernel)
    image.initramfs.write_bytes(archive(dom0))
    return image


def _one(root: Path, pattern: str) -> Path:
    found = sorted(root.glob(pattern))
    if not found:
        raise Missing(f"the packages have no {pattern}")
    return found[-1]


def _busybox(root: Path, tree: Path) -> None:
    program = tree / "bin" / "busybox"
    _copy(next(path for path in (root / "bin/busybox", root / "usr/bin/busybox") if path.exists()), program)
    listed = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout
    for name in listed.split():
        if name != "busybox":
            (tree / "bin" / name).symlink_to("busybox")


def _xen_tools(root: Path, dom0: Path) -> None:
    """The programs of xen-utils, found under ``/usr/lib/xen``, and the libraries that they load."""
    tools = _one(root, "usr/lib/xen-*/bin")
    here = dom0 / tools.parent.relative_to(root)
    shutil.copytree(tools, here / "bin", symlinks=True)
    (dom0 / "usr/lib/xen").symlink_to(here.name)
    store = root / "usr/bin/xenstore"
    _copy(store, dom0 / "usr/bin/xenstore")
    _libraries([store, *(path for path in tools.iterdir() if path.is_file())], dom0, root)


def _python(dom0: Path) -> None:
    """This interpreter with its library, what the checks import, and the checkout, each in its place."""
    standard, base = Path(sysconfig.get_path("stdlib")), Path(sys.base_prefix)
    interpreter = Path(os.path.realpath(sys.executable))
    _copy(interpreter, dom0 / interpreter.relative_to("/"))
    python = dom0 / "usr/bin/python3"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.symlink_to(interpreter)
    _tree(standard, dom0, without=UNUSED)
    _libraries([interpreter, *standard.glob("lib-dynload/*.so"), *base.glob("lib/libpython3*.so*")], dom0)
    for package in _imported():
        _tree(package, dom0)
        _libraries(package.rglob("*.so") if package.is_dir() else [], dom0)
    for name in CHECKOUT:
        _tree(REPOSITORY / name, dom0)
    site = Path(sysconfig.get_path("purelib"))
    _write(dom0 / "etc/paths", f"export PYTHONPATH={REPOSITORY}:{site} CHECKOUT={REPOSITORY}\n")


def _imported() -> list[Path]:
    """The packages of this environment that the checks import."""
    site = Path(sysconfig.get_path("purelib"))
    code = (
        f"import sys, {', '.join(MODULES_OF_CHECKS)}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    kinds = ("", ".py", ".*.so", "-*.dist-info")
    return sorted({path for name in done.stdout.split() for kind in kinds for path in site.glob(name + kind)})


def _tree(source: Path, dom0: Path, *, without: Iterable[str] = ()) -> None:
    target = dom0 / source.relative_to("/")
    if source.is_file():
        _copy(source, target)
    else:
        left_out = shutil.ignore_patterns(*without)
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=left_out)


def _libraries(programs: Iterable[Path], dom0: Path, root: Path = Path("/")) -> None:
    """Copy what the dynamic linker would load, from below *root* first, each to its place."""
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": f"{root}/usr/lib/x86_64-linux-gnu" if root != Path("/") else "",
    }
    ldd = find("ldd")
    for program in programs:
        done = subprocess.run([ldd, program], capture_output=True, text=True, check=False, env=environment)
        if "not found" in done.stdout:
            missing = next(line.strip() for line in done.stdout.splitlines() if "not found" in line)
            raise Missing(f"{program.name} needs a library that this machine lacks: {missing}")
        for word in (Path(word) for word in done.stdout.split() if word.startswith("/")):
            place = word.relative_to(root if word.is_relative_to(root) else "/")
            if not (dom0 / place).exists():
                _copy(Path(os.path.realpath(word)), dom0 / place)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def archive(tree: Path) -> bytes:
    """*tree* as cpio, the form "newc" of the kernel's initramfs; all of it root's."""
    parts = []
    for number, path in enumerate(sorted(tree.rglob("*")), start=1):
        status = path.lstat()
        content = b""
        if stat.S_ISLNK(status.st_mode):
            content = os.fsencode(path.readlink())
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        name = os.fsencode(path.relative_to(tree))
        parts.append(_entry(name, number, status.st_mode, int(status.st_mtime), content))
    return b"".join([*parts, _entry(b"TRAILER!!!", 0, 0, 0, b"")])


def _entry(name: bytes, number: int, mode: int, modified: int, content: bytes) -> bytes:
    fields = (number, mode, 0, 0, 1, modified, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
