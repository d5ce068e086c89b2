"""An analyst asks what a sample did: of an analysis by the emulator, from the bucket and from a directory."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

from drakcelery.cli import cli
from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from tests.acceptance.deployment import PROGRAMS, Deployment, run_here, typist
from tests.terminal import on_terminal, plain
from tests.waiting import wait_until

DRAKCELERY = PROGRAMS / "drakcelery"


@pytest.fixture(scope="module")
def published(deployment: Deployment) -> Record:
    """The analysis of our own sample."""
    record = deployment.wait_over(deployment.send(Path("samples/behaviour.exe"), payload={"timeout": 30}))
    assert record.state is State.PUBLISHED
    return record


def test_report(deployment: Deployment, published: Record, tmp_path: Path) -> None:
    """The same by uid and of what fetch downloaded; each of the sample's doings is there."""
    shown = deployment.drakcelery("report", published.uid)
    assert (shown.returncode, shown.stderr) == (0, "")
    for doing in (
        "The sample was watched until the run ended. What it was seen to do is listed.",
        "`- cmd.exe (",
        "drakcelery-sample.txt  created, written",
        "\\Software\\drakcelery-sample  set Greeting  to drakcelery was here",
        "name sample[.]drakcelery[.]invalid  is ",
        "  HTTP GET  hxxp://sample[.]drakcelery[.]invalid/hello",
    ):
        assert doing in shown.stdout
    assert "\x1b" not in shown.stdout
    to = tmp_path / "fetched"
    assert deployment.drakcelery("fetch", published.uid, "--to", to).returncode == 0
    assert deployment.drakcelery("report", to).stdout == shown.stdout
    as_json = deployment.drakcelery("report", published.uid, "--json")
    assert json.loads(as_json.stdout) == json.loads((to / "report.json").read_bytes())
    markdown = deployment.drakcelery("report", published.uid, "--format", "markdown").stdout
    assert markdown.startswith("# What `malwar.exe` did\n")


def test_report_on_a_terminal(deployment: Deployment, published: Record) -> None:
    """Eighty columns are enough: nothing is cut, nothing runs over."""
    _, page = on_terminal(
        DRAKCELERY, "report", published.uid, "--config", deployment.running.config, own=True
    )
    assert "\x1b[1;32mThe sample was watched" in page
    lines = plain(page).splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("  `- cmd.exe (") for line in lines)


def test_an_analysis_without_a_record(deployment: Deployment, published: Record) -> None:
    """Its record has expired, and its artifacts are in the bucket still."""
    old = f"acceptance-old-{published.uid[-12:]}"
    for name in ("metadata.json", "report.json"):
        content = deployment.content("drakrun", f"{published.uid}/{name}")
        deployment.s3.put_object("drakrun", f"{old}/{name}", io.BytesIO(content), len(content))
    assert deployment.typed("report", old) == deployment.typed("report", published.uid)


def test_there_is_no_report(deployment: Deployment, published: Record) -> None:
    """Unknown, not over, cancelled, without a report: each is a sentence of its own, and exit status 1."""

    def error(uid: str) -> str:
        refused = deployment.drakcelery("report", uid)
        assert (refused.returncode, refused.stdout) == (1, "")
        return refused.stderr

    assert error("no-such-uid").startswith("Error: no analysis no-such-uid in the ledger: it still waits in")
    endless = deployment.send(Path("samples/endless.exe"), payload={"timeout": 600})
    running = deployment.wait_state(endless, State.RUNNING)
    said = f"Error: analysis {running.uid} is RUNNING, so it has no report yet. `drakcelery status"
    assert error(running.uid).startswith(said)
    assert deployment.drakcelery("cancel", running.uid).returncode == 0
    said = f"Error: analysis {running.uid} CANCELLED, so it has no report: cancelled by "
    assert error(running.uid).startswith(said)
    deployment.s3.remove_object("drakrun", f"{published.uid}/report.json")
    assert "has no report.json: it was made by a version of drakcelery that wrote none" in error(
        published.uid
    )


def test_a_sample_that_waits(deployment: Deployment) -> None:
    """While its host takes nothing it has no record; where it is, is said."""
    (host,) = deployment.ledger.fleet.hosts()
    assert deployment.drakcelery("drain", host.host).returncode == 0
    try:
        task = deployment.send(Path("samples/behaviour.exe"), payload={"timeout": 30})
        uid = task.payload["override_uid"]
        said = f"Error: analysis {uid} still waits in Karton, so it has no report yet\n"
        variables = typist(deployment.running.config)
        wait_until(
            lambda: run_here(cli, "report", uid, **variables) == (1, said), "the sample waits in Karton"
        )
    finally:
        assert deployment.drakcelery("undrain", host.host).returncode == 0
    assert deployment.wait_over(task).state is State.PUBLISHED


def test_submit_ends_with_a_few_lines(deployment: Deployment) -> None:
    """To standard error, if that is a terminal; the uid alone goes to standard output."""
    config = deployment.running.config
    submit = ("submit", "--wait", "--timeout", "30", "samples/behaviour.exe")
    out, page = on_terminal(DRAKCELERY, *submit, "--config", config)
    uid = out.strip()
    lines = plain(page).splitlines()
    record = deployment.ledger.get(uid)
    assert record is not None
    end = max(place for place, line in enumerate(lines) if " ██████ PUBLISHED" in line)
    assert lines[end + 1].startswith("The sample was watched until the run ended.")
    assert re.fullmatch(r"  processes +behaviour\.exe \(\d+\)  cmd\.exe \(\d+\)", lines[end + 2])
    assert lines[-1] == f"More: drakcelery report {uid}"
