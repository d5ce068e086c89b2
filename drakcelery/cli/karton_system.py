"""The process of karton-system, for a machine that has no Karton yet."""

from __future__ import annotations

import logging

from karton.system import SystemService

from drakcelery.errors import SettingsError
from drakcelery.karton.backend import complete
from drakcelery.karton.submit import karton_config
from drakcelery.settings import Settings
from drakcelery.telemetry import logs


def run_system(settings: Settings) -> None:
    """karton-system on our settings. Makes Karton's bucket."""
    if settings.drakmon.system_disable:
        raise SettingsError(
            "[drakmon] system_disable=1: a karton-system runs elsewhere, this one would be a second"
        )
    logs.start(settings)
    service = _System(karton_config(settings))
    complete(service.backend, settings.s3)
    service.ensure_bucket_exists(create=True)
    service.loop()


class _System(SystemService):  # type: ignore[misc] # karton.system ships no types
    """karton-system, with log lines like our other processes; Karton's own log (``karton.log``) gets them as
    before."""

    def setup_logger(self, level: str | int | None = None) -> None:
        """Called by ``loop``: log through our handlers, not through Karton's own handler for standard
        error."""
        super().setup_logger(level)
        self.log.handlers[:] = [self.log_handler] if self.log_handler in self.log.handlers else []
        self.log.setLevel(logging.NOTSET)  # [drakcelery] log_level counts
        self.log.propagate = True
