"""The Debian package: a virtual environment with units, settings, man pages and completion around it.

Nothing of it needs root: dpkg-deb writes root as the owner of every file. What the scripts of the package do
is in ``debian/``; the units, the users and the configuration file are those of ``drakcelery init``.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path, PurePosixPath

from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from distribution import ROOT, environment, manual
from drakcelery.cli import cli
from drakcelery.deploy import configuration, plan
from drakcelery.deploy.targets import PACKAGED
from drakcelery.deploy.units import ROLES
from drakcelery.deploy.wish import CONFIG, Wish

HERE = Path(__file__).parent / "debian"
PROGRAM = environment.HOME / "bin" / "drakcelery"
MAINTAINER = "{} <{}>".format(
    os.environ.get("DEBFULLNAME", "drakcelery maintainers"),
    os.environ.get("DEBEMAIL", "maintainers@drakcelery.invalid"),
)
"""Who makes the package, by the variables that Debian's own tools read."""
COMPLETIONS: Mapping[str, type[ShellComplete]] = {
    "usr/share/bash-completion/completions/drakcelery": BashComplete,
    "usr/share/zsh/vendor-completions/_drakcelery": ZshComplete,
    "usr/share/fish/vendor_completions.d/drakcelery.fish": FishComplete,
}
DOC = "usr/share/doc/drakcelery"


@dataclass(frozen=True, kw_only=True)
class Build:
    """One package to be made."""

    tree: Path
    """Its files, as they will be below /."""
    version: str
    """Debian's form of ours."""
    when: datetime
    """Of the last change, so that the same state gives the same package."""


def make(output: Path, cache: Path, *, version: str | None = None) -> Path:
    """Make the package in the directory *output*; its path. *version*: in place of the code's."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output) as scratch:
        tree = Path(scratch) / "tree"
        tree.mkdir(mode=0o755)
        environment.build(cache, tree / environment.HOME.relative_to("/"))
        ours = version or debian_version(environment.version(cache))
        build = Build(tree=tree, version=ours, when=last_change())
        for path, text in files(build).items():
            _put(tree / path, text)
        for path, data in compressed(build).items():
            _put(tree / path, gzip.compress(data.encode(), 9, mtime=0))
        _link(tree / "usr/bin/drakcelery", PurePosixPath("../lib/drakcelery/bin/drakcelery"))
        _control(build)
        return _pack(build, output)


def debian_version(version: str) -> str:
    """``1.0.0rc1`` comes before ``1.0.0`` at Debian only as ``1.0.0~rc1``."""
    return re.sub(r"\.?(a|b|rc|dev)(?=\d)", r"~\1", version)


def last_change() -> datetime:
    """Of the last commit, or what ``SOURCE_DATE_EPOCH`` says; now, outside of a repository."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        done = subprocess.run(
            ["git", "log", "-1", "--format=%ct"],  # noqa: S607 the developer's own
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        epoch = done.stdout.strip()
    return datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)


def files(build: Build) -> Mapping[str, str]:
    """What is written as it is, by its path."""
    return {
        **dict(_of_init()),
        f"{DOC}/copyright": _copyright(build),
        f"{DOC}/examples/drakcelery.ini": configuration.example(),
        f"{DOC}/examples/journald.conf": (HERE / "journald.conf").read_text(encoding="utf-8"),
        "usr/share/lintian/overrides/drakcelery": (HERE / "lintian-overrides").read_text(encoding="utf-8"),
        **{path: _completion(shell) for path, shell in COMPLETIONS.items()},
    }


def _of_init() -> Iterator[tuple[str, str]]:
    """The units of a Xen host, the users and the directories, where a package has them; and the settings."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        info = root / plan.INSTALL_INFO.relative_to("/")
        info.parent.mkdir(parents=True)
        info.write_text("{}", encoding="utf-8")
        made = plan.make(Wish(root=root, program=PROGRAM, only=tuple(ROLES)))
    for target in made.targets:
        if target.path != CONFIG:
            yield str(PACKAGED[target.path.parent] / target.path.name).lstrip("/"), target.text
    yield str(CONFIG).lstrip("/"), configuration.blank()


def compressed(build: Build) -> Mapping[str, str]:
    """What Debian wants compressed, by its path."""
    changes = (
        f"drakcelery ({build.version}) stable; urgency=medium\n\n"
        f"  * Version {build.version}; its changes are in changelog.gz.\n\n"
        f" -- {MAINTAINER}  {format_datetime(build.when)}\n"
    )
    pages = manual.pages(cli, version=build.version, date=f"{build.when:%Y-%m-%d}")
    return {
        f"{DOC}/changelog.gz": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        f"{DOC}/changelog.Debian.gz": changes,
        **{f"usr/share/man/man1/{name}.gz": text for name, text in pages.items()},
    }


def _copyright(build: Build) -> str:
    head = (HERE / "copyright").read_text(encoding="utf-8")
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    bundled = "".join(
        f"  {name} {version}: {terms[:200]}\n"
        for name, version, terms in environment.installed(build.tree / environment.HOME.relative_to("/"))
    )
    return head.replace("@LICENSE@", licence.strip()).replace("@BUNDLED@", bundled.rstrip())


def _completion(shell: type[ShellComplete]) -> str:
    """What the shell reads, as ``_DRAKCELERY_COMPLETE=<shell>_source drakcelery`` prints it."""
    made = shell(cli, {}, "drakcelery", "_DRAKCELERY_COMPLETE")
    return made.source().strip() + "\n"


def _put(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o640 if path.name == CONFIG.name else 0o644)


def _link(path: Path, target: PurePosixPath) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def _control(build: Build) -> None:
    size = sum(path.lstat().st_size for path in build.tree.rglob("*")) // 1024
    folder = build.tree / "DEBIAN"
    folder.mkdir(mode=0o755)
    architecture = subprocess.run(
        ["dpkg", "--print-architecture"],  # noqa: S607 the system's own
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    values = {
        "VERSION": build.version,
        "ARCHITECTURE": architecture,
        "SIZE": str(size),
        "PYTHON": environment.PYTHON,
        "MAINTAINER": MAINTAINER,
    }
    text = (HERE / "control").read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    (folder / "control").write_text(text, encoding="utf-8")
    (folder / "conffiles").write_text(f"{CONFIG}\n", encoding="utf-8")
    for name in ("postinst", "prerm", "postrm"):
        shutil.copy(HERE / name, folder / name)
        (folder / name).chmod(0o755)


def _pack(build: Build, output: Path) -> Path:
    for path in [build.tree, *build.tree.rglob("*")]:
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            private = path.name == CONFIG.name and path.parent.name == "drakcelery"
            path.chmod(0o755 if executable else 0o640 if private else 0o644)
    done = subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zzstd", "-z6", "--build", str(build.tree), str(output)],  # noqa: S607
        env={**os.environ, "SOURCE_DATE_EPOCH": str(int(build.when.timestamp()))},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"dpkg-deb failed:\n{done.stdout}{done.stderr}")
    return next(output.glob(f"drakcelery_{build.version}_*.deb"))
