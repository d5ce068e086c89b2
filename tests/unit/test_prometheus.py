"""Prometheus' own tool takes our configuration, and every alert comes when it should."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import reference
from tests.conftest import require

FILES = reference.ROOT / "config" / "prometheus"
CASES = Path(__file__).with_name("alerts.yml")


@pytest.fixture(scope="module")
def promtool() -> str:
    """The program, or a skip."""
    found = shutil.which("promtool")
    require(found is not None, "promtool is not installed (Debian: apt-get install prometheus)")
    return str(found)


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", FILES / "scrape.yml"),
        ("check", "rules", FILES / "alerts.yml"),
        pytest.param(("test", "rules", CASES), marks=pytest.mark.slow),
    ],
    ids=lambda one: " ".join(map(str, one[:2])),
)
def test_promtool_agrees(promtool: str, arguments: tuple[str | Path, ...]) -> None:
    """Syntax, references between the files, and what each alert does with series made for it."""
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_notices_a_slip(promtool: str, tmp_path: Path) -> None:
    """The check above can fail."""
    rules = (FILES / "alerts.yml").read_text(encoding="utf-8").replace(") == 0", ") === 0", 1)
    (tmp_path / "alerts.yml").write_text(rules)
    done = subprocess.run(
        [promtool, "check", "rules", tmp_path / "alerts.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1


def test_every_alert_is_tested() -> None:
    """Each alert has a case in which it fires and one in which it does not."""
    alerts = set(re.findall(r"- alert: (\w+)", (FILES / "alerts.yml").read_text(encoding="utf-8")))
    cases = CASES.read_text(encoding="utf-8")
    assert set(re.findall(r"alertname: (\w+)\n\s+exp_alerts:", cases)) == alerts
    assert set(re.findall(r"\{eval_time: \w+, alertname: (\w+)\}", cases)) == alerts
