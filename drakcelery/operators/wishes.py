"""Whether samples can be run as somebody wants, whatever sample it is."""

from __future__ import annotations

from collections.abc import Collection

from drakcelery.karton import contract
from drakcelery.karton.contract import SampleFacts
from drakcelery.karton.kept import Wishes
from drakcelery.karton.places import require_names, require_place
from drakcelery.karton.policy import Policy
from drakcelery.karton.submit import blank_task
from drakcelery.model.analysis import Place


def require_possible(wishes: Wishes, policy: Policy, places: Collection[Place]) -> None:
    """Raise :class:`BadTask` for what no sample can have.

    *places*: those that the fleet has had lately; none: nobody knows yet.
    """
    contract.read_task(blank_task(wishes), SampleFacts(size=1, magic=""), policy)
    if places:
        require_names(profile=wishes.profile, host=wishes.host, places=places)
        if wishes.profile is not None:
            require_place(Place(profile=wishes.profile, host=wishes.host), places)
