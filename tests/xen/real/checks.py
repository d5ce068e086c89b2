"""The engine and Xen's own ``xl``, in a real dom0. pytest runs this there; nothing here runs elsewhere.

Guests are paravirtual: a Linux that sleeps, booted once and saved. drakrun, DRAKVUF, injector and tcpdump
are the simulated ones of tests/xen/tools, and call this ``xl``.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from drakcelery.engines import Detonation
from drakcelery.engines.drakvuf.engine import Drakvuf, create
from drakcelery.errors import EngineError
from drakcelery.model.analysis import Execution
from drakcelery.settings import load
from tests.waiting import wait_until
from tests.xen.host import XenHost

XL = Path("/usr/lib/xen/bin/xl")
XENSTORE = Path("/usr/bin/xenstore")
MEMORY = 96
"""MiB of a guest."""
TEMPLATE = """\
name = "{{ VM_NAME }}"
type = "pv"
kernel = "/boot/vmlinuz"
ramdisk = "/boot/guest.cpio"
cmdline = "quiet"
memory = {{ MEMORY }}
on_poweroff = "destroy"
on_crash = "destroy"
"""
TIMEOUT = 4
"""Seconds that a run is watched."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command line answered."""

    code: int
    said: str
    """Its stderr."""
    printed: str
    seconds: float


def show(text: object) -> None:
    """Into the check's output, which pytest shows where it fails, and ``-rP`` where it passes."""
    sys.stdout.write(f"{text}\n")


def xl(*words: str | Path, program: Path = XL) -> Answer:
    """Run ``xl``, and show what it said."""
    begun = time.monotonic()
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False, timeout=120)
    answer = Answer(
        code=done.returncode, said=done.stderr, printed=done.stdout, seconds=time.monotonic() - begun
    )
    asked = " ".join(map(str, ["xl" if program == XL else "simulated xl", *words]))
    show(f"$ {asked}\n{done.stdout}{done.stderr}-> {answer.code}, {answer.seconds:.1f} s\n")
    return answer


def names() -> list[str]:
    """The domains that Xen has, but for Domain-0."""
    rows = [line.split() for line in xl("list").printed.splitlines()[1:]]
    return [row[0] for row in rows if row[1] != "0"]


def config(directory: Path, name: str, memory: int = MEMORY) -> Path:
    """A configuration for a guest of that name."""
    path = directory / f"{name}.cfg"
    path.write_text(TEMPLATE.replace("{{ VM_NAME }}", name).replace("{{ MEMORY }}", str(memory)))
    return path


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guest that was created, came up, and was saved."""
    directory = tmp_path_factory.mktemp("snapshot")
    saved = directory / "snapshot.sav"
    assert xl("create", config(directory, "vm-0")).code == 0
    assert names() == ["vm-0"]
    # Only a kernel that is up answers a request to suspend; before, xl says so after a minute
    wait_until(lambda: features("vm-0"), "the guest's kernel is up")
    assert xl("save", "vm-0", saved).code == 0
    assert names() == []
    return saved


def features(name: str) -> bool:
    """Whether the guest's kernel says in Xen's store that it can be suspended."""
    domid = xl("domid", name).printed.strip()
    path = f"/local/domain/{domid}/control/feature-suspend"
    done = subprocess.run([XENSTORE, "read", path], capture_output=True, text=True, check=False)
    return done.stdout.strip() == "1"


@pytest.fixture
def host(tmp_path: Path, snapshot: Path) -> Iterator[XenHost]:
    """DRAKVUF Sandbox on this dom0, simulated but for xl. No guest outlives a test."""
    made = XenHost.create(tmp_path / "xen", second=1)
    settings = made.root / "state" / "host.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "has_xen": True}))
    made.tool("xl").unlink()
    made.tool("xl").symlink_to(XL)
    made.snapshot.unlink()
    made.snapshot.symlink_to(snapshot)
    (made.etc / "cfg.template").write_text(TEMPLATE)
    install = {**json.loads(made.install_json.read_text()), "memory": MEMORY}
    made.install_json.write_text(json.dumps(install))
    with made:
        yield made
    for name in names():
        xl("destroy", name)


def engine(host: XenHost, tmp_path: Path, **more: object) -> Drakvuf:
    """The engine for that host."""
    tools = ("drakrun", "drakvuf", "injector", "xl", "tcpdump")
    given: dict[str, object] = {
        **{f"drakvuf_{tool}": host.tool(tool) for tool in tools},
        "drakvuf_etc_dir": host.etc,
        "drakvuf_lib_dir": host.lib,
        "drakvuf_run_dir": host.run,
        "drakvuf_post_restore": 0,
        "drakcelery_state_dir": tmp_path / "state",
        "drakcelery_engine": "drakvuf",
        "drakrun_xen_cmdline_check": "ignore",
        **more,
    }
    return create(
        load(environment={f"DRAKCELERY_{name.upper()}": str(value) for name, value in given.items()})
    )


def watched_by(host: XenHost) -> set[str | None]:
    """What the host's programs watch."""
    return {process.watches for process in host.processes()}


def make_job(tmp_path: Path, *, slot: str = "vm-1", attempt: int = 1) -> Detonation:
    """A job in a directory of its own."""
    root = tmp_path / "workspaces" / f"{slot}.{attempt}"
    (root / "raw").mkdir(parents=True)
    (root / "malwar.exe").write_bytes(b"MZ sample")
    return Detonation(
        uid="analysis",
        slot=slot,
        sample=root / "malwar.exe",
        extension="exe",
        magic="PE32 executable",
        start_command="%f",
        plugins=("procmon",),
        timeout=TIMEOUT,
        raw=root / "raw",
        hooks=None,
    )


def test_a_sample_is_detonated(host: XenHost, tmp_path: Path) -> None:
    """Restore, run, destroy; and again in the same slot."""
    drakvuf = engine(host, tmp_path)
    for attempt in (1, 2):
        job = make_job(tmp_path, attempt=attempt)
        drakvuf.prepare(job)
        assert names() == ["vm-1"]
        outcome = drakvuf.run(job)
        assert (outcome.execution, outcome.reason) == (Execution.EXECUTED, None)
        drakvuf.destroy("vm-1")
        assert names() == []


def test_two_guests_at_once(host: XenHost, tmp_path: Path) -> None:
    """One snapshot gives two guests, and each ends alone."""
    drakvuf = engine(host, tmp_path)
    drakvuf.prepare(make_job(tmp_path))
    drakvuf.prepare(make_job(tmp_path, slot="vm-2"))
    assert names() == ["vm-1", "vm-2"]
    drakvuf.destroy("vm-1")
    assert names() == ["vm-2"]
    drakvuf.destroy("vm-2")


ANSWERS = (
    ("list", "vm-9"),
    ("destroy", "vm-9"),
    ("domid", "vm-9"),
    ("domname", "99"),
    ("pause", "vm-9"),
    ("destroy", "0"),
    ("destroy",),
    ("nonsense",),
    ("list", "-Q"),
    ("restore", "/nowhere.cfg", "/nowhere.sav"),
)


@pytest.mark.parametrize("words", ANSWERS, ids=" ".join)
def test_the_simulated_xl_answers_as_this_one(words: tuple[str, ...], tmp_path: Path) -> None:
    """Exit code and words of what is refused."""
    with XenHost.create(tmp_path / "simulated") as simulated:
        theirs, ours = xl(*words), xl(*words, program=simulated.tool("xl"))
    assert (ours.code, ours.said.splitlines()[:1]) == (theirs.code, theirs.said.splitlines()[:1])


def test_the_simulated_xl_lists_as_this_one(tmp_path: Path) -> None:
    """The heading of the list, and Domain-0's row."""
    with XenHost.create(tmp_path / "simulated") as simulated:
        theirs, ours = (
            xl("list").printed.splitlines(),
            xl("list", program=simulated.tool("xl")).printed.splitlines(),
        )
    assert ours[0] == theirs[0]
    shape = r"Domain-0 +0 +\d+ +\d+ +[r-]----- +\d+\.\d"
    assert re.fullmatch(shape, theirs[1])
    assert re.fullmatch(shape, ours[1])


def test_a_name_that_is_taken(host: XenHost, tmp_path: Path, snapshot: Path) -> None:
    """xl refuses it, and leaves the first alone; the engine ends who has it, and restores."""
    path = config(tmp_path, "vm-1")
    assert xl("restore", path, snapshot).code == 0
    taken = xl("restore", path, snapshot)
    assert taken.code != 0
    assert "vm-1" in taken.said
    assert "already exists" in taken.said
    assert names() == ["vm-1"]
    before = xl("domid", "vm-1").printed
    drakvuf = engine(host, tmp_path)
    drakvuf.prepare(make_job(tmp_path))
    assert names() == ["vm-1"]
    assert xl("domid", "vm-1").printed != before
    drakvuf.destroy("vm-1")
    assert names() == []


def test_nothing_to_destroy(host: XenHost, tmp_path: Path) -> None:
    """It is no error, and cheap."""
    drakvuf = engine(host, tmp_path)
    drakvuf.destroy("vm-1")
    assert host.calls("drakrun vm-stop") == ()


def test_a_guest_that_nobody_holds(host: XenHost, tmp_path: Path, snapshot: Path) -> None:
    """What a dead worker left is found and ended."""
    assert xl("restore", config(tmp_path, "vm-1"), snapshot).code == 0
    engine(host, tmp_path).destroy("vm-1")
    assert names() == []


def test_a_guest_that_stands_still(host: XenHost, tmp_path: Path) -> None:
    """A paused guest answers nothing, and is ended."""
    drakvuf = engine(host, tmp_path)
    drakvuf.prepare(make_job(tmp_path))
    assert xl("pause", "vm-1").code == 0
    drakvuf.destroy("vm-1")
    assert names() == []


@pytest.mark.parametrize("end", ["destroy", "shutdown"])
def test_a_guest_that_goes_away(host: XenHost, tmp_path: Path, end: str) -> None:
    """Ended from outside or switched off by itself in mid-run: that is what the outcome says."""
    drakvuf, job = engine(host, tmp_path), make_job(tmp_path)
    drakvuf.prepare(job)
    host.fail("drakvuf", "outlives_guest")

    def end_it() -> None:
        wait_until(lambda: "vm-1" in watched_by(host), "DRAKVUF watches")
        xl(end, "vm-1")

    ending = threading.Thread(target=end_it)
    ending.start()
    long = Detonation(**{**{name: getattr(job, name) for name in job.__dataclass_fields__}, "timeout": 600})
    outcome = drakvuf.run(long)
    ending.join()
    assert "the guest went away" in str(outcome.reason)
    drakvuf.destroy("vm-1")
    assert names() == []


def test_a_domain_that_does_not_die(host: XenHost, tmp_path: Path) -> None:
    """While somebody has its memory, a destroyed domain stays as (null), and its name is free."""
    drakvuf = engine(host, tmp_path)
    drakvuf.prepare(make_job(tmp_path))
    domid = xl("domid", "vm-1").printed.strip()
    holder = subprocess.Popen([sys.executable, "-c", HOLD, domid], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    drakvuf.destroy("vm-1")
    assert names() == ["(null)"]
    assert "invalid domain identifier" in xl("list", "vm-1").said
    drakvuf.prepare(make_job(tmp_path, attempt=2))
    assert sorted(names()) == ["(null)", "vm-1"]
    drakvuf.destroy("vm-1")
    holder.kill()
    holder.wait()
    wait_until(lambda: names() == [], "the domain is gone")


HOLD = """\
import ctypes, subprocess, sys, time
domid = int(sys.argv[1])
frame = subprocess.run(
    ["xenstore", "read", f"/local/domain/{domid}/store/ring-ref"], capture_output=True, text=True, check=True
).stdout
library = ctypes.CDLL("libxenforeignmemory.so.1")
library.xenforeignmemory_open.restype = library.xenforeignmemory_map.restype = ctypes.c_void_p
handle = ctypes.c_void_p(library.xenforeignmemory_open(None, 0))
frames, errors = (ctypes.c_uint64 * 1)(int(frame)), (ctypes.c_int * 1)()
assert library.xenforeignmemory_map(handle, domid, 1, ctypes.c_size_t(1), frames, errors)
print("held", flush=True)
time.sleep(3600)
"""


STALLS = """\
#!/bin/sh
# xl, but for a restore that gets a part of its file, and then nothing
if [ "$1" = restore ]; then
    pipe=$(mktemp -u)
    mkfifo "$pipe"
    (head -c 20000000 "$3"; sleep 3600) > "$pipe" &
    exec {xl} restore "$2" "$pipe"
fi
exec {xl} "$@"
"""


def test_a_restore_that_takes_too_long(host: XenHost, tmp_path: Path) -> None:
    """xl is killed in the middle: what there is of the domain is ended, and the slot works again."""
    host.tool("xl").unlink()
    host.tool("xl").write_text(STALLS.format(xl=XL))
    host.tool("xl").chmod(0o755)
    drakvuf = engine(host, tmp_path, drakvuf_restore_timeout=20)
    with pytest.raises(EngineError, match="did not end within 20 s"):
        drakvuf.prepare(make_job(tmp_path))
    assert names() == ["vm-1"]
    drakvuf.destroy("vm-1")
    assert names() == []
    host.tool("xl").write_text(f'#!/bin/sh\nexec {XL} "$@"\n')
    patient = engine(host, tmp_path)
    patient.prepare(make_job(tmp_path, attempt=2))
    patient.destroy("vm-1")


def test_a_snapshot_that_is_cut_off(host: XenHost, tmp_path: Path, snapshot: Path) -> None:
    """The restore fails, and says why; no domain stays."""
    host.snapshot.unlink()
    host.snapshot.write_bytes(snapshot.read_bytes()[: 8 << 20])
    drakvuf = engine(host, tmp_path)
    with pytest.raises(EngineError, match=r"could not be restored.* xc: error: Failed to read") as caught:
        drakvuf.prepare(make_job(tmp_path))
    show(caught.value)
    drakvuf.destroy("vm-1")
    assert names() == []


def test_more_guests_than_memory(host: XenHost, tmp_path: Path) -> None:
    """The one that has no room fails, and leaves nothing; the other lives."""
    free = re.search(r"^free_memory *: (\d+)", xl("info").printed, re.MULTILINE)
    assert free is not None
    filler = config(tmp_path, "vm-7", int(free[1]) - MEMORY // 2)
    assert xl("create", "-p", filler).code == 0
    drakvuf = engine(host, tmp_path)
    with pytest.raises(EngineError, match="vm-1 could not be restored") as caught:
        drakvuf.prepare(make_job(tmp_path))
    show(caught.value)
    drakvuf.destroy("vm-1")
    assert names() == ["vm-7"]


def test_xen_that_does_not_answer(host: XenHost, tmp_path: Path) -> None:
    """While Xen's store hangs nobody says that a guest is gone; it is ended when the store is back."""
    drakvuf = engine(host, tmp_path, drakvuf_tool_timeout=3)
    drakvuf.prepare(make_job(tmp_path))
    store = int(Path("/run/xenstored.pid").read_text())
    os.kill(store, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        with pytest.raises(EngineError, match="may live on, since Xen does not answer") as caught:
            drakvuf.destroy("vm-1")
        show(f"after {time.monotonic() - begun:.0f} s: {caught.value}")
    finally:
        os.kill(store, signal.SIGCONT)
    engine(host, tmp_path).destroy("vm-1")
    assert names() == []
