"""The example consumer, tested without a server: ``pytest -p drakcelery.testing examples``."""

from __future__ import annotations

import pytest
from consumer import ExampleConsumer

from drakcelery.testing import RecordedAnalysis


def test_consumer(recorded_analysis: RecordedAnalysis, capsys: pytest.CaptureFixture[str]) -> None:
    """It shows the processes that the sample started."""
    assert recorded_analysis.run(ExampleConsumer) == []
    shown = capsys.readouterr().out
    assert "by emulator" in shown
    assert "cmd.exe /c echo drakcelery-sample" in shown
    assert "1 memory dumps" in shown
