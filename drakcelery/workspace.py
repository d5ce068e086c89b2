"""The workspace: a directory on the host that holds one attempt's files until they are uploaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from drakcelery.analysis import Analysis, Artifact, Manifest, Outcome, Value
from drakcelery.engines import Detonation
from drakcelery.errors import InfrastructureError

ValueT = TypeVar("ValueT", bound=Value)


class Prepared(Value):
    """What prepare found out about the sample; run and collect go on from it."""

    start_command: str
    """``%f`` is the path in the guest."""
    sample_sha256: str


class Uploaded(Value):
    """What was put into S3, and checked, while collect was at work."""

    bucket: str
    objects: tuple[Artifact, ...]


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Paths of one attempt, all below *root*. The engine writes to ``raw``, collect to ``out``."""

    root: Path

    @classmethod
    def of(cls, state_dir: Path, uid: str, attempt: int) -> Workspace:
        """Where an attempt's files are. *uid* was checked at ingress: it is a plain name."""
        return cls(root=state_dir / "workspaces" / f"{uid}.{attempt}")

    @classmethod
    def all(cls, state_dir: Path) -> Iterator[tuple[Workspace, str, int]]:
        """Every workspace there is, with the uid and attempt that it belongs to."""
        parent = state_dir / "workspaces"
        for path in sorted(parent.iterdir()) if parent.is_dir() else ():
            uid, _, attempt = path.name.rpartition(".")
            if uid and attempt.isdecimal():
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
        return self.root / "drakrun.log"

    @property
    def hooks(self) -> Path:
        """The task's own hook list, where it brought one."""
        return self.root / "hooks.txt"

    def create(self) -> None:
        """Begin anew, whatever an earlier delivery of the same message left here."""
        self.remove()
        for directory in (self.root, self.root / "sample", self.raw, self.out):
            directory.mkdir(parents=True, mode=0o770)

    def remove(self) -> None:
        """Delete everything; nothing there is fine."""
        shutil.rmtree(self.root, ignore_errors=False) if self.root.exists() else None

    def sample(self, analysis: Analysis) -> Path:
        """The sample, under the name it has in the guest."""
        return self.root / "sample" / f"{analysis.file_name}.{analysis.extension}"

    def save(self, value: Value) -> None:
        """Keep *value* for a later stage, whole or not at all."""
        target = self._file(type(value))
        temporary = target.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(value.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)

    def has(self, kind: type[Value]) -> bool:
        """Whether an earlier stage has saved a value of this kind."""
        return self._file(kind).is_file()

    def load(self, kind: type[ValueT]) -> ValueT:
        """What an earlier stage saved. Raises :class:`InfrastructureError` where it is gone."""
        path = self._file(kind)
        try:
            return kind.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InfrastructureError(f"workspace {self.root}: {path.name} cannot be read: {error}") from None

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
        )
