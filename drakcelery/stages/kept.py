"""Keeps what a retry needs: the sample and its task, beside the artifacts; of a failed analysis the log, too.

The sample is copied within S3, where Karton has it as long as its task is under way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import structlog
from karton.core.task import Task

from drakcelery import safe_files
from drakcelery.artifacts.metadata import METADATA
from drakcelery.errors import BadTask, StorageError, Unreadable
from drakcelery.host.workspace import LOG_NAME, Workspace
from drakcelery.karton import kept
from drakcelery.karton.destination import destination
from drakcelery.model.analysis import Analysis
from drakcelery.settings import Settings
from drakcelery.stages.context import HostContext
from drakcelery.storage import Storage

log = structlog.get_logger(__name__)


class Keeper(Protocol):
    """Who keeps something."""

    @property
    def settings(self) -> Settings:
        """The settings."""

    @property
    def storage(self) -> Storage:
        """S3."""


def is_kept(context: Keeper, analysis: Analysis) -> bool:
    """Whether its sample is to be kept. Of a test nothing is: all of it goes with its task."""
    return context.settings.drakcelery.keep_sample and not analysis.is_test


def names(context: Keeper, analysis: Analysis) -> frozenset[str]:
    """The objects that are kept beside the artifacts."""
    return frozenset({kept.TASK, *kept.sources(analysis)}) if is_kept(context, analysis) else frozenset()


def task_file(context: Keeper, analysis: Analysis, task: Task | None, out: Path) -> Mapping[str, Path]:
    """The file with the sample *task*, which is written into the directory *out*, by its name.

    None if nothing is kept. Raises :class:`OSError`.
    """
    if task is None or not is_kept(context, analysis):
        return {}
    safe_files.replace(out / kept.TASK, task.serialize().encode(), durable=False)
    return {kept.TASK: out / kept.TASK}


def copy_resources(
    context: Keeper, analysis: Analysis, bucket: str, *, check: Callable[[], None] | None = None
) -> None:
    """Copy the sample, and the hooks of its task, to the artifacts; *check* is called before each.

    What Karton does not have any more is not kept. Raises :class:`StorageError`.
    """
    for name, source in kept.sources(analysis).items() if is_kept(context, analysis) else ():
        key = f"{analysis.uid}/{name}"
        if check is not None:
            check()
        try:
            context.storage.copies.copy(source, bucket, key)
        except BadTask as error:
            log.warning("sample_not_kept", object=name, error=str(error))
            context.storage.remove(bucket, key)  # of an earlier life of the uid, perhaps


def has_log(workspace: Workspace) -> bool:
    """Whether there is a log: with a high log_level it may be empty."""
    return safe_files.is_regular(workspace.log) and workspace.log.lstat().st_size > 0


def keep_failed(context: HostContext, analysis: Analysis, workspace: Workspace) -> None:
    """Keep our own log of a failed analysis, so that people can see why it failed, and what a retry needs."""
    bucket = destination(context.settings, analysis).bucket
    try:
        files = _files_of_failed(context, analysis, workspace)
        if not files:
            return
        context.storage.ensure_bucket(bucket)
        if context.storage.holds(bucket, f"{analysis.uid}/{METADATA}"):
            log.warning("log_not_kept", error="there is a complete analysis of this uid, which is spared")
            return
        copy_resources(context, analysis, bucket)
        context.storage.upload_all(bucket, analysis.uid, files, last=min(files))
    except (StorageError, Unreadable, OSError) as error:
        log.warning("log_not_kept", error=str(error))


def _files_of_failed(context: HostContext, analysis: Analysis, workspace: Workspace) -> dict[str, Path]:
    files = {LOG_NAME: workspace.log} if has_log(workspace) else {}
    if workspace.root.is_dir():
        task = context.ledger.karton_task(analysis.task_uid)
        files |= task_file(context, analysis, task, workspace.root)
    return files
