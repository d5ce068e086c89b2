"""The workspace: a directory on the host that holds one attempt's files until they are uploaded."""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from drakcelery import safe_files
from drakcelery.engines import Detonation, evidence
from drakcelery.errors import InfrastructureError
from drakcelery.host import state_dir as directories
from drakcelery.model.analysis import Analysis, Outcome, Value
from drakcelery.model.manifest import Artifact, Manifest
from drakcelery.model.names import AttemptId, is_uid

ValueT = TypeVar("ValueT", bound=Value)

LOG_NAME = "drakrun.log"
"""What our own code logged about an attempt."""
_NUMBER = re.compile(r"[0-9]{1,18}")
_SHA256_LENGTH = 64
"""In hex."""
MOST_SAVED = 256 * 1024**2
"""Most bytes of a value that is kept for a later stage; the manifest of 100,000 dumps takes a tenth of
that."""


class Prepared(Value):
    """What prepare found out about the sample; run and collect go on from it."""

    start_command: str
    """``%f`` is the path in the guest."""
    sample_sha256: str
    restore_seconds: float | None = None
    """Seconds that the engine took to restore the VM."""
    snapshot_id: str | None = None
    """What the host reports of the snapshot; None if the engine has none, or it could not be read."""


class Uploaded(Value):
    """What was put into S3, and checked, while collect was at work."""

    bucket: str
    objects: tuple[Artifact, ...]


@dataclass(frozen=True, kw_only=True)
class Prefetched:
    """Samples that were fetched before their attempts begin (:mod:`drakcelery.worker.prefetch`).

    A file is called ``<uid>.<attempt>.<sha256>``. It gets that name when it is complete and checked, and
    loses it as it moves into its attempt's workspace; both are atomic.
    """

    root: Path

    @classmethod
    def of(cls, state_dir: Path) -> Prefetched:
        """Where they are on this host."""
        return cls(root=state_dir / "ahead")

    def clear(self) -> None:
        """Remove what a worker that died left here."""
        safe_files.remove_tree(self.root)
        self.root.mkdir(mode=directories.PRIVATE)

    def all(self) -> dict[AttemptId, Path]:
        """The complete samples, by uid and attempt."""
        found = {}
        for path in self.root.iterdir() if self.root.is_dir() else ():
            uid, attempt, sha256 = (*path.name.rsplit(".", 2), "", "")[:3]
            if is_uid(uid) and _NUMBER.fullmatch(attempt) and len(sha256) == _SHA256_LENGTH:
                found[uid, int(attempt)] = path
        return found

    def part(self) -> Path:
        """Where a sample is until it is complete and checked."""
        return self.root / f"{uuid.uuid4().hex}.part"

    def add(self, part: Path, uid: str, attempt: int, sha256: str) -> None:
        """Give a sample that is complete and checked its final name."""
        part.replace(self.root / f"{uid}.{attempt}.{sha256}")

    def remove(self, attempts: Collection[AttemptId]) -> None:
        """Remove samples that are not wanted any more."""
        for attempt, path in self.all().items():
            if attempt in attempts:
                safe_files.remove_tree(path)

    def move(self, uid: str, attempt: int, target: Path) -> str | None:
        """Move a sample to *target*; its sha256, or None if it is not here."""
        path = self.all().get((uid, attempt))
        if path is None or not safe_files.is_regular(path):
            return None
        try:
            path.rename(target)
        except OSError:  # it was removed just now, or the workspaces are on a disk of their own
            return None
        return path.name.rpartition(".")[2]


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Paths of one attempt, all below *root*. The engine writes to ``raw``, collect to ``out``.

    Until the run is over it is closed to all but the vm worker's user; :meth:`open_to_io` opens it to the io
    worker's group, and from then on the vm worker trusts nothing in it (:mod:`drakcelery.host.state_dir`).
    """

    root: Path

    @classmethod
    def of(cls, state_dir: Path, uid: str, attempt: int) -> Workspace:
        """Where an attempt's files are. *uid* was checked at ingress: it is a plain name."""
        return cls(root=directories.workspaces(state_dir) / f"{uid}.{attempt}")

    @classmethod
    def all(cls, state_dir: Path) -> Iterator[tuple[Workspace, str, int]]:
        """Every workspace there is, with the uid and attempt that it belongs to.

        Anything else there is not ours.
        """
        parent = directories.workspaces(state_dir)
        for path in sorted(parent.iterdir()) if parent.is_dir() else ():
            uid, _, attempt = path.name.rpartition(".")
            if is_uid(uid) and _NUMBER.fullmatch(attempt):
                yield cls(root=path), uid, int(attempt)

    @property
    def raw(self) -> Path:
        """The engine's output."""
        return self.root / "raw"

    @property
    def out(self) -> Path:
        """What will be uploaded."""
        return self.root / "out"

    @property
    def log(self) -> Path:
        """What our own code logged about this attempt."""
        return self.root / LOG_NAME

    @property
    def hooks(self) -> Path:
        """The task's own hook list, if it brought one."""
        return self.root / "hooks.txt"

    def create(self) -> None:
        """Make it anew, without what an earlier delivery of the same message left here."""
        self.remove()
        for directory in (self.root, self.root / "sample", self.raw, self.out):
            directory.mkdir(parents=True, mode=directories.PRIVATE)

    def open_to_io(self) -> None:
        """The run is over: open the files to the io worker. Doing it twice does no harm.

        Raises :class:`InfrastructureError` if the disk fails.
        """
        try:
            safe_files.share(self.root)
        except OSError as error:
            raise InfrastructureError(f"workspace {self.root}: cannot be handed over: {error}") from error

    def remove(self) -> None:
        """Delete everything. It may be gone already, or be deleted by another process at the same time."""
        safe_files.remove_tree(self.root)

    def sample(self, analysis: Analysis) -> Path:
        """The sample, under the name it has in the guest."""
        return self.root / "sample" / f"{analysis.file_name}.{analysis.extension}"

    def save(self, value: Value, *, durable: bool = True) -> None:
        """Keep *value* for a later stage, whole or not at all; *durable*: even if the host goes down.

        What only matters while a guest runs need not be durable: it goes down with the host. Waiting for the
        disk takes seconds on a host that writes dumps, and a slot is held meanwhile.
        """
        safe_files.replace(self._file(type(value)), value.model_dump_json().encode(), durable=durable)

    def has(self, kind: type[Value]) -> bool:
        """Whether an earlier stage has saved a value of this kind."""
        return safe_files.is_regular(self._file(kind))

    def load(self, kind: type[ValueT]) -> ValueT:
        """What an earlier stage saved. Raises :class:`InfrastructureError` if it is gone."""
        path = self._file(kind)
        try:
            return kind.model_validate_json(safe_files.read(path, most=MOST_SAVED))
        except (OSError, ValueError) as error:
            raise InfrastructureError(f"workspace {self.root}: {path.name} cannot be read: {error}") from None

    def lost(self) -> str | None:
        """What is wrong with a run that was done here, in words; None if it is whole, or was not done."""
        if not self.has(Outcome):
            return None
        try:
            outcome = self.load(Outcome)
            if outcome.raw is None:
                return None
            what = evidence.difference(outcome.raw, evidence.survey(self.raw))
        except (InfrastructureError, OSError) as error:
            return str(error)
        if what is None:
            return None
        if outcome.boot_id == evidence.boot_id():
            return f"what the run had recorded is not what it was: {what}"
        return f"what the run had recorded was lost with the host, which went down after the run: {what}"

    def run_is_whole(self) -> bool:
        """Whether a run is done here, and all that it left is still there."""
        return self.has(Outcome) and self.lost() is None

    def _file(self, kind: type[Value]) -> Path:
        names = {
            Prepared: "prepared.json",
            Outcome: "outcome.json",
            Uploaded: "uploaded.json",
            Manifest: "manifest.json",
        }
        return self.root / names[kind]

    def detonation(self, analysis: Analysis, slot: str, *, start_command: str) -> Detonation:
        """The job as the engine sees it."""
        return Detonation(
            uid=analysis.uid,
            slot=slot,
            sample=self.sample(analysis),
            extension=analysis.extension,
            magic=analysis.magic,
            start_command=start_command,
            plugins=analysis.plugins,
            timeout=analysis.timeout,
            raw=self.raw,
            hooks=self.hooks if analysis.custom_hooks else None,
            start_method=analysis.start_method,
            guest_working_directory=analysis.guest_working_directory,
            net_enable=analysis.net_enable,
            watch=analysis.watch,
        )
