"""The emulator engine on a bench: jobs for programs, and what their runs left."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scapy.utils import rdpcap

from drakcelery.engines import Detonation
from drakcelery.engines.emulator import Emulator, create
from drakcelery.model.analysis import Outcome
from drakcelery.model.emulated_guest import parse_guest
from drakcelery.model.plugins import DEFAULT_PLUGINS
from drakcelery.settings import DrakcelerySection, EmulatorSection, Settings
from tests import guest_forks

MIB = 1024**2


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run and what it left."""

    job: Detonation
    outcome: Outcome

    def lines(self, plugin: str | None = None, method: str | None = None) -> list[dict[str, Any]]:
        """Log records, of one plugin and method or all."""
        records = [json.loads(line) for line in self.job.log.read_bytes().splitlines()]
        return [
            record
            for record in records
            if plugin in (None, record["Plugin"]) and method in (None, record["Method"])
        ]

    def dumps(self) -> dict[str, bytes]:
        """The memory dumps."""
        return (
            {path.name: path.read_bytes() for path in self.job.dumps.iterdir()}
            if self.job.dumps.exists()
            else {}
        )

    def packets(self) -> list[Any]:
        """What scapy reads from the pcap."""
        return list(rdpcap(str(self.job.pcap)))


class Bench:
    """An engine with its state and its jobs below one directory; its guests are *forked*, or started, and
    as *guest* says in the words of ``[emulator_profiles]``."""

    def __init__(self, path: Path, *, forked: bool = True, guest: str = "", **limits: int) -> None:
        self.path = path
        self.engine: Emulator = create(
            Settings(
                drakcelery=DrakcelerySection(state_dir=path / "state"),
                emulator=EmulatorSection(**{"memory_limit": 1024 * MIB, **limits}),
                emulator_profiles={"default": parse_guest(guest)} if guest else {},
            )
        )
        if forked:
            self.engine.begin = guest_forks.begin

    def job(
        self,
        program: Path,
        command: str = "%f",
        *,
        timeout: int = 60,
        plugins: tuple[str, ...] = DEFAULT_PLUGINS,
        hooks: Path | None = None,
        slot: str = "vm-1",
    ) -> Detonation:
        """A job for a copy of *program*."""
        work = self.path / f"work-{len(list(self.path.iterdir()))}"
        (work / "sample").mkdir(parents=True)
        (work / "raw").mkdir()
        sample = work / "sample" / f"malwar{program.suffix}"
        shutil.copy(program, sample)
        return Detonation(
            uid="uid",
            slot=slot,
            sample=sample,
            extension=program.suffix[1:],
            magic="PE32",
            start_command=command,
            plugins=plugins,
            timeout=timeout,
            raw=work / "raw",
            hooks=hooks,
        )

    def detonate(self, program: Path, command: str = "%f", **more: Any) -> Run:
        """Accept, prepare and run."""
        job = self.job(program, command, **more)
        self.engine.accept(job)
        self.engine.prepare(job)
        return Run(job=job, outcome=self.engine.run(job))

    def guest(self, slot: str = "vm-1") -> int | None:
        """The process that the slot's record names; None without a record."""
        try:
            return int(json.loads((self.path / "state" / "engine" / f"{slot}.json").read_bytes())["pid"])
        except FileNotFoundError:
            return None
