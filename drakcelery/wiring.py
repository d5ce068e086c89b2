"""What is built from settings alone: the ledger, its inbox and the storage; and this process' settings."""

from __future__ import annotations

import functools

from drakcelery import settings
from drakcelery.ledger import Ledger, connect
from drakcelery.ledger.inbox import Intake
from drakcelery.storage import Storage

_given: settings.Settings | None = None


def use(config: settings.Settings) -> None:
    """Let this process' app use *config*; to be called before anything asks for its configuration."""
    global _given
    _given = config


@functools.cache
def current_settings() -> settings.Settings:
    """This process' settings: what :func:`use` gave, else what :func:`drakcelery.settings.find` finds."""
    return _given or settings.load(settings.find())


def make_ledger(config: settings.Settings, *, name: str | None = None, patient: bool = False) -> Ledger:
    """A ledger on Karton's Redis; *name* and *patient* as in :func:`drakcelery.ledger.connect`."""
    return Ledger(
        connect(config.redis, name=name, patient=patient, pause=config.drakcelery.times.retry),
        identity=config.drakrun.identity,
        record_ttl=config.drakcelery.record_ttl,
        times=config.drakcelery.times,
    )


def make_intake(config: settings.Settings, ledger: Ledger) -> Intake:
    """The intake beside *ledger*."""
    return Intake(ledger.redis, identity=config.drakrun.identity, record_ttl=config.drakcelery.record_ttl)


def make_storage(config: settings.Settings) -> Storage:
    """A storage on Karton's S3."""
    return Storage.connect(config.s3, threads=config.drakcelery.upload_threads)
