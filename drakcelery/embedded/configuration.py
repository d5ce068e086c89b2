"""The configuration file of an embedded stack."""

from __future__ import annotations

import configparser
import io
import os
from collections.abc import Mapping

from drakcelery import settings
from drakcelery.embedded.plan import write_private
from drakcelery.embedded.ports import LOOPBACK
from drakcelery.embedded.services import Services
from drakcelery.errors import StackError

NAME = "drakcelery.ini"

HOST = "embedded"
"""Name of the only host of an embedded stack."""

Overrides = Mapping[str, Mapping[str, str]]
"""Values by section and key."""

_OWN_KEYS = ("redis_", "s3_", "celery_broker_url", "drakcelery_state_dir")


def write(services: Services, *, slots: Mapping[str, str] | None, overrides: Overrides) -> settings.Settings:
    """Write ``drakcelery.ini`` (mode 0600) and return the settings that the stack's processes will read.

    *slots* maps slot names to profiles (None: the default slot); *overrides* come on top.

    Raises:
        SettingsError: an override is no setting or has a wrong value.
        StackError: an override, or the environment, would point the processes at other servers.
    """
    _refuse_other_servers(overrides)
    path = services.data_dir / NAME
    sections = _own_sections(services)
    if slots is not None:
        sections["slots"] = dict(slots)
    for section, pairs in overrides.items():
        sections.setdefault(section, {}).update(pairs)
    write_private(path, _render(sections))
    config = settings.load(path)
    wanted = overrides.get("drakcelery", {}).get("engine")
    if wanted is not None and config.engine != wanted:
        raise StackError(
            f"the engine is to be {wanted}, but {settings.ENVIRONMENT_PREFIX}DRAKCELERY_ENGINE says "
            f"{config.engine}: unset it"
        )
    return config


def _own_sections(services: Services) -> dict[str, dict[str, str]]:
    plan = services.plan
    return {
        "redis": {
            "host": LOOPBACK,
            "port": str(plan.ports["valkey"]),
            "password": plan.valkey_password.get_secret_value(),
        },
        "s3": {
            "address": services.s3.address,
            "access_key": plan.s3_access_key,
            "secret_key": plan.s3_secret_key.get_secret_value(),
            "bucket": services.s3.bucket,
        },
        "drakcelery": {
            "host": HOST,
            "state_dir": str(services.data_dir / "state"),
            # Ctrl-C does not wait for guests: their analyses begin again at the next start
            "stop_seconds": "0",
            "min_free_space": str(256 * 1024**2),
        },
        "flower": {"address": LOOPBACK, "port": str(plan.ports["flower"])},
    }


def _render(sections: Overrides) -> str:
    """INI text. The reader interpolates, so a percent sign is written twice."""
    parser = configparser.RawConfigParser()
    parser.read_dict(
        {
            name: {key: value.replace("%", "%%") for key, value in pairs.items()}
            for name, pairs in sections.items()
        }
    )
    text = io.StringIO()
    text.write("# Written by drakcelery up at every start; changes here are lost.\n\n")
    parser.write(text)
    return text.getvalue()


def _refuse_other_servers(overrides: Overrides) -> None:
    given = [
        f"[{section}] {key}" for section, pairs in overrides.items() for key in pairs if _is_own(section, key)
    ]
    prefix = settings.ENVIRONMENT_PREFIX
    given += [
        name
        for name in os.environ
        if name.lower().startswith(tuple(f"{prefix.lower()}{key}" for key in _OWN_KEYS))
    ]
    if given:
        raise StackError(
            f"{', '.join(sorted(given))} is set, but the embedded stack brings its own servers and "
            "directories: unset it, or start the processes one by one instead of with up"
        )


def _is_own(section: str, key: str) -> bool:
    return f"{section}_{key}".lower().startswith(_OWN_KEYS)
