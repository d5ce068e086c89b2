"""What the doctor tells people to type, typed: by a real shell."""

from __future__ import annotations

import re
import shutil
import subprocess

from drakcelery.doctor.finding import Finding
from tests.conftest import require

PROGRAMS = re.compile(
    r"\b(redis-cli|chown|chmod|aws|systemctl|apt-get|pip install|gpasswd|update-grub|iptables -|sysctl|"
    r"timedatectl|systemd-tmpfiles --|drakcelery (?:init|isolated|ingress|worker|system|doctor))\b"
)
"""Words with which a command begins; the sentences have none, as they are not for a shell."""
_PLACEHOLDER = re.compile(r"\b(NAME|KEY|FILE|UID|HOST|PORT|IDENTITY)\b|[<…>]")


def require_commands(finding: Finding) -> None:
    """A shell can read each command of *finding*, nothing has to be put in, and its sentence has none."""
    assert not PROGRAMS.search(finding.remedy or ""), finding
    for command in finding.commands:
        assert not _PLACEHOLDER.search(command), finding
        assert "\n" not in command, finding
        checked = subprocess.run(
            ["/bin/bash", "-n", "-c", command], check=False, capture_output=True, text=True
        )
        assert (checked.returncode, checked.stderr) == (0, ""), finding


def pasted(finding: Finding, *, password: str = "") -> str:
    """Type all commands of *finding*, and the password where one is asked for; returns what they print."""
    assert finding.commands, finding
    if any("redis-cli" in one for one in finding.commands):
        require(shutil.which("redis-cli") is not None, "redis-cli is missing (Debian: redis-tools)")
    text = ""
    for command in finding.commands:
        ended = subprocess.run(
            ["/bin/bash", "-c", command], check=False, capture_output=True, text=True, input=f"{password}\n"
        )
        assert ended.returncode == 0, ended
        text += ended.stdout
    return text
