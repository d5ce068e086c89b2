"""A ledger for commands that a person waits for, without what libraries import only because it is there."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drakcelery.ledger import Ledger
    from drakcelery.settings import Settings

UNUSED = ("opentelemetry",)
"""What redis-py imports for metrics that only a call of its own would turn on: 0.05 s of processor time."""


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


def ledger_of(ours: Settings) -> Ledger:
    """As :func:`drakcelery.wiring.make_ledger`. To be called before anything else imports redis-py."""
    with without(*UNUSED):
        from drakcelery.wiring import make_ledger
    return make_ledger(ours)
