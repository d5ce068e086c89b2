"""What a data directory keeps from one start to the next: ports and credentials."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from pydantic import ConfigDict, Field, SecretStr, ValidationError, field_serializer

from drakcelery.embedded import ports
from drakcelery.errors import StackError
from drakcelery.model.analysis import Value

WEED_PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
    "admin.port",
)
"""The options of ``weed mini`` that take a port. ``admin.port.grpc`` is not among them: the maintenance
worker looks for it 10000 above ``admin.port``, whatever was given (SeaweedFS 4.48)."""

PORTS = ("valkey", "flower", *WEED_PORTS)


def _secret() -> SecretStr:
    return SecretStr(secrets.token_urlsafe(24))


class Plan(Value):
    """Ports and credentials of one data directory."""

    model_config = ConfigDict(frozen=True, extra="forbid")  # what is strange in there was not written by us

    ports: dict[str, int]
    valkey_password: SecretStr = Field(default_factory=_secret)
    s3_access_key: str = Field(default_factory=lambda: secrets.token_hex(10))
    s3_secret_key: SecretStr = Field(default_factory=_secret)

    @field_serializer("valkey_password", "s3_secret_key", when_used="json")
    def _in_clear(self, value: SecretStr) -> str:
        """Secrets are written to the plan's file (mode 0600), and only there."""
        return value.get_secret_value()


def refresh(path: Path) -> Plan:
    """The plan in *path* with each port that is taken by now replaced, written back; or a new plan.

    Raises:
        StackError: the file is not a plan.
    """
    plan = _read(path) if path.exists() else Plan(ports={})
    plan = plan.model_copy(update={"ports": ports.assign(PORTS, kept=plan.ports)})
    write_private(path, plan.model_dump_json(indent=2))
    return plan


def _read(path: Path) -> Plan:
    try:
        return Plan.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError):
        raise StackError(
            f"{path} is damaged: it holds the ports and credentials of the embedded stack. Restore it, or "
            "choose another --data-dir."
        ) from None


def write_private(path: Path, text: str) -> None:
    """Write *text* to *path* in one step, readable by this user only."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
