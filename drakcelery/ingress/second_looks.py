"""Whether a task that says that it is a second look was granted one: anybody may write a task."""

from __future__ import annotations

from drakcelery.errors import BadTask
from drakcelery.ledger import Ledger
from drakcelery.model.analysis import Analysis


def require_granted(ledger: Ledger, analysis: Analysis) -> None:
    """Raise :class:`BadTask` for a second look that nobody granted.

    It would be shown what the first one has, which may be for others' eyes only.
    """
    if analysis.variant_of is not None and not ledger.second_looks.is_granted(analysis):
        raise BadTask(
            f"payload 'variant_of' is {analysis.variant_of!r}, but no second look {analysis.uid!r} at it was "
            "granted, or that was long ago: leave the field out"
        )
