"""The spool: the disk space that all workspaces of this host occupy, and whether there is room for another.

Slots fill it and the io worker empties it. If the io worker falls behind, the host takes no new sample until
it has caught up. Work in hand goes on in any case.
"""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

import structlog

from drakcelery import safe_files
from drakcelery.host.workspace import Workspace
from drakcelery.settings.sections import DrakcelerySection
from drakcelery.telemetry import metrics

log = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0
"""Seconds between two measurements: a run with many dumps has thousands of files."""
BUDGET_SECONDS = 0.02
"""Seconds that a measurement may take; the remaining workspaces wait for the next. The first one measures
all."""
_BLOCK = 512
"""Bytes of a block in ``st_blocks``."""


class Spool:
    """The workspaces below ``state_dir``, for one thread that asks often."""

    def __init__(self, settings: DrakcelerySection) -> None:
        self._state_dir = settings.state_dir
        self._min_free_space = settings.min_free_space
        self._limit = settings.spool_limit
        self._sizes: dict[Path, int] = {}
        """In the order in which they were measured."""
        self._measured: float | None = None
        self._had: dict[str, bool] = {}

    def has_room(self) -> bool:
        """Whether the host may take another sample; if not, the log and the metrics say why."""
        self._measure()
        used, free = sum(self._sizes.values()), shutil.disk_usage(self._state_dir).free
        metrics.spool_measured(used)
        on_disk = self._note("disk", free >= self._min_free_space, free=free)
        in_spool = self._note("spool", not self._limit or used < self._limit, used=used)
        return on_disk and in_spool

    def _note(self, reason: str, enough: bool, **figures: int) -> bool:
        if enough != self._had.get(reason, True):
            log.log(
                logging.INFO if enough else logging.ERROR,
                "disk_space",
                reason=reason,
                enough=enough,
                **figures,
            )
        self._had[reason] = enough
        metrics.intake_throttled(reason, not enough)
        return enough

    def _measure(self) -> None:
        """Measure some workspaces: new ones first, then those whose measurement is oldest."""
        begin = time.monotonic()
        if self._measured is not None and begin - self._measured < LOOK_SECONDS:
            return
        budget = BUDGET_SECONDS if self._measured is not None else float("inf")
        self._measured = begin
        there = [workspace.root for workspace, _, _ in Workspace.all(self._state_dir)]
        known = [root for root in self._sizes if root in frozenset(there)]
        new = [root for root in there if root not in self._sizes]
        sizes = {root: self._sizes[root] for root in known}
        for root in (*new, *known):
            sizes.pop(root, None)
            sizes[root] = _size(root)
            if time.monotonic() - begin > budget:
                break
        self._sizes = sizes


def _size(directory: Path) -> int:
    """The disk space that the files of a directory occupy; files that are gone meanwhile count as 0."""
    try:
        return sum(status.st_blocks for _, status in safe_files.walk(directory)) * _BLOCK
    except OSError:  # it was removed, or is not what its name says
        return 0
