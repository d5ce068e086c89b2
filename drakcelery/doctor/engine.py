"""The engine of this host: whether it could detonate."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from drakcelery.doctor.commands import line
from drakcelery.doctor.finding import Check, Verdict, failed, ok, skipped, warning
from drakcelery.doctor.subject import Subject
from drakcelery.embedded.layout import home
from drakcelery.engines import Detonation, confinement, create
from drakcelery.ledger.fleet import Fleet
from drakcelery.model.analysis import Execution
from drakcelery.operators.overview import drift
from drakcelery.settings import Settings

TRIAL_SECONDS = 10
"""How long the emulator is tried; its harmless sample ends within one."""


def _choice(subject: Subject) -> Verdict:
    if not subject.runs_guests:
        return skipped("[slots] is empty: this machine runs no guests")
    slots = subject.settings.slots
    return ok(f"{subject.settings.engine}, for {', '.join(slots)}")


def _other_than(name: str, subject: Subject) -> Verdict | None:
    engine = subject.settings.engine
    return None if engine == name else skipped(f"the engine here is {engine}")


def _emulator(subject: Subject) -> Verdict:
    if (skip := _other_than("emulator", subject)) is not None:
        return skip
    try:
        version = create("emulator", subject.settings).version()
    except ImportError as error:  # PackageNotFoundError is one as well
        wanted = line(sys.executable, "-m", "pip", "install", "drakcelery[emulator]")
        return failed(f"the emulator is not installed: {error}", "Install it.", wanted)
    with tempfile.TemporaryDirectory(prefix="drakcelery-doctor-") as directory:
        return _trial(_elsewhere(subject.settings, Path(directory)), Path(directory), version)


def _confinement(subject: Subject) -> Verdict:
    if (skip := _other_than("emulator", subject)) is not None:
        return skip
    lacks = confinement.find_lacks()
    if not lacks:
        return ok("another network, user and seccomp filter, no capability, and no file but its output")
    said, remedy = (
        "; ".join(parts) for parts in zip(*((one.said(), one.remedy()) for one in lacks), strict=True)
    )
    return warning(said, f"{remedy[0].upper()}{remedy[1:]}.")


def _elsewhere(settings: Settings, directory: Path) -> Settings:
    """The same settings, with another state_dir: the slots of a running worker are left alone."""
    ours = settings.drakcelery.model_copy(update={"state_dir": directory})
    return settings.model_copy(update={"drakcelery": ours})


def _trial(settings: Settings, directory: Path, version: str) -> Verdict:
    """Run the sample that comes with drakcelery, as a stage would."""
    engine = create("emulator", settings)
    raw = directory / "raw"
    raw.mkdir()
    job = Detonation(
        uid="doctor",
        slot="doctor",
        sample=home() / "samples" / "behaviour.exe",
        extension="exe",
        magic="PE32+ executable",
        start_command="%f",
        plugins=("procmon",),
        timeout=TRIAL_SECONDS,
        raw=raw,
        hooks=None,
    )
    try:
        engine.accept(job)
        engine.prepare(job)
        outcome = engine.run(job)
    finally:
        engine.destroy(job.slot)
    if outcome.execution is not Execution.EXECUTED or not job.log.is_file():
        return failed(f"{version} did not run its trial sample: {outcome.reason}")
    return ok(f"{version} ran its trial sample")


def _replay(subject: Subject) -> Verdict:
    if (skip := _other_than("replay", subject)) is not None:
        return skip
    create("replay", subject.settings)
    run_dir = subject.settings.replay.run_dir
    there = [name for name in ("drakmon.log", "dumps", "dump.pcap") if run_dir and (run_dir / name).exists()]
    if not there:
        return failed(f"{run_dir} has neither drakmon.log nor dumps nor dump.pcap")
    return ok(f"{run_dir} has {', '.join(there)}")


def _snapshots(subject: Subject) -> Verdict:
    hosts = Fleet(subject.redis).hosts()
    if said := drift(hosts):
        return warning("; ".join(said))
    known = sum(status.snapshot is not None for status in hosts)
    return (
        ok(f"{known} hosts say what they restore their VMs from, and agree")
        if known
        else skipped("no host that is online has a snapshot to compare")
    )


CHECKS = (
    Check(
        name="engine.choice",
        what="this machine has slots, and an engine for them",
        remedy="Set [drakcelery] engine to one that this machine can run.",
        examine=_choice,
        needs=("settings.load",),
    ),
    Check(
        name="engine.emulator",
        what="the emulator is installed, starts, and runs a program",
        remedy="Install the extra [emulator] of drakcelery; where it is there, see [emulator] memory_limit.",
        examine=_emulator,
        needs=("engine.choice",),
        seconds=90,
    ),
    Check(
        name="engine.confinement",
        what="the emulator is confined by all that it knows of",
        remedy="See docs/security.md: what the emulator is confined by.",
        examine=_confinement,
        needs=("engine.emulator",),
        seconds=40,
    ),
    Check(
        name="engine.replay",
        what="the directory of the recorded run has something to play",
        remedy="Set [replay] run_dir to the directory of a run: drakmon.log, dumps, dump.pcap.",
        examine=_replay,
        needs=("engine.choice",),
    ),
    Check(
        name="engine.snapshots",
        what="all hosts with a VM profile have the same snapshot, and none has changed under its vm worker",
        remedy="Give each snapshot a profile of its own, or copy one to all hosts (docs/xen.md); where a "
        "change was meant, restart the vm worker of the host.",
        examine=_snapshots,
        needs=("redis.reachable",),
    ),
)
"""In their order."""
