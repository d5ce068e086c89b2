"""The help and the shell's completion: whole sentences, at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping

import click
import pytest
import redis
from click.testing import CliRunner
from karton.core import Task

from drakcelery.cli import PLACES, SECTIONS, cli
from drakcelery.embedded.services import Services
from drakcelery.ledger.keys import queue_key, task_key

HEAVY = {"celery", "redis", "karton", "minio", "boto3"}
"""What only a command that does something needs."""
UNUSED = {"boto3", "botocore", "pefile", "pygments"}
"""What is imported only because a library of ours imports it, or a module of ours for something else."""
EACH = """
import json, os, sys
from drakcelery.cli import main
for number, (arguments, environment) in enumerate(json.load(sys.stdin)):
    child = os.fork()
    if not child:
        os.environ.update(environment)
        os.dup2(os.open(f"{number}.out", os.O_WRONLY | os.O_CREAT), 1)
        try:
            main(arguments)
        finally:
            with open(f"{number}.loaded", "w") as file:
                print(*sorted({name.partition(".")[0] for name in sys.modules}), file=file)
        sys.exit(f"{arguments} returned")
    _, status = os.waitpid(child, 0)
    assert status == 0, (arguments, environment, status)
"""
WITH_KARTON = ("status", "find")
WITHOUT_KARTON = ("top --once", "slots", "hosts", "profiles", "watch-report")


def test_help_fits() -> None:
    """The help has a whole sentence for each command, in 80 columns, and each command is there."""
    shown = CliRunner().invoke(cli, ["--help"], prog_name="drakcelery", terminal_width=80).output
    rows = [line for line in shown.splitlines() if line.startswith("  ")]
    for commands in SECTIONS.values():
        for name, (_, says) in commands.items():
            assert f"  {name.ljust(max(map(len, PLACES)))}  {says}" in rows
            assert says.endswith(".")
            command = cli.get_command(click.Context(cli), name)
            assert command is not None
            assert command.help, name


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--help"], {}),
        (["--version"], {}),
        ([], {"_DRAKCELERY_COMPLETE": "bash_complete", "COMP_WORDS": "drakcelery s", "COMP_CWORD": "1"}),
    ],
)
def test_help_and_tab_import_no_command(arguments: list[str], environment: dict[str, str]) -> None:
    """What a person waits for at the prompt needs neither Celery nor Redis nor S3."""
    assert not {"celery", "redis", "karton", "minio", "pydantic", "rich"} & loaded_by(arguments, environment)


@pytest.fixture(scope="module")
def loaded_for_help(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[set[str]]]:
    """The packages that each command's help imports, and the completion of its options.

    Each is done by a fork of a Python that has imported what the command's own file imports, and no more.
    """
    calls = []
    for name in PLACES:
        completing = {"_DRAKCELERY_COMPLETE": "bash_complete", "COMP_WORDS": f"drakcelery {name} --"}
        calls += [([name, "--help"], {}), ([], {**completing, "COMP_CWORD": "2"})]
    directory = tmp_path_factory.mktemp("help")
    subprocess.run(
        [sys.executable, "-c", EACH], input=json.dumps(calls), cwd=directory, text=True, check=True
    )
    found = []
    for number in range(len(calls)):
        assert (directory / f"{number}.out").read_text(), calls[number]
        found.append(set((directory / f"{number}.loaded").read_text().split()))
    return {name: found[2 * place : 2 * place + 2] for place, name in enumerate(PLACES)}


@pytest.mark.parametrize("name", PLACES)
def test_a_commands_help_needs_no_server(name: str, loaded_for_help: Mapping[str, list[set[str]]]) -> None:
    """Nor does that of a command, or the completion of its options; they read no settings."""
    for loaded in loaded_for_help[name]:
        assert "click" in loaded
        assert not {*HEAVY, "pydantic", "structlog", "rich"} & loaded


@pytest.mark.parametrize("name", ["status", "drain"])
def test_a_uid_or_a_host_needs_redis_alone(name: str) -> None:
    """Its completion asks Redis, and imports neither Karton nor what libraries of ours use if it is there."""
    completing = {"_DRAKCELERY_COMPLETE": "bash_complete", "COMP_WORDS": f"drakcelery {name} x"}
    loaded = loaded_by([], {**completing, "COMP_CWORD": "2"})
    assert "redis" in loaded
    assert not {"celery", "karton", "minio", "rich", "opentelemetry", *UNUSED} & loaded


def test_lists_need_little(services: Services, redis_client: redis.Redis) -> None:
    """None imports Celery or a client of S3, and most no Karton, though a sample waits on its queue.

    ``status`` forecasts when that starts, for which Karton's own parser reads the task, and nothing else of
    Karton's.
    """
    identity, task = "karton.drakrun-help", Task({"type": "sample"})
    redis_client.set(task_key(task.uid), task.serialize())
    redis_client.rpush(queue_key("normal", identity), task.uid)
    environment = {
        "DRAKCELERY_REDIS_URL": services.redis.address(),
        "DRAKCELERY_DRAKRUN_IDENTITY": identity,
    }
    for command in WITH_KARTON + WITHOUT_KARTON:
        loaded = loaded_by(command.split(), environment)
        assert "redis" in loaded
        assert ("karton" in loaded) == (command in WITH_KARTON)
        assert not {"celery", "minio", "opentelemetry", *UNUSED} & loaded


def test_a_worker_becomes_one_without_celery() -> None:
    """The command that is replaced by the worker's own process reads settings, and imports no Celery."""
    assert not HEAVY & loaded_by(["worker", "vm", "--help"], {})


def test_a_worker_needs_no_other_command_of_celery() -> None:
    """Neither Flower, which has its command in Celery's, nor what libraries do without is imported."""
    loaded = loaded_by(["--help"], {}, main="drakcelery.worker.__main__")
    assert {"celery", "karton", "minio"} <= loaded
    assert not {"flower", "tornado", "boto3", "rich", "opentelemetry"} & loaded


def loaded_by(arguments: list[str], environment: dict[str, str], *, main: str = "drakcelery.cli") -> set[str]:
    """The packages that the command imports where it answers so."""
    code = (
        f"import sys\nfrom {main} import main\ntry:\n    main()\nfinally:\n"
        "    print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout
    loaded = set(done.stderr.split())
    assert "click" in loaded
    return loaded
