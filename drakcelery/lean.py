"""Starts processes without what libraries import only because it is there, or in case that it is wanted.

Measured with CPython 3.11: of the processor time that ingress and workers took for their imports, a quarter
went into modules of which they use nothing. What is left out is imported as usual by whoever wants it later.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
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


_ours = threading.local()
"""``hidden``: what no import of this thread finds just now."""


@contextlib.contextmanager
def without(*names: str) -> Iterator[None]:
    """Let imports of this thread within the block find no module of these *names*, unless they are imported
    already."""
    before = _hidden()
    _ours.hidden = before | set(names)
    try:
        yield
    finally:
        _ours.hidden = before


def _hidden() -> frozenset[str]:
    found: frozenset[str] = getattr(_ours, "hidden", frozenset())
    return found


class _StandIn(ModuleType):
    """Has every name that the package imports from it. Another thread gets the module itself."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._thread: int | None = threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self._thread == threading.get_ident():
            return self
        importlib.import_module(self.__name__.rpartition(".")[0])  # waits for its end
        return getattr(importlib.import_module(self.__name__), name)

    def retire(self) -> None:
        """From now on every thread gets the module."""
        self._thread = None


@contextlib.contextmanager
def deferring(package: ModuleType, module: str) -> Iterator[None]:
    """Let *package*, which is imported within the block, import its *module* only once a name is asked for
    that it would have by that."""
    if module in sys.modules:  # the package is loaded again
        yield
        return
    stand_in = sys.modules[module] = _StandIn(module)
    try:
        yield
    finally:
        del sys.modules[module]
        stand_in.retire()
    names = {name for name, value in vars(package).items() if value is stand_in}
    for name in names:
        delattr(package, name)

    def later(name: str) -> Any:
        if not name.startswith("__"):
            loaded = importlib.import_module(module)
            if name in names:
                return getattr(loaded, name)
            if name in vars(package):  # a module that came along
                return vars(package)[name]
        raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")

    package.__getattr__ = later  # type: ignore[method-assign] # PEP 562


class _Loader:
    """Loads a library of :data:`UNUSED` or :data:`DEFERRED` as another loader does."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader  # nobody else is to see this one
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        name = module.__name__
        try:
            with without(*UNUSED[name]) if name in UNUSED else deferring(module, DEFERRED[name]):
                self._loader.exec_module(module)
        except Exception:  # noqa: BLE001 another version of it, or what is installed beside it, needs that
            self._loader.exec_module(module)


class _Finder:
    """Finds these libraries where Python does."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in _hidden():
            raise ModuleNotFoundError(f"{fullname} is left out", name=fullname)
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
    finders: list[object] = list(sys.meta_path)
    if any(isinstance(finder, _Finder) for finder in finders):
        return
    # Whoever watches imports, as tools that measure programs do, stays before it
    sys.meta_path.insert(finders.index(PathFinder) if PathFinder in finders else 0, _Finder())
