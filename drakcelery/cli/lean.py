"""A ledger for commands that a person waits for, without what libraries import only because it is there."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from drakcelery.lean import without

if TYPE_CHECKING:
    from drakcelery.ledger import Ledger
    from drakcelery.settings import Settings

UNUSED = ("opentelemetry", "rich")
"""What redis-py imports for metrics that only a call of its own would turn on, and structlog, with
Pygments, for tracebacks in colour."""
KARTON = "karton.core"
"""What imports boto3, which Karton's tasks, in a module of their own, have no use for."""


def defer(name: str) -> None:
    """Have a package within another run its own code only once something is wanted of it that is no module.

    Its modules can be imported without that. Nothing but the time of it changes for whoever wants something.
    """
    parent, _, own = name.rpartition(".")
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    package, run = importlib.util.module_from_spec(spec), spec.loader.exec_module

    def wanted(what: str) -> Any:
        if importlib.util.find_spec(f"{name}.{what}"):
            raise AttributeError(what)  # upon which Python imports the module
        del package.__dict__["__getattr__"]
        run(package)
        return getattr(package, what)

    package.__dict__["__getattr__"] = wanted
    sys.modules[name] = package
    setattr(sys.modules[parent], own, package)


def ledger_of(ours: Settings, *, hurried: bool = False) -> Ledger:
    """As :func:`drakcelery.wiring.make_ledger`; *hurried*: somebody waits at the prompt.

    To be called before anything else imports redis-py or structlog.
    """
    with without(*UNUSED):
        from drakcelery.ledger import Patience
        from drakcelery.wiring import make_ledger
    return make_ledger(ours, patience=Patience.NONE if hurried else Patience.SHORT)
