"""What karton-system routes to us, and whether it still does."""

from __future__ import annotations

import structlog
from karton.core.__version__ import __version__ as karton_version
from karton.core.backend import KartonBackendBase, KartonBind

from drakcelery import __version__
from drakcelery.errors import (
    SettingsError,
)
from drakcelery.ledger import Ledger
from drakcelery.settings import Settings

log = structlog.get_logger(__name__)


def bind_of(settings: Settings) -> KartonBind:
    """What karton-system routes to us."""
    drakrun = settings.drakrun
    filters = [*drakrun.filters, *(drakrun.test_filters if drakrun.sample_testing else ())]
    return KartonBind(
        identity=drakrun.identity,
        info="drakcelery: runs recognized samples in DRAKVUF",
        version=karton_version,
        persistent=True,
        filters=[dict(one) for one in filters],
        service_version=__version__,
        is_async=False,
    )


def register(ledger: Ledger, settings: Settings, bind: KartonBind) -> None:
    """Tell karton-system what to route to us."""
    serialized = KartonBackendBase.serialize_bind(bind)
    ledger.bind(serialized)
    log.info("bound", identity=bind.identity, filters=bind.filters)
    for notice in settings.without_effect():
        log.warning("setting_without_effect", notice=notice)


def is_bound(ledger: Ledger, bind: KartonBind) -> bool:
    """Whether our bind is still in force. Karton's rule: an instance whose bind was replaced exits, since it
    would take the wrong tasks."""
    now = ledger.bound()
    if now == KartonBackendBase.serialize_bind(bind):
        return _is_the_deployment(ledger)
    log.error("bind_replaced", identity=bind.identity, now=now)
    return False


def _is_the_deployment(ledger: Ledger) -> bool:
    """Show life; False if a deployment with another identity is at work on this Redis by now."""
    try:
        ledger.deployment.claim()
    except SettingsError as error:
        log.error("other_deployment", why=str(error))
        return False
    return True
