"""The engine ``drakvuf``."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from drakcelery.engines import Detonation
from drakcelery.engines.drakvuf import commands, snapshot
from drakcelery.engines.drakvuf.acceptance import check
from drakcelery.engines.drakvuf.base_lines import BaseLines
from drakcelery.engines.drakvuf.cell import Cell, Held
from drakcelery.engines.drakvuf.execution import End, ended_by, execution_of, is_complete, windows_error
from drakcelery.engines.drakvuf.guest import DESTROY_SECONDS, Guest
from drakcelery.engines.drakvuf.installation import Installation
from drakcelery.engines.drakvuf.keeper import Keeper
from drakcelery.engines.drakvuf.library import Library
from drakcelery.engines.drakvuf.network import Network
from drakcelery.engines.drakvuf.run import Limits, recorded, traces, watched
from drakcelery.engines.drakvuf.screenshots import photographed
from drakcelery.engines.drakvuf.tools import Tools, search_path
from drakcelery.engines.watching import watcher_of
from drakcelery.errors import EngineError, SettingsError
from drakcelery.model.analysis import Execution, Outcome, Snapshot, StartMethod

if TYPE_CHECKING:
    from drakcelery.settings import DrakrunSection, Settings

log = structlog.get_logger(__name__)

MEMORY_DUMP = "post_sample.raw_memdump"
"""The guest's whole memory below ``raw``, as v0.18 called it."""
PROFILES = "profiles"
"""Directory below ``raw`` with the profiles of DLLs."""


class Drakvuf:
    """Detonates in the VMs of DRAKVUF Sandbox; see :class:`~drakcelery.engines.Engine`.

    The holder of a guest is the attempt's own directory: a later attempt at the same sample is another one.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._section = settings.drakvuf
        self._state = settings.drakcelery.state_dir / "engine"
        drakrun = settings.drakrun
        self._tools = Tools(
            path=search_path(self._section),
            environment=_network(drakrun, net_enable=drakrun.net_enable),
            library=Library(self._state) if self._section.library else None,
        )
        self._installation = Installation(settings, self._tools)
        self._mark: tuple[snapshot.Status, str] | None = None
        self._network = Network(
            self._tools,
            self._state,
            between=lambda: self._installation.abilities.keeps_apart,
            closed=not drakrun.net_enable,
            wait=2.0 * self._section.restore_timeout,
        )
        self._base_lines = BaseLines(self._section, self._tools.find)

    def version(self) -> str:
        """``drakvuf 1.1-8107f11``. The first call of a process checks the host.

        Raises:
            SettingsError: no sample could be analysed here, or not as the settings demand.
            EngineError: the tools do not answer.
        """
        return self._version

    @functools.cached_property
    def _version(self) -> str:
        self._installation.check()
        return f"drakvuf {self._installation.abilities.drakvuf}"

    def lacks(self) -> Sequence[str]:
        """Nothing: the hypervisor holds the guest; the doctor looks at it."""
        return ()

    def obstacle(self, *, fresh: bool = False) -> str | None:
        """What the network of this host's guests lacks to keep them in; see :mod:`.network`."""
        return self._network.check() if fresh else self._network.obstacle()

    def snapshot_id(self) -> str | None:
        """By its sizes and pieces of it: :func:`.snapshot.mark`. Read again if its files have changed."""
        volumes = snapshot.directory(self._section.etc_dir, self._section.lib_dir)
        seen = snapshot.status(volumes)
        if self._mark is None or self._mark[0] != seen:
            self._mark = (seen, snapshot.mark(volumes))
        return self._mark[1]

    def attend(self) -> None:
        """Keep drakrun's library imported in a process beside this one."""
        if self._section.library:
            Keeper(self._section, self._tools, self._state).start()

    def accept(self, job: Detonation) -> None:
        """Refuse what cannot be passed on to this host's DRAKVUF Sandbox.

        Raises:
            UnsupportedSample: a sentence that says what it cannot do.
            EngineError: the tools do not answer.
        """
        check(job, self._settings.drakrun, lambda: self._installation.abilities)

    def prepare(self, job: Detonation) -> Snapshot:
        """Restore the slot's VM and make it ready. Raises :class:`~drakcelery.errors.EngineError`."""
        net_enable = self._net_enable(job)
        guest, holder = self._guest(job.slot, net_enable=net_enable), str(job.raw)
        volumes = snapshot.directory(self._section.etc_dir, self._section.lib_dir)
        restored = snapshot.identify(volumes, self._state / "snapshot.json")
        guest.cell.acquire(
            Held(holder=holder, snapshot_version=restored.version, snapshot_sha256=restored.sha256)
        )
        guest.restore(holder)
        guest.check_network(self._settings.drakrun, net_enable=net_enable)
        if self._section.post_restore:
            script = self._installation.post_restore
            guest.make_ready(holder, script, net_enable=net_enable)
        return restored

    def run(self, job: Detonation) -> Outcome:
        """Copy the sample in, start it under DRAKVUF's eyes, watch. The guest is still there afterwards.

        Raises:
            EngineError: the guest was destroyed meanwhile, or the tools failed.
        """
        guest, holder = self._guest(job.slot), str(job.raw)
        held, version = guest.cell.check(holder), self.version()
        started = int(time.time())
        path, start_command = self._copy_in(guest, holder, job)
        command = self._drakvuf_command(guest, holder, job, path, start_command)
        watcher = watcher_of(job)
        limits = Limits(grace=self._section.grace, output=self._section.output_limit, watcher=watcher)
        with recorded(guest, job, holder) as traffic, photographed(guest, job, holder) as screenshots:
            ended = watched(guest, job, holder, command, limits)
        execution, reason = execution_of(ended, by_itself=commands.is_plain(job.start_command, job.extension))
        watch, news = watcher.finish(ended_by(ended)) if watcher is not None else (None, None)
        reasons = [watch.words if watch and watch.ended == "quiet" else None, reason, traffic.trouble]
        reasons.append(screenshots.trouble and f"there are no screenshots: {screenshots.trouble}")
        if self._settings.drakrun.raw_memory_dump and ended.end is not End.GUEST_GONE:
            reasons.append(self._dump_memory(guest, holder, job))
        self._attach(job)
        return Outcome(
            engine=version,
            snapshot=Snapshot(version=held.snapshot_version, sha256=held.snapshot_sha256),
            started=started,
            finished=int(time.time()),
            execution=execution,
            complete=is_complete(ended),
            start_command=start_command,
            start_method=self._start_method(job),
            guest_working_directory=job.guest_working_directory or commands.directory_of(path),
            net_enable=self._net_enable(job),
            reason="; ".join(filter(None, reasons)) or None,
            windows_error=windows_error(ended.injection) if execution is Execution.NOT_EXECUTED else None,
            watch=watch,
            news=news,
        )

    def _copy_in(self, guest: Guest, holder: str, job: Detonation) -> tuple[str, str]:
        """Where the sample is in the guest, and the command that starts it."""
        path = guest.copy_in(holder, job.sample)
        start_command = commands.start_command(job.start_command, path)
        log.info("sample_copied", guest_path=path, start_command=start_command)
        return path, start_command

    def destroy(self, slot: str) -> None:
        """End the slot's guest and whatever was started for it.

        A slot with another name than ``vm-N`` is left from another engine, and has no guest of this one.

        Raises:
            EngineError: the guest lives on.
        """
        if commands.vm_id(slot) is not None:
            self._guest(slot).destroy()

    def _net_enable(self, job: Detonation) -> bool:
        """Whether the guest reaches the Internet; a task can only switch that off."""
        return self._settings.drakrun.net_enable and job.net_enable is not False

    def _start_method(self, job: Detonation) -> StartMethod | None:
        """How the sample is started; None if this drakrun has no option for it."""
        chosen = self._installation.abilities.method
        if chosen is None or job.start_method is not None:
            return None if chosen is None else job.start_method
        return chosen if commands.is_plain(job.start_command, job.extension) else "createproc"

    def _guest(self, slot: str, *, net_enable: bool | None = None) -> Guest:
        """The guest of *slot*; *net_enable*: what it is restored with."""
        number = commands.vm_id(slot)
        if number is None:
            raise EngineError(f"slot {slot}: the engine drakvuf has the slots vm-1, vm-2, …")
        cell = Cell(self._state / slot, lock_limit=DESTROY_SECONDS)
        tools = self._tools
        if net_enable is not None:
            environment = _network(self._settings.drakrun, net_enable=net_enable)
            tools = dataclasses.replace(tools, environment=environment)
        return Guest(
            number=number,
            cell=cell,
            tools=tools,
            section=self._section,
            network=self._network,
            base_lines=self._base_lines,
        )

    def _drakvuf_command(
        self, guest: Guest, holder: str, job: Detonation, path: str, start_command: str
    ) -> commands.Command:
        """The command; the directories that it names are there."""
        job.dumps.mkdir(exist_ok=True)
        if commands.TRACED & set(job.plugins):
            traces(job).mkdir(exist_ok=True)
        method = self._start_method(job)
        directory = job.guest_working_directory or commands.directory_of(path)
        if method not in (None, "createproc") and job.start_command.strip() == "%f":
            start_command = f'"{path}"'  # it is split into program and arguments, at its blanks
        base = guest.base_command_line(
            holder, start_command, method=method, directory=directory if method else None
        )
        drakrun = self._settings.drakrun
        watch = commands.Watch(
            plugins=job.plugins,
            timeout=job.longest,
            dumps=job.dumps,
            traces=traces(job),
            hooks=job.hooks or self._installation.hooks,
            syscalls=self._installation.syscalls,
            traps_ttl=drakrun.anti_hammering_threshold,
        )
        command = commands.drakvuf(self._section.drakvuf, base, watch, directory=directory)
        log.info("drakvuf_starts", command=command)
        return command

    def _dump_memory(self, guest: Guest, holder: str, job: Detonation) -> str | None:
        """Write the guest's memory to a file below ``raw``; returns what went wrong, if anything did."""
        target = job.raw / MEMORY_DUMP
        command = commands.memory_dump(self._section.vmi_dump_memory, guest.number, target)
        try:
            done = self._tools.run(
                command, seconds=self._section.restore_timeout, cell=guest.cell, holder=holder
            )
            if done.code != 0:
                raise done.trouble("no memory dump")
        except EngineError as error:
            target.unlink(missing_ok=True)
            guest.cell.check(holder)
            log.error("no_memory_dump", error=str(error))
            return f"there is no memory dump: {error}"
        return None

    def _attach(self, job: Detonation) -> None:
        """Put the host's profiles beside what DRAKVUF wrote, if the settings ask for them."""
        if self._settings.drakrun.attach_profiles:
            (job.raw / PROFILES).mkdir(exist_ok=True)
            for profile in self._installation.dll_profiles():
                shutil.copyfile(profile, job.raw / PROFILES / profile.name)
        if self._settings.drakrun.attach_apiscout_profile:
            profile = self._installation.apiscout_profile
            shutil.copyfile(profile, job.raw / profile.name)


def _network(drakrun: DrakrunSection, *, net_enable: bool) -> dict[str, str]:
    return commands.network_environment(
        net_enable=net_enable, out_interface=drakrun.out_interface, dns_server=drakrun.dns_server
    )


def create(settings: Settings) -> Drakvuf:
    """The engine for the VMs in ``[slots]``.

    Raises:
        SettingsError: a slot is no VM of DRAKVUF Sandbox, or the slots have more than one profile.
    """
    for slot in settings.slots:
        if commands.vm_id(slot) is None:
            raise SettingsError(
                f"[slots] {slot}: with the engine drakvuf a slot is a VM of DRAKVUF Sandbox: vm-1 to vm-255"
            )
    if len(profiles := sorted(set(settings.slots.values()))) > 1:
        raise SettingsError(
            f"[slots] names the profiles {', '.join(profiles)}: DRAKVUF Sandbox has one snapshot on a host, "
            "so all of its VMs are of one profile; give each profile a host of its own"
        )
    return Drakvuf(settings)
