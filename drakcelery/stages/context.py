"""The host context: what a stage works with on its host."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

from drakcelery.engines import Engine
from drakcelery.host.drift import SnapshotWatch
from drakcelery.host.identity import this_machine
from drakcelery.host.readiness import Readiness
from drakcelery.host.slots import SlotTable
from drakcelery.host.workspace import Workspace
from drakcelery.ledger import Ledger
from drakcelery.model.analysis import Step
from drakcelery.model.machine import Machine
from drakcelery.settings import Settings
from drakcelery.stages.heartbeat import HeartbeatThread
from drakcelery.storage import Storage


@dataclass(frozen=True, kw_only=True)
class HostContext:
    """What the stages work with on a host."""

    settings: Settings
    ledger: Ledger
    slots: SlotTable
    storage: Storage
    engine: Engine
    heartbeats: HeartbeatThread = field(default_factory=HeartbeatThread)

    @property
    def host(self) -> str:
        """This host's name."""
        return self.settings.drakcelery.host

    @functools.cached_property
    def machine(self) -> Machine:
        """This machine. Raises :class:`~drakcelery.errors.SettingsError` if its state_dir does not exist."""
        return this_machine(self.settings.drakcelery.state_dir)

    @functools.cached_property
    def readiness(self) -> Readiness:
        """Whether this host takes samples at all, for its vm worker."""
        return Readiness(self.settings.drakcelery, obstacle=self.engine.obstacle)

    @functools.cached_property
    def snapshots(self) -> SnapshotWatch:
        """Whether the snapshot of this host's VMs is still the same, for its vm worker."""
        return SnapshotWatch(self.engine.snapshot_id)

    def workspace(self, step: Step) -> Workspace:
        """Where the attempt's files are on this host."""
        return Workspace.of(self.settings.drakcelery.state_dir, step.uid, step.attempt)
