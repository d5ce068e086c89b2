"""The Debian package's scripts, on a machine of which only their directories are real."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from distribution.deb import HERE

LISTED = (
    "drakcelery-io.service loaded active running\ndrakcelery-ingress.service loaded activating auto-restart"
)
FAKES = {
    "systemctl": f'case "$1" in list-units) printf "%s\\n" "$*" >>"$SAID"; echo "{LISTED}" ;; esac',
    "deb-systemd-invoke": 'echo "$*" >>"$SAID"; exit "${STOPS:-0}"',
    "systemd-sysusers": "true",
    "systemd-tmpfiles": "true",
}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Directories in place of the machine's."""

    root: Path

    def runs(self, script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a script of the package, as dpkg does."""
        text = (HERE / script).read_text(encoding="utf-8")
        for place in ("/run/", "/etc/", "/var/lib/"):
            for before in (" ", "="):
                text = text.replace(f"{before}{place}", f"{before}{self.root}{place}")
        return subprocess.run(
            ["sh", "-c", text, script, *arguments],  # noqa: S607 the shell of the scripts
            env={"PATH": f"{self.root}/bin:{os.environ['PATH']}", "SAID": str(self.said), **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def said(self) -> Path:
        """What systemd was told."""
        return self.root / "said"

    def put(self, path: str, text: str) -> Path:
        """A file of the machine."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One that runs systemd, an io worker, and an ingress that waits for Redis."""
    made = Machine(root=tmp_path)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    for name, text in FAKES.items():
        made.put(f"bin/{name}", f"#!/bin/sh\n{text}\n").chmod(0o755)
    return made


@pytest.mark.parametrize(
    ("stops", "ends"),
    [
        ("upgrade", "configure"),
        ("upgrade", "abort-upgrade"),
        ("remove", "abort-remove"),
        ("deconfigure", "abort-deconfigure"),
    ],
)
def test_what_ran_runs_again(machine: Machine, stops: str, ends: str) -> None:
    """A service that waits for its next start counts; none that dpkg stopped for nothing is left so."""
    assert machine.runs("prerm", stops, "2.0").returncode == 0
    assert machine.runs("postinst", ends, "2.0").returncode == 0
    listed, *told = machine.said.read_text(encoding="utf-8").splitlines()
    assert "--state=active,activating,reloading" in listed
    units = "drakcelery-io.service drakcelery-ingress.service"
    assert told == [f"stop {units}", f"start {units}"]
    assert not (machine.root / "run/drakcelery-stopped").exists()


def test_an_upgrade_that_fails_at_first(machine: Machine) -> None:
    """The next version's prerm is called after ours has failed, and does not forget what ours has stopped."""
    assert machine.runs("prerm", "upgrade", "2.0", STOPS="1").returncode != 0
    machine.put("bin/systemctl", "#!/bin/sh\n").chmod(0o755)
    assert machine.runs("prerm", "failed-upgrade", "1.0").returncode == 0
    assert machine.runs("postinst", "configure", "1.0").returncode == 0
    last = machine.said.read_text(encoding="utf-8").splitlines()[-1]
    assert last == "start drakcelery-io.service drakcelery-ingress.service"


def test_purge_takes_what_is_ours(machine: Machine) -> None:
    """Units that init wrote, links to units that are gone, and the data; nobody else's unit, nor its link."""
    ours = machine.put("etc/systemd/system/drakcelery-vm.service", "# Written by drakcelery init\n")
    theirs = machine.put("etc/systemd/system/drakcelery-backup.service", "[Unit]\n")
    wants = machine.root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir()
    for name in ("vm", "io", "backup"):
        (wants / f"drakcelery-{name}.service").symlink_to(f"../drakcelery-{name}.service")
    data = machine.put("var/lib/drakcelery/slots.sqlite", "")
    assert machine.runs("postrm", "purge").returncode == 0
    assert not ours.exists()
    assert theirs.exists()
    assert [path.name for path in wants.iterdir()] == ["drakcelery-backup.service"]
    assert not data.parent.exists()


def test_purge_where_a_disk_is_mounted(machine: Machine) -> None:
    """The directory of a disk that is mounted there cannot be removed: the purge ends well, and says so."""
    machine.put("var/lib/drakcelery/slots.sqlite", "")
    machine.put("bin/rm", '#!/bin/sh\n/bin/rm "$@"\n[ "$1" != -rf ]\n').chmod(0o755)
    done = machine.runs("postrm", "purge")
    assert done.returncode == 0, done
    assert "is left where something is mounted" in done.stderr
