"""Whether an analysis is watched for news: as its task asks, or else as the settings say."""

from __future__ import annotations

from typing import get_args

from drakcelery.karton.startup_fields import Get, wrong
from drakcelery.model.news import WatchMode, WatchPlan, is_of_share
from drakcelery.settings import WatchSection

FIELD = "watch"
MODES: tuple[WatchMode, ...] = get_args(WatchMode)


def plan(get: Get, section: WatchSection, *, uid: str, quality: str) -> WatchPlan | None:
    """How the analysis *uid* is watched; None if it is not.

    A task's own wish counts whether the settings watch others or not; the numbers are always theirs. Only a
    task without a timeout of its own may take longer. *get* gives a field of the payload, or else a header.
    Raises :class:`BadTask`.
    """
    mode = _wish(get) or section.mode_of(quality)
    if mode == "off":
        return None
    is_active = mode == "active"
    may_extend = is_active and section.extend_to and get("timeout") is None
    return WatchPlan(
        mode=mode,
        min_seconds=section.min_seconds,
        quiet_seconds=section.quiet_seconds,
        extend_to=section.extend_to if may_extend else None,
        measures=is_active and is_of_share(uid, section.measure_share),
    )


def _wish(get: Get) -> WatchMode | None:
    wanted = get(FIELD)
    if wanted is None:
        return None
    for mode in MODES:
        if wanted == mode:
            return mode
    raise wrong(f"'{FIELD}'", wanted, f"one of {', '.join(MODES)}")
