"""The Debian package in a clean root: installed, upgraded, removed and purged, as docs/install.md says."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from pathlib import Path

import pytest

from drakcelery import __version__
from tests.clean_root import CleanRoot, clean_root, debian
from tests.commands import extract
from tests.reference import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PAGE = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
KARTON = "[redis]\nhost=karton.example.org\n[s3]\naddress=http://s3:9000\naccess_key=a\nsecret_key=hunter2\n"
CONFIG = "/etc/drakcelery/config.ini"
STATE = "/var/lib/drakcelery"


def typed(heading: str) -> list[str]:
    """The commands below a heading of docs/install.md."""
    part = PAGE.split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0].split("\n### ", 1)[0]
    commands = [one.text for one in extract(part, "docs/install.md")]
    assert commands, heading
    return commands


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make deb` makes it."""
    debian()
    output = tmp_path_factory.mktemp("package")
    subprocess.run([sys.executable, "-m", "distribution", "deb", "--output", output], cwd=ROOT, check=True)
    (made,) = output.glob("*.deb")
    return made


@pytest.fixture(scope="module")
def older(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of an earlier version, with a file that this one has not."""
    tree = tmp_path_factory.mktemp("older") / "tree"
    dpkg_deb("--raw-extract", package, tree)
    control = tree / "DEBIAN" / "control"
    control.write_text(re.sub("^Version: .*$", "Version: 0.0.1", control.read_text(), flags=re.MULTILINE))
    (tree / "usr/lib/drakcelery/gone").write_text("of the earlier version\n")
    made = tree.with_name("drakcelery_0.0.1_all.deb")
    dpkg_deb("--root-owner-group", "-Znone", "--build", tree, made)
    return made


def dpkg_deb(*arguments: str | Path) -> str:
    """What dpkg-deb prints."""
    return subprocess.run(
        ["dpkg-deb", *map(str, arguments)],  # noqa: S607 the system's own
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def give(root: CleanRoot, package: Path) -> None:
    """Put the package where the page's commands look for it: the only one there."""
    for path in (root.place / "root").glob("*.deb"):
        path.unlink()
    (root.place / "root" / package.name).write_bytes(package.read_bytes())


def follow(root: CleanRoot, heading: str) -> str:
    """Type what the page has below a heading, as root in his home."""
    return "".join(root.run("sh", "-euc", f"cd /root; {command}") for command in typed(heading))


def test_life_of_the_package(older: Path, package: Path, tmp_path: Path) -> None:
    """Set up, upgraded with its settings kept, removed with its data kept, and purged without a trace."""
    root = clean_root(tmp_path / "root")
    before = root.files()
    give(root, older)
    assert "next, as root: drakcelery init" in follow(root, "### Install the package")
    check_installed(root)

    (root.place / "etc/karton").mkdir()
    (root.place / "etc/karton/karton.ini").write_text(KARTON)
    said = follow(root, "### Set it up")
    assert "unchanged  0644  /usr/lib/systemd/system/drakcelery-ingress.service" in said
    settings = (root.place / CONFIG.lstrip("/")).read_text()
    assert "host = karton.example.org" in settings
    (root.place / STATE.lstrip("/") / "workspaces" / "kept").write_text("a guest's output\n")

    give(root, package)
    follow(root, "### Upgrade the package")
    assert __version__ in root.run("drakcelery", "--version")
    assert (root.place / CONFIG.lstrip("/")).read_text() == settings
    assert root.rights(CONFIG) == "0640 root drakcelery-operators"
    assert not (root.place / "usr/lib/drakcelery/gone").exists()
    assert (root.place / STATE.lstrip("/") / "workspaces" / "kept").exists()

    removing, purging = typed("### Remove the package")
    root.run("sh", "-euc", removing)
    left = root.files() - before
    assert {one for one in left if "usr/" in one} == set()
    assert {CONFIG.lstrip("/"), f"{STATE.lstrip('/')}/workspaces/kept"} <= left
    root.run("sh", "-euc", purging)
    assert root.files() - before == {"etc/karton", "etc/karton/karton.ini"}
    assert "drakcelery" in root.run("id", "drakcelery")


def check_installed(root: CleanRoot) -> None:
    """Nothing is enabled; users, rights, units, pages and completion are there."""
    assert "0.0.1" in root.run("dpkg-query", "--show", "drakcelery")
    assert root.run("dpkg", "--verify", "drakcelery") == ""
    assert "drakcelery-operators" in root.run("id", "drakcelery")
    assert root.rights(CONFIG) == "0640 root drakcelery-operators"
    assert root.rights(STATE) == "0750 root drakcelery"
    assert root.rights(f"{STATE}/io") == "0700 drakcelery drakcelery"
    units = "/usr/lib/systemd/system/drakcelery-*.service"
    assert root.run("sh", "-c", f"systemd-analyze verify {units}") == ""
    assert list((root.place / "etc/systemd/system").rglob("drakcelery*")) == []
    assert "[OPTIONS]" in root.run("drakcelery", "submit", "--help")
    refused = root.run("drakcelery", "status", fails=True)
    assert refused.startswith("Error: ")
    page = root.place / "usr/share/man/man1/drakcelery-submit.1.gz"
    assert r".B drakcelery submit" in gzip.decompress(page.read_bytes()).decode()
    completion = "usr/share/bash-completion/completions/drakcelery"
    root.run("bash", "-euc", f"source /{completion}; complete -p drakcelery")
    journal(root, units)


def journal(root: CleanRoot, units: str) -> None:
    """What the page says about the journal is understood by systemd, in each unit."""
    part = PAGE.split("\n## Logs\n", 1)[1]
    drop_in = re.search(r"```ini\n(.+?)```", part, re.DOTALL)
    assert drop_in is not None
    place = root.place / "etc/systemd/system/drakcelery-.service.d/journal.conf"
    place.parent.mkdir()
    place.write_text(drop_in[1])
    assert root.run("sh", "-c", f"systemd-analyze verify {units}") == ""
    place.write_text(drop_in[1].replace("LogNamespace", "LogNamesace"))
    assert "LogNamesace" in root.run("sh", "-c", f"systemd-analyze verify {units} || true")
    place.unlink()
    place.parent.rmdir()


def test_nothing_of_this_machine_is_inside(package: Path, tmp_path: Path) -> None:
    """No path of the checkout, no program of a library, and the versions that are locked."""
    tree = tmp_path / "tree"
    dpkg_deb("--raw-extract", package, tree)
    here = str(ROOT).encode()
    assert [path for path in tree.rglob("*") if path.is_file() and here in path.read_bytes()] == []
    home = tree / "usr/lib/drakcelery"
    assert sorted(path.name for path in (home / "bin").iterdir()) == ["celery", "drakcelery", "python3"]
    owners = {line.split()[1] for line in dpkg_deb("--contents", package).splitlines()}
    assert owners == {"root/root"}
    assert re.search(
        r"^  celery \d[\d.]+: BSD", (tree / "usr/share/doc/drakcelery/copyright").read_text(), re.MULTILINE
    )
