"""What an error says besides its sentence outlives the way between processes."""

from __future__ import annotations

import pickle

from drakcelery.errors import Blame, EngineError, GuestLost


def test_blame_of_an_engine_error() -> None:
    """Most errors cannot tell what is broken: then it is the slot, until the sample fails elsewhere too."""
    assert EngineError("no answer").blames is Blame.SLOT
    assert GuestLost("gone").blames is Blame.SLOT
    error = pickle.loads(pickle.dumps(EngineError("no chains", blames=Blame.HOST)))  # noqa: S301 our own
    assert (str(error), error.blames) == ("no chains", Blame.HOST)
