"""No sample runs unless its guest is kept in (H1): the engine on a simulated host with drakrun's chains."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from drakcelery.engines.drakvuf import firewall
from drakcelery.errors import Blame, EngineError, SettingsError
from tests.drakvuf import detonate, engine, host, make_job, short_waits
from tests.waiting import wait_until
from tests.xen.host import XenHost

__all__ = ("host", "short_waits")


MADE = (
    "-N DRAKRUN_INP",
    "-A INPUT -j DRAKRUN_INP",
    "-N DRAKRUN_FWD",
    "-A FORWARD -j DRAKRUN_FWD",
    "-t nat -N DRAKRUN_PRT",
    "-t nat -A POSTROUTING -j DRAKRUN_PRT",
    "-A DRAKRUN_FWD -i drak+ -o drak+ -j DROP",
)
"""What drakrun makes, call by call."""


def command_in(sentence: str) -> list[str]:
    """The commands that a sentence names."""
    return [one.removeprefix("iptables ") for one in sentence.partition("fix it: ")[2].split(" && ")]


def mend(host: XenHost, sentence: str) -> None:
    """Do what a sentence says."""
    for command in command_in(sentence):
        assert host.iptables(command) == 0


def starts(host: XenHost) -> int:
    """How often a VM was started."""
    return len(host.calls("drakrun vm-start"))


@pytest.fixture(params=["0.20.0", "0.21.0"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[XenHost]:
    """A host that was just started, whose drakrun takes its time with each rule."""
    with XenHost.create(tmp_path / "xen", version=request.param, iptables_seconds=0.1) as made:
        yield made


def test_two_first_guests_at_once(fresh: XenHost, tmp_path: Path) -> None:
    """One vm-start at a time until the network stands: both guests run, and are kept in."""
    ours = engine(fresh, tmp_path)
    with ThreadPoolExecutor() as pool:
        jobs = [make_job(tmp_path, slot=slot) for slot in ("vm-1", "vm-2")]
        assert len(list(pool.map(ours.prepare, jobs))) == 2
    for rule in ("INPUT -j DRAKRUN_INP", "FORWARD -j DRAKRUN_FWD", "DRAKRUN_INP -i drak2 -j DROP"):
        assert f"-A {rule}\n" in fresh.rules()
    assert ours.obstacle(fresh=True) is None
    assert len(fresh.guests()) == 2


def test_a_network_that_is_being_made_is_not_broken(host: XenHost, tmp_path: Path) -> None:
    """Who comes while another makes the chains waits for it, and a look in between finds nothing amiss."""
    ours, lock = engine(host, tmp_path), tmp_path / "state" / "engine" / "network.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file, ThreadPoolExecutor() as pool:
        fcntl.flock(file, fcntl.LOCK_EX)
        for command in ("-N DRAKRUN_INP", "-A INPUT -j DRAKRUN_INP"):
            assert host.iptables(command) == 0
        waiting = pool.submit(ours.prepare, make_job(tmp_path))
        wait_until(lambda: len(host.calls("iptables-save")) > 0, "it has seen a part of the chains")
        assert ours.obstacle(fresh=True) is None
        assert (starts(host), waiting.done()) == (0, False)
        for command in MADE[2:]:
            assert host.iptables(command) == 0
        fcntl.flock(file, fcntl.LOCK_UN)
        waiting.result()
    assert ours.obstacle(fresh=True) is None


def test_guests_start_beside_each_other_once_it_stands(host: XenHost, tmp_path: Path) -> None:
    """Who makes the network has the lock; once it stands nobody waits for it."""
    ours = engine(host, tmp_path)
    lock = tmp_path / "state" / "engine" / "network.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with ThreadPoolExecutor() as pool:
            first = pool.submit(ours.prepare, make_job(tmp_path))
            wait_until(lambda: len(host.calls("iptables-save")) > 0, "it has seen that there is no network")
            assert starts(host) == 0
            fcntl.flock(file, fcntl.LOCK_UN)
            first.result()
        fcntl.flock(file, fcntl.LOCK_EX)
        ours.prepare(make_job(tmp_path, slot="vm-2"))
    assert len(host.guests()) == 2


def test_a_process_that_dies_frees_the_network(host: XenHost, tmp_path: Path) -> None:
    """A worker that is killed while it makes the network keeps nobody else from it."""
    ours, directory = engine(host, tmp_path), tmp_path / "state" / "engine"
    directory.mkdir(parents=True)
    child = os.fork()
    if child == 0:
        with (directory / "network.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            (directory / "locked").touch()
            signal.pause()
    wait_until((directory / "locked").exists, "the other process has the lock")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(ours.prepare, make_job(tmp_path))
        wait_until(lambda: len(host.calls("iptables-save")) > 0, "it waits")
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        waiting.result()
    assert len(host.guests()) == 1


def test_who_waits_for_the_network_can_be_stopped(host: XenHost, tmp_path: Path) -> None:
    """A cancelled analysis waits for no network any more."""
    ours, lock = engine(host, tmp_path), tmp_path / "state" / "engine" / "network.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file, ThreadPoolExecutor() as pool:
        fcntl.flock(file, fcntl.LOCK_EX)
        waiting = pool.submit(ours.prepare, make_job(tmp_path))
        wait_until(lambda: len(host.calls("iptables-save")) > 0, "it waits")
        ours.destroy("vm-1")
        with pytest.raises(EngineError, match="destroyed meanwhile"):
            waiting.result()
    assert starts(host) == 0


BROKEN = {
    "input": ["-D INPUT -j DRAKRUN_INP"],
    "forward": ["-D FORWARD -j DRAKRUN_FWD"],
    "nat": ["-t nat -D POSTROUTING -j DRAKRUN_PRT"],
    "chain": ["-D INPUT -j DRAKRUN_INP", "-F DRAKRUN_INP", "-X DRAKRUN_INP"],
    "between": ["-D DRAKRUN_FWD -i drak+ -o drak+ -j DROP"],
    "flushed": ["-F"],
    "let in before": ["-I INPUT -j ACCEPT"],
}


@pytest.mark.parametrize("commands", BROKEN.values(), ids=BROKEN)
def test_no_sample_runs_in_a_broken_network(host: XenHost, tmp_path: Path, commands: list[str]) -> None:
    """Whatever is missing: no guest is started, the host is to blame, and the sentence has the fix."""
    ours = engine(host, tmp_path)
    ours.prepare(make_job(tmp_path))
    ours.destroy("vm-1")
    for command in commands:
        assert host.iptables(command) == 0
    with pytest.raises(EngineError, match="no sample runs on this host") as refused:
        ours.prepare(make_job(tmp_path, attempt=2))
    assert refused.value.blames is Blame.HOST
    assert starts(host) == 1
    assert ours.obstacle() == str(refused.value)  # at once, and for every process
    assert ours.obstacle(fresh=True) is not None
    ours.destroy("vm-1")
    mend(host, str(refused.value))
    assert ours.obstacle(fresh=True) is None
    ours.prepare(make_job(tmp_path, attempt=3))


def test_a_start_that_ends_well_is_not_believed(host: XenHost, tmp_path: Path) -> None:
    """vm-start says 0, and its guest is not kept in: no sample is given to it."""
    ours = engine(host, tmp_path)
    host.fail("iptables", "open")
    with pytest.raises(EngineError, match="INPUT -j DRAKRUN_INP, FORWARD -j DRAKRUN_FWD") as refused:
        ours.prepare(make_job(tmp_path))
    assert refused.value.blames is Blame.HOST
    assert ours.obstacle() is not None


@pytest.fixture
def forwarding(host: XenHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that forwards, and a firewall that leaves it to that."""
    (tmp_path / "ip_forward").write_text("1\n")
    monkeypatch.setattr(firewall, "FORWARDING", tmp_path / "ip_forward")
    host.iptables("-P FORWARD ACCEPT")


@pytest.mark.usefixtures("forwarding")
def test_a_guest_without_network_is_forwarded_to_nobody(host: XenHost, tmp_path: Path) -> None:
    """Where no guest has a network and the kernel forwards, drakrun's chains are not enough."""
    ours = engine(host, tmp_path)
    with pytest.raises(EngineError, match=r"iptables has no FORWARD -i drak\+ -j DROP") as refused:
        ours.prepare(make_job(tmp_path))
    assert refused.value.blames is Blame.HOST
    assert ours.obstacle(fresh=True) is not None
    ours.destroy("vm-1")
    mend(host, str(refused.value))
    assert ours.obstacle(fresh=True) is None
    ours.prepare(make_job(tmp_path, attempt=2))


@pytest.mark.usefixtures("forwarding")
def test_one_guest_without_network_among_others(host: XenHost, tmp_path: Path) -> None:
    """A task may switch its network off: only its own guest is refused, and the host goes on."""
    ours = engine(host, tmp_path, drakrun__net_enable="1", drakrun__out_interface="eth0")
    ours.prepare(make_job(tmp_path))
    with pytest.raises(EngineError, match=r"iptables has no FORWARD -i drak\+ -j DROP"):
        ours.prepare(make_job(tmp_path, slot="vm-2", net_enable=False))
    assert ours.obstacle(fresh=True) is None


def test_a_network_that_goes_away_under_a_run(host: XenHost, tmp_path: Path) -> None:
    """A firewall that is loaded again under a running sample ends the run."""
    ours, job = engine(host, tmp_path), make_job(tmp_path, timeout=60)
    ours.prepare(job)
    flush = threading.Thread(
        target=lambda: (
            wait_until(lambda: any(one.watches for one in host.processes()), "DRAKVUF watches"),
            host.iptables("-F"),
        )
    )
    flush.start()
    with pytest.raises(EngineError, match="no sample runs on this host") as ended:
        ours.run(job)
    flush.join()
    assert ended.value.blames is Blame.HOST
    ours.destroy("vm-1")


def test_a_network_that_goes_away_before_a_run(host: XenHost, tmp_path: Path) -> None:
    """Between prepare and run: DRAKVUF is not even started."""
    ours, job = engine(host, tmp_path), make_job(tmp_path)
    ours.prepare(job)
    host.iptables("-F")
    with pytest.raises(EngineError, match="no sample runs on this host"):
        ours.run(job)
    assert [call for call in host.calls("drakvuf") if "-d" in call.argv] == []
    ours.destroy("vm-1")


def test_a_start_of_another_that_breaks_it(host: XenHost, tmp_path: Path) -> None:
    """A vm-start that fails of the chains blames the host, and any other failure does not."""
    ours = engine(host, tmp_path)
    host.fail("drakrun vm-start", "fails")
    with pytest.raises(EngineError, match="could not be restored") as failed:
        ours.prepare(make_job(tmp_path))
    assert failed.value.blames is Blame.SLOT
    assert ours.obstacle() is None


def test_without_an_answer_of_iptables(
    host: XenHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody can tell, nothing runs."""
    monkeypatch.setattr(firewall, "SAVE_PAUSE", 0.01)
    ours = engine(host, tmp_path)
    host.fail("iptables-save", "fails", times=None)
    with pytest.raises(EngineError, match="nobody can tell what keeps guests in") as refused:
        ours.prepare(make_job(tmp_path))
    assert refused.value.blames is Blame.HOST
    assert "nobody can tell" in str(ours.obstacle(fresh=True))
    host.heal()
    ours.destroy("vm-1")
    os.utime(tmp_path / "state" / "engine" / "network.broken", (0, 0))
    assert ours.obstacle(fresh=True) is None


@pytest.mark.parametrize("shift", [-3600, 3600])
def test_a_note_ages_by_any_clock(host: XenHost, tmp_path: Path, shift: int) -> None:
    """Also by one that was set back: chains that are yet to be made are made by the next vm-start."""
    ours, note = engine(host, tmp_path), tmp_path / "state" / "engine" / "network.broken"
    note.parent.mkdir(parents=True)
    note.write_text("it was broken")
    assert ours.obstacle(fresh=True) is not None
    when = note.stat().st_mtime + shift
    os.utime(note, (when, when))
    assert ours.obstacle(fresh=True) is None


def test_iptables_hangs(host: XenHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no slot's fault either, and the hang ends."""
    monkeypatch.setattr(firewall, "SAVE_SECONDS", 0.2)
    host.tool("iptables-save").write_text("#!/bin/sh\nexec sleep 600\n")
    with pytest.raises(EngineError, match=r"nobody can tell what keeps guests in: .*did not end") as refused:
        engine(host, tmp_path).prepare(make_job(tmp_path))
    assert refused.value.blames is Blame.HOST


def test_a_look_never_raises(host: XenHost, tmp_path: Path) -> None:
    """The thread that looks looks after more than this: whatever is wrong is an obstacle, and told."""
    ours = engine(host, tmp_path)
    host.start("vm-1")
    host.tool("drakvuf").unlink()  # its version cannot be asked for
    assert "DRAKVUF does not say its version" in str(ours.obstacle(fresh=True))
    directory = tmp_path / "state" / "engine"
    (directory / "network.broken").unlink()
    (directory / "network.broken").mkdir()
    assert "network.broken" in str(ours.obstacle())
    assert ours.obstacle(fresh=True) is not None


def test_a_network_that_stays_is_trouble(host: XenHost, tmp_path: Path) -> None:
    """v0.21 without conntrack: the guest is gone, its network is not, and the slot is not clean (H1, H2)."""
    ours, job = engine(host, tmp_path), make_job(tmp_path)
    detonate(ours, job)
    conntrack = host.tool("conntrack")
    kept = shutil.move(conntrack, tmp_path / "conntrack")
    for _ in range(2):  # also where nobody holds the guest any more
        with pytest.raises(EngineError, match=r"vmnet-1.json says that its network is not.*conntrack"):
            ours.destroy("vm-1")
    assert host.guests() == ()
    shutil.move(kept, conntrack)
    ours.destroy("vm-1")
    ours.prepare(make_job(tmp_path, attempt=2))


@pytest.mark.parametrize(
    ("version", "backend", "program", "package"),
    [
        ("0.21.0", "qcow2", "conntrack", "conntrack"),
        ("0.20.0", "qcow2", "brctl", "bridge-utils"),
        ("0.21.0", "qcow2", "dnsmasq", "dnsmasq"),
        ("0.21.0", "qcow2", "qemu-img", "qemu-utils"),
        ("0.21.0", "zfs", "zfs", "zfsutils-linux"),
        ("0.21.0", "lvm", "lvcreate", "lvm2"),
    ],
)
def test_a_host_without_a_program_is_refused(
    tmp_path: Path, version: str, backend: str, program: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What drakrun of that version needs with that storage is looked for before a sample is taken (H2)."""
    monkeypatch.setattr("drakcelery.engines.drakvuf.tools.STANDARD_PATH", "/nowhere")
    with XenHost.create(tmp_path / "xen", version=version) as made:
        for name in {"ip", "zfs", "vgs", "lvcreate", "lvremove", "iptables-save"} - {program}:
            made.tool(name).touch(mode=0o755)
        install = json.loads(made.install_json.read_text())
        made.install_json.write_text(json.dumps({**install, "storage_backend": backend}))
        made.tool(program).unlink(missing_ok=True)
        with pytest.raises(SettingsError, match=f"drakrun needs {program}: apt-get install {package} "):
            engine(made, tmp_path).version()


def test_an_older_drakrun_needs_no_conntrack(tmp_path: Path) -> None:
    """v0.20 does not use it."""
    with XenHost.create(tmp_path / "xen", version="0.20.0") as made:
        made.tool("conntrack").unlink()
        assert engine(made, tmp_path).version()
