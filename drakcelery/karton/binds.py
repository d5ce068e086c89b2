"""Who gets a task in Karton: the consumers' binds, as anybody who reaches Redis may have written them.

Facts about Karton 5.9 are from ``karton.core.backend.KartonBackendBase.unserialize_bind`` and
``karton.core.query``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from karton.core.backend import KartonBackend
from karton.core.query import QueryError
from karton.core.task import Task

from drakcelery.errors import StackError

_ODD = (QueryError, TypeError, AttributeError, NotImplementedError, ArithmeticError, RecursionError)
"""What Karton's query raises for filters, or headers, that it has no answer for."""


def filters_by_identity(backend: KartonBackend) -> Mapping[str, Any]:
    """What each consumer wants. Raises :class:`~drakcelery.errors.StackError` if Karton cannot read one."""
    try:
        return {bind.identity: bind.filters for bind in backend.get_binds()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise StackError(
            "Karton's list of consumers (its binds) in Redis has an entry that Karton cannot read "
            f"either, so it sends nobody anything: {error!r:.200}"
        ) from None


def would_get(task: Task, filters: Any) -> bool:
    """Whether a consumer with *filters* gets *task*; with such that are none it gets nothing."""
    try:
        return bool(task.matches_filters(filters))
    except _ODD:
        return False
