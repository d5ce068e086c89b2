"""Samples that are handed in on the command line, many at once, and waiting for them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
import pyzipper
from redis import Redis

from drakcelery.model.analysis import State
from tests.acceptance.deployment import PROGRAMS, Deployment, run
from tests.programs import distlib_launcher
from tests.terminal import on_terminal, plain
from tests.waiting import wait_until

DRAKCELERY = PROGRAMS / "drakcelery"
LIBRARY = Path("samples/library.dll")
SHORT = ("--timeout", "5")


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """A folder: a program, a library below, a text that nobody can start, and a zip as they are mailed."""
    folder = tmp_path / "samples"
    (folder / "deep").mkdir(parents=True)
    program = distlib_launcher(64).read_bytes()
    (folder / "a.exe").write_bytes(program)
    (folder / "deep" / "b.dll").write_bytes(LIBRARY.read_bytes())
    (folder / "deep" / "notes.txt").write_text("nothing to run\n")
    with pyzipper.AESZipFile(folder / "mail.zip", "w", encryption=pyzipper.WZ_AES) as file:
        file.setpassword(b"infected")
        file.writestr("invoice.exe", program)
    return folder


def pushed(deployment: Deployment) -> tuple[set[str], set[str]]:
    """What Karton has: the uids of its tasks, and its objects."""
    redis: Redis = deployment.backend.redis
    objects = deployment.s3.list_objects(deployment.settings.s3.bucket, recursive=True)
    return set(redis.scan_iter("karton.task:*")), {str(one.object_name) for one in objects}


def test_many_at_once(deployment: Deployment, samples: Path) -> None:
    """Folders and zips become one analysis for each file; a bad one is told, and the exit status says so."""
    done = deployment.drakcelery("submit", *SHORT, samples, "no such file")
    uids = done.stdout.split()
    assert (done.returncode, len(uids)) == (3, 3), done
    assert [line[:50] for line in done.stderr.splitlines()[-2:]] == [
        "Refused no such file: there is no such file or fol",
        "2 of 5 samples were refused",
    ]
    assert f"Refused {samples}/deep/notes.txt: cannot tell how to start notes.txt" in done.stderr
    # By the beginnings of their uids, whoever has submitted them
    waited = deployment.drakcelery("wait", *(uid[:13] for uid in uids), "--json")
    assert waited.returncode == 0, waited.stderr
    records = json.loads(waited.stdout)["analyses"]
    assert [one["uid"] for one in records] == uids
    assert [one["analysis"]["sample"]["name"] for one in records] == ["a.exe", "invoice.exe", "b.dll"]
    lines = waited.stderr.splitlines()
    assert lines[-1] == "3 of 3 published"
    assert any(line.startswith(f"{uids[1]} invoice.exe: ██████ PUBLISHED on ") for line in lines)


def test_a_failure_among_others(deployment: Deployment, samples: Path) -> None:
    """With --wait the exit status is 1; which one failed, and why, is said once, and JSON has it."""
    (samples / "deep" / "notes.txt").rename(samples / "deep" / "notes.bat")
    done = deployment.drakcelery("submit", *SHORT, samples / "deep", "--wait", "--json")
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    states = {one["name"]: one["analysis"]["state"] for one in answer["analyses"]}
    assert states == {"b.dll": "PUBLISHED", "notes.bat": "FAILED"}
    assert answer["refused"] == []
    (failed,) = [one for one in answer["analyses"] if one["name"] == "notes.bat"]
    *_, told, summary = done.stderr.splitlines()
    assert told.startswith(f"{failed['uid']} (notes.bat) FAILED: ")
    assert summary == "Error: 1 of 2 analyses were not published"
    assert done.stderr.count("Use a host with the drakvuf engine") == 1


def test_the_failure_of_a_single_one(deployment: Deployment, tmp_path: Path) -> None:
    """Its reason is the error of the command, and said nowhere else."""
    (tmp_path / "x.bat").write_text("rem\n")
    done = deployment.drakcelery("submit", "--wait", tmp_path / "x.bat")
    assert done.returncode == 1
    *_, state, error = done.stderr.splitlines()
    assert state == "FAILED"
    assert error.startswith(f"Error: analysis {done.stdout.strip()} FAILED: ")
    assert done.stderr.count("drakvuf engine") == 1


@pytest.mark.parametrize(
    ("options", "variables", "said"),
    [
        (
            ("--timeout", "99999"),
            {},
            "the limit is 1200 s: ask for less, or raise [drakcelery] hard_time_limit",
        ),
        (("--host", "rack-9"), {}, "there is no host 'rack-9'; there are: embedded"),
        (("--profile", "winxp"), {}, "no host has the VM profile 'winxp'; there are: default"),
        (("--plugin", "ebpfmon"), {}, "none of ebpfmon is enabled for quality 'high' ([drakvuf_plugins])"),
        ((), {"MAX_SAMPLE_SIZE": "100"}, "at most 100 are accepted ([drakcelery] max_sample_size)"),
    ],
    ids=["timeout", "host", "profile", "plugin", "size"],
)
def test_refused_before_it_is_uploaded(
    options: tuple[str, ...], variables: dict[str, str], said: str, deployment: Deployment
) -> None:
    """What the settings or the fleet cannot take, with the setting's name; Karton has nothing of it."""
    before = pushed(deployment)
    environment = {f"DRAKCELERY_DRAKCELERY_{name}": value for name, value in variables.items()}
    done = run(
        "drakcelery",
        "submit",
        *options,
        distlib_launcher(64),
        config=deployment.running.config,
        **environment,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert said in done.stderr
    tasks, objects = pushed(deployment)
    assert tasks <= before[0]
    assert objects <= before[1]


def test_standard_input(deployment: Deployment) -> None:
    """Under the name that is given for it."""
    done = subprocess.run(
        [DRAKCELERY, "submit", "-", "--name", "stage2.dll", *SHORT, "--config", deployment.running.config],
        input=LIBRARY.read_bytes(),
        capture_output=True,
        timeout=120,
        check=True,
    )
    uid = done.stdout.decode().strip()
    waited = subprocess.run(
        [DRAKCELERY, "wait", "-", "--config", deployment.running.config],
        input=f"\n{uid}\n".encode(),
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert b"PUBLISHED" in waited.stderr
    record = deployment.ledger.get(uid)
    assert record is not None
    assert record.analysis is not None
    assert (record.analysis.sample.name, record.analysis.file_name) == ("stage2.dll", "stage2")


def test_a_password_from_a_file(deployment: Deployment, tmp_path: Path) -> None:
    """Only its first line counts; without it the zip is refused, since nobody can be asked."""
    archive = tmp_path / "x.zip"
    with pyzipper.AESZipFile(archive, "w", encryption=pyzipper.WZ_AES) as file:
        file.setpassword("Pässword".encode())
        file.writestr("x.dll", LIBRARY.read_bytes())
    refused = deployment.drakcelery("submit", archive)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"Error: no known password opens the zip {archive}")
    assert "'infected' was tried: --zip-password-file FILE gives another" in refused.stderr
    (tmp_path / "password").write_text("Pässword\n# from the ticket\n")
    done = deployment.drakcelery("submit", archive, "--zip-password-file", tmp_path / "password", *SHORT)
    assert done.returncode == 0, done.stderr
    assert deployment.drakcelery("wait", done.stdout.strip()).returncode == 0


def test_one_table_on_a_terminal(deployment: Deployment, samples: Path) -> None:
    """With progress, elapsed and expected time while they run; at the end it has all of them, and fits."""
    (samples / "deep" / "notes.txt").unlink()
    config = deployment.running.config
    out, page = on_terminal(DRAKCELERY, "submit", "--wait", *SHORT, samples, "--config", config)
    uids = out.split()
    lines = plain(page).splitlines()
    assert any(re.match(r"UID +SAMPLE +PROGRESS +ELAPSED +EXPECTED", line) for line in lines)
    *_, head, first, second, third, summary = [line.rstrip() for line in lines if line.strip()]
    assert re.search(r"UID +SAMPLE +PROGRESS +ELAPSED$", head)
    for line, uid, name in zip((first, second, third), uids, ("a.exe", "invoice.exe", "b.dll"), strict=True):
        assert re.fullmatch(rf"{uid[:8]} +{re.escape(name)} +██████ PUBLISHED +\d+:\d\d", line)
    assert summary == "3 of 3 published"
    assert all(len(line) <= 80 for line in (first, second, third))


@pytest.mark.parametrize("command", ["submit", "wait"])
def test_ctrl_c(command: str, deployment: Deployment) -> None:
    """It ends the waiting and no analysis, and says how to look again."""
    sample, config = Path("samples/endless.exe"), deployment.running.config
    submit: list[str | Path] = ["submit", "--timeout", "600", sample, "--config", config]
    if command == "submit":
        words = [DRAKCELERY, *submit, "--wait"]
    else:
        uid = deployment.drakcelery(*submit).stdout.strip()
        words = [DRAKCELERY, "wait", uid, "--config", config]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "RUNNING" not in (line := process.stderr.readline()):
            assert line, "it ended before the analysis began"
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=60)
    uid = out.strip() if command == "submit" else uid
    assert process.returncode == 130
    assert said.splitlines()[-3:] == [
        "The analysis goes on. Look again with",
        f"  drakcelery wait {uid} --config {config}",
        f"  drakcelery status {uid} --config {config}",
    ]
    record = deployment.ledger.get(uid)
    assert record is not None
    assert record.state is State.RUNNING
    assert deployment.drakcelery("cancel", uid).returncode == 0
    wait_until(lambda: deployment.drakcelery("wait", uid).returncode == 1, "the analysis is cancelled")


def test_wait_for_what_still_waits_in_karton(deployment: Deployment) -> None:
    """It has no record yet; a uid that nobody knows is a sentence."""
    (host,) = deployment.ledger.fleet.hosts()
    assert deployment.started("drain", host.host).returncode == 0
    try:
        uid = deployment.drakcelery("submit", LIBRARY, *SHORT).stdout.strip()
        words: list[str | Path] = [DRAKCELERY, "wait", uid, "--config", deployment.running.config]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == "waiting in Karton\n"
            assert deployment.started("undrain", host.host).returncode == 0
            assert process.wait(60) == 0
    finally:
        assert deployment.drakcelery("undrain", host.host).returncode == 0
    refusal = deployment.drakcelery("wait", "no-such-uid")
    assert refusal.returncode == 1
    assert refusal.stderr.startswith("Error: no analysis no-such-uid in the ledger")


def test_it_is_ended_from_outside(deployment: Deployment, tmp_path: Path) -> None:
    """The sample that came from standard input does not stay behind: it may be malware."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    words: list[str | Path] = [DRAKCELERY, "submit", "-", "--config", deployment.running.config]
    with subprocess.Popen(words, stdin=subprocess.PIPE, env=environment) as process:
        wait_until(lambda: any(tmp_path.rglob("sample")), "it takes a sample")
        process.send_signal(signal.SIGTERM)
        process.wait()
    assert process.returncode == -signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
