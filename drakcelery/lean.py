"""Starts processes without what libraries import only because it is there, or in case that it is wanted.

Measured with CPython 3.11: of the processor time that ingress and workers took for their imports, a quarter
went into modules of which they use nothing. What is left out is imported as usual by whoever wants it later.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader

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


@contextlib.contextmanager
def deferring(package: ModuleType, module: str) -> Iterator[None]:
    """Let *package*, which is imported within the block, import its *module* only once a name is asked for
    that it has from it."""
    stand_in = sys.modules[module] = _StandIn(module)
    try:
        yield
    finally:
        del sys.modules[module]
    names = {name for name, value in vars(package).items() if value is stand_in}
    for name in names:
        delattr(package, name)

    def later(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(module), name)

    package.__getattr__ = later  # type: ignore[method-assign] # PEP 562


class _Loader:
    """Loads a library of :data:`UNUSED` or :data:`DEFERRED` as another loader does."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader  # nobody else is to see this one
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        name = module.__name__
        with without(*UNUSED[name]) if name in UNUSED else deferring(module, DEFERRED[name]):
            self._loader.exec_module(module)


class _Finder:
    """Finds these libraries where Python does."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in UNUSED and fullname not in DEFERRED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment] # all that is asked of one
        return spec


def start() -> None:
    """Let this process import the libraries of :data:`UNUSED` and :data:`DEFERRED` so, whenever it does.

    For the first line of a program: what is imported already stays as it is.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
