"""What README shows of an analysis is what the command says of one."""

from __future__ import annotations

from tests import readme
from tests.acceptance.deployment import Deployment
from tests.reference import ROOT


def test_report(deployment: Deployment) -> None:
    """Run anew, the sample's report differs in what a run chooses by chance only (`make readme`)."""
    done = deployment.drakcelery("submit", readme.SAMPLE, "--wait")
    assert done.returncode == 0, done.stderr
    shown = readme.excerpt(readme.report_of(deployment.running.config, done.stdout.strip()))
    assert readme.normalized(shown) == readme.normalized(readme.stored())


def test_picture() -> None:
    """README shows it, and it is light."""
    assert f"({readme.PICTURE.relative_to(ROOT)})" in readme.README.read_text()
    assert readme.PICTURE.read_bytes().startswith(b"\x89PNG")
    assert readme.PICTURE.stat().st_size <= readme.LARGEST
