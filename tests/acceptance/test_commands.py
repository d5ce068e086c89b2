"""The commands for people on a running stack: drakcelery's own, Celery's, and Flower's page."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from drakcelery.broker.routing import task_id, task_name
from drakcelery.karton import kept
from drakcelery.model.analysis import STAGES, State
from drakcelery.model.records import Record
from drakcelery.model.slot_state import ReportedState
from tests.acceptance.deployment import PROGRAMS, Deployment, execute
from tests.programs import distlib_launcher
from tests.waiting import wait_until

BEHAVIOUR = Path("samples/behaviour.exe")


@pytest.fixture(scope="module")
def submitted(deployment: Deployment) -> tuple[str, str]:
    """(uid, progress) of a sample that was submitted on the command line, with --wait."""
    waited = deployment.started(
        "submit", "--wait", "--timeout", "30", "--priority", "high", distlib_launcher(64)
    )
    assert waited.returncode == 0, waited.stderr
    return waited.stdout.strip(), waited.stderr


def test_submit_waits_with_progress(submitted: tuple[str, str], deployment: Deployment) -> None:
    """The uid alone goes to standard output; each step, and where it is done, to standard error."""
    uid, progress = submitted
    record = deployment.ledger.get(uid)
    assert record is not None
    assert record.state is State.PUBLISHED
    assert record.analysis is not None
    assert (record.analysis.file_name, record.analysis.timeout) == ("t64", 30)
    *_, last = progress.splitlines()
    assert last.startswith("██████ PUBLISHED on embedded/vm-")


def test_submit_prints_the_uid(deployment: Deployment) -> None:
    """Without --wait it says under which uid to ask, and returns."""
    pushed = deployment.drakcelery("submit", "--timeout", "30", "--plugin", "procmon", BEHAVIOUR)
    assert (pushed.returncode, pushed.stderr) == (0, "")
    uid = pushed.stdout.strip()

    def over() -> Record | None:
        record = deployment.ledger.get(uid)
        return record if record is not None and record.state.is_over else None

    record = wait_until(over, "the analysis is over")
    assert record is not None
    assert record.analysis is not None
    assert record.analysis.plugins == ("procmon",)


def test_status(submitted: tuple[str, str], deployment: Deployment) -> None:
    """All analyses in a table or as JSON; one of them in full."""
    uid, _ = submitted
    table = deployment.typed("status").splitlines()
    assert [line.split()[1] for line in table if line.startswith(uid)] == ["PUBLISHED"]
    assert uid in {one["uid"] for one in json.loads(deployment.typed("status", "--json"))["analyses"]}
    one = json.loads(deployment.typed("status", uid, "--json"))
    assert (one["uid"], one["state"], one["attempt"]) == (uid, "PUBLISHED", 1)
    shown = deployment.started("status", uid).stdout
    assert one["analysis_task_uid"] in shown
    assert one["analysis"]["sample"]["sha256"] in shown


def test_status_of_nothing(deployment: Deployment) -> None:
    """An unknown uid is a sentence and exit status 1."""
    refusal = deployment.drakcelery("status", "no-such-uid")
    assert refusal.returncode == 1
    assert refusal.stderr.startswith("Error: no analysis no-such-uid in the ledger")


def test_fetch(submitted: tuple[str, str], deployment: Deployment, tmp_path: Path) -> None:
    """All artifacts of an analysis as files; what is kept for a retry stays where it is."""
    uid, _ = submitted
    fetched = deployment.started("fetch", uid, "--to", tmp_path / "artifacts")
    assert fetched.returncode == 0, fetched.stderr
    stored = {key.removeprefix(f"{uid}/"): size for key, size in deployment.objects("drakrun", uid).items()}
    assert stored.keys() >= {kept.SAMPLE, kept.TASK}
    files = {path.name: path.stat().st_size for path in (tmp_path / "artifacts").iterdir()}
    assert files == {name: size for name, size in stored.items() if name not in kept.KEPT}
    assert all(name in fetched.stdout for name in files)
    assert json.loads((tmp_path / "artifacts" / "metadata.json").read_text())["analysis_uid"] == uid


def test_slots(deployment: Deployment) -> None:
    """Each slot with its profile, state and engine, as a table and as JSON."""
    (host,) = json.loads(deployment.typed("slots", "--json"))
    assert host["host"] == "embedded"
    assert host["engine"].startswith("emulator ")
    assert [(slot["name"], slot["profile"]) for slot in host["slots"]] == [
        ("vm-1", "default"),
        ("vm-2", "default"),
    ]
    table = deployment.drakcelery("slots").stdout
    assert all(word in table for word in ("embedded", "vm-1", "vm-2", "default", "emulator"))


def test_slots_show_what_runs(deployment: Deployment) -> None:
    """While a sample runs, its slot says so."""
    task = deployment.send(Path("samples/endless.exe"), payload={"timeout": 600})
    uid = task.payload["override_uid"]
    deployment.wait_state(task, State.RUNNING)
    wait_until(
        lambda: any(
            slot.uid == uid and slot.state is ReportedState.RUNNING
            for host in deployment.ledger.fleet.hosts()
            for slot in host.slots
        ),
        "the host reports the slot",
    )
    lines = deployment.typed("slots").splitlines()
    assert [("running" in line) for line in lines if uid in line] == [True]
    assert deployment.started("cancel", uid).returncode == 0
    assert deployment.wait_over(task).state is State.CANCELLED


def test_celery_status(deployment: Deployment) -> None:
    """Both workers of the host answer."""
    answer = execute(PROGRAMS / "celery", "-A", "drakcelery", "status", config=deployment.running.config)
    assert answer.returncode == 0, answer.stderr
    assert "vm@embedded: OK" in answer.stdout
    assert "io@embedded: OK" in answer.stdout
    assert "2 nodes online." in answer.stdout


def test_celery_inspect_registered(deployment: Deployment) -> None:
    """Each worker knows every stage."""
    answer = deployment.celery("inspect", "registered", "--json")
    assert answer.returncode == 0, answer.stderr
    registered = json.loads(answer.stdout)
    assert set(registered) == {"vm@embedded", "io@embedded"}
    for names in registered.values():
        assert {task_name(stage) for stage in STAGES} <= set(names)


def test_celery_report_shows_no_secret(deployment: Deployment) -> None:
    """What people paste into bug reports has the settings, and no credentials."""
    answer = deployment.celery("report")
    assert answer.returncode == 0, answer.stderr
    assert "task_acks_late: True" in answer.stdout
    assert "broker_url" in answer.stdout
    ours = deployment.settings
    for secret in (ours.redis.password, ours.s3.secret_key):
        assert secret is not None
        assert secret.get_secret_value() not in answer.stdout + answer.stderr


def _get(url: str) -> tuple[int, str]:
    with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 - our own address
        return response.status, response.read().decode()


def _flower_tasks(address: str) -> dict[str, Any]:
    query = {
        "draw": 1,
        "start": 0,
        "length": 1000,
        "order[0][column]": 0,
        "columns[0][data]": "name",
    }
    _, text = _get(f"{address}/tasks/datatable?{urllib.parse.urlencode(query)}")
    return {task["uuid"]: task for task in json.loads(text)["data"]}


def test_flower_serves(deployment: Deployment) -> None:
    """Flower answers where the stack says, and lists both workers."""

    def workers() -> str:
        try:
            status, text = _get(f"{deployment.running.addresses['Flower']}/")
        except urllib.error.URLError:
            return ""  # it takes a few seconds to start
        assert status == 200
        return text if "vm@embedded" in text and "io@embedded" in text else ""

    assert wait_until(workers, "Flower lists both workers")


def test_flower_names_the_sample(submitted: tuple[str, str], deployment: Deployment) -> None:
    """In Flower each stage is called by analysis and attempt, and its arguments name the sample."""
    uid, _ = submitted
    record = deployment.ledger.get(uid)
    assert record is not None
    assert record.analysis is not None
    address = deployment.running.addresses["Flower"]
    wanted = {task_id(uid, 1, stage): task_name(stage) for stage in STAGES}

    def seen() -> dict[str, Any] | None:
        tasks = _flower_tasks(address)
        return tasks if set(wanted) <= set(tasks) else None

    tasks = wait_until(seen, "Flower knows every stage")
    label = f"({record.analysis.sample_label}, attempt 1)"
    for name, kind in wanted.items():
        assert tasks is not None
        assert tasks[name]["name"] == kind
        assert tasks[name]["args"] == label
