"""Starts processes without what libraries import only because it is there, or in case that it is wanted.

Measured with CPython 3.11: of the processor time that ingress and workers took for their imports, a quarter
went into modules of which they use nothing. What is left out is imported as usual by whoever wants it later.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

UNUSED = {
    "structlog": ("rich",),  # for tracebacks that our logs do not show (telemetry.logs)
    "redis": ("opentelemetry",),  # for metrics that only a call of its own would turn on
    "kombu.serialization": ("yaml", "msgpack"),  # our messages are JSON
}
"""By library: what it does without where it is missing."""
DEFERRED = {
    "karton.core": "karton.core.karton",  # the base of services, with boto3; its tasks need neither
    "minio": "minio.minioadmin",  # the client for administrators, with all of its cryptography
}
"""By package: its module that most processes need nothing of."""


@contextlib.contextmanager
def without(*names: str) -> Iterator[None]:
    """Let imports within the block find no module of these *names*, unless they are imported already."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # None: the import fails, as documented
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


class _StandIn(ModuleType):
    """Has every name that is imported from it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self


def defer(package: str, module: str) -> None:
    """Import *package*, but its *module* only once a name is asked for that the package has from it."""
    if package in sys.modules:
        return
    stand_in = sys.modules[module] = _StandIn(module)
    try:
        imported = importlib.import_module(package)
    finally:
        del sys.modules[module]
    names = {name for name, value in vars(imported).items() if value is stand_in}
    for name in names:
        delattr(imported, name)

    def later(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(module), name)

    imported.__getattr__ = later  # type: ignore[method-assign] # PEP 562


def start(*libraries: str) -> None:
    """Import *libraries* so, of :data:`UNUSED` and :data:`DEFERRED`; all of them if none is named.

    To be called before anything else imports them, by processes that need them anyway.
    """
    for library in libraries or (*UNUSED, *DEFERRED):
        if library in DEFERRED:
            defer(library, DEFERRED[library])
            continue
        with without(*UNUSED[library]):
            importlib.import_module(library)
