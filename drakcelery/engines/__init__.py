"""What detonates a sample: the protocol that every engine keeps, and the engines by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import structlog

from drakcelery.errors import EngineError, SettingsError
from drakcelery.model.analysis import Outcome, Snapshot, StartMethod
from drakcelery.model.news import WatchPlan

if TYPE_CHECKING:
    from drakcelery.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Detonation:
    """One attempt at one sample, as an engine sees it.

    The engine writes below ``raw`` only, and what it writes is fixed: ``drakmon.log`` (one JSON object
    a line, key ``Plugin`` first), ``dumps/<base>_<hash>``, ``dump.pcap``. Each may be missing.
    """

    uid: str
    slot: str
    sample: Path
    """The sample under the name it has in the guest, alone in its directory."""
    extension: str
    magic: str
    start_command: str
    """``%f`` is the path in the guest."""
    plugins: tuple[str, ...]
    timeout: int
    """Seconds to watch."""
    raw: Path
    """Directory for the engine's output; exists."""
    hooks: Path | None
    """Hook list that replaces the engine's own."""
    start_method: StartMethod | None = None
    """As the task asked, like the next two; None: as the engine chooses."""
    guest_working_directory: str | None = None
    net_enable: bool | None = None
    watch: WatchPlan | None = None
    """When the run may end before or after the timeout; None: with it."""

    @property
    def longest(self) -> int:
        """The seconds after which the run ends in any case."""
        return self.timeout if self.watch is None else self.watch.longest(self.timeout)

    @property
    def log(self) -> Path:
        """DRAKVUF's log: one JSON object a line."""
        return self.raw / "drakmon.log"

    @property
    def dumps(self) -> Path:
        """Directory of memory dumps named ``<base>_<hash>``."""
        return self.raw / "dumps"

    @property
    def pcap(self) -> Path:
        """Recorded network traffic."""
        return self.raw / "dump.pcap"


class Engine(Protocol):
    """Owns the guests of a host. One object serves all slots; nothing is kept between calls.

    ``prepare`` and ``run`` of one slot are called one after the other, possibly in different processes.
    """

    def version(self) -> str:
        """Name and version, as it goes into ``metadata.engine``: ``emulator speakeasy-1.5.11``."""

    def lacks(self) -> Sequence[str]:
        """What this machine lacks to confine a guest as safely as the engine can; logged once, when a worker
        starts.

        Each is a sentence without its full stop that also says what to do.
        Raises :class:`~drakcelery.errors.EngineError` if that cannot be found out.
        """

    def obstacle(self, *, fresh: bool = False) -> str | None:
        """Why no guest may run on this host now, in a sentence with the fix; None if one may.

        Without *fresh* it returns at once what is known. With *fresh* it looks, which a thread of the vm
        worker's main process does every few seconds. Never raises.
        """

    def snapshot_id(self) -> str | None:
        """An identifier of the snapshot of this host's VMs, found out cheaply.

        None if there is none.

        Raises:
            EngineError: it cannot be read.
            OSError: likewise.
        """

    def attend(self) -> None:
        """Start what should live as long as a vm worker: called once, in its main process; returns at
        once."""

    def accept(self, job: Detonation) -> None:
        """Refuse a sample that can never run here. Raises :class:`~drakcelery.errors.UnsupportedSample`."""

    def prepare(self, job: Detonation) -> Snapshot:
        """Restore the slot's VM. Raises :class:`~drakcelery.errors.EngineError`."""

    def run(self, job: Detonation) -> Outcome:
        """Detonate, watch for ``job.timeout`` seconds at most, stop. The guest may still be there afterwards.

        With ``job.watch`` the run may end earlier or later, at most after ``job.longest`` seconds.

        Nothing writes to ``job.raw`` any more when it returns (:mod:`drakcelery.engines.evidence` relies on
        that).

        Raises :class:`~drakcelery.errors.EngineError` if the infrastructure failed; a sample that
        does not start, crashes or never ends is an :class:`~drakcelery.model.analysis.Outcome`.
        """

    def destroy(self, slot: str) -> None:
        """End whatever runs in the slot, if anything does. May be called at any time, from any process.

        Raises :class:`~drakcelery.errors.EngineError` if the guest will not die.
        """


def end_guest(engine: Engine, slot: str) -> bool:
    """Destroy the slot's guest; False if it survives, for whatever reason. The reason is logged."""
    try:
        engine.destroy(slot)
    except EngineError as error:
        log.error("guest_survives", slot=slot, error=str(error))
    except Exception:
        # A bug in an engine must not take down the threads that look after the slots
        log.exception("guest_survives", slot=slot)
    else:
        return True
    return False


_FACTORIES = {
    "drakvuf": "drakcelery.engines.drakvuf.engine:create",
    "emulator": "drakcelery.engines.emulator:create",
    "replay": "drakcelery.engines.replay:create",
}


def create(name: str, settings: Settings) -> Engine:
    """The engine called *name*. Raises :class:`~drakcelery.errors.SettingsError` for an unknown one."""
    if name not in _FACTORIES:
        known = ", ".join(sorted(_FACTORIES))
        raise SettingsError(f"[drakcelery] engine={name}: this version has the engines {known}")
    module, _, factory = _FACTORIES[name].partition(":")
    make = cast("Callable[[Settings], Engine]", getattr(importlib.import_module(module), factory))
    return make(settings)
