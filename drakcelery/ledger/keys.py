"""Every key in Karton's Redis, by name; :mod:`drakcelery.ledger.keytable` says what each is.

Karton's own names stand in :mod:`drakcelery.ledger.foreignkeys`, and a test compares them with Karton's: to
import ``karton.core`` takes 0.1 s, which the shell's completion must not cost.
"""

from __future__ import annotations

from collections.abc import Mapping

from drakcelery.ledger.foreignkeys import KARTON
from drakcelery.ledger.keytable import LEDGER
from drakcelery.model.analysis import Place, Priority

PREFIX = "drak:"
"""What each key of ours begins with."""
_BY_NAME = {key.name: key for key in (*LEDGER, *KARTON)}
FIXED: Mapping[str, str] = {
    **{key.name: key.pattern for key in (*LEDGER, *KARTON) if key.is_one},
    "karton_consumed": _BY_NAME["metrics"].of("consumed"),
    "karton_crashed": _BY_NAME["metrics"].of("crashed"),
    "karton_produced": _BY_NAME["metrics"].of("produced"),
}
"""The keys of which there is only one, by their names in scripts."""
LIVE = FIXED["live"]
DONE = FIXED["done"]
DUE = FIXED["due"]
INDEX = FIXED["index"]
INFLIGHT = FIXED["inflight"]
TURN = FIXED["turn"]
"""Set for a while by the process that reconciles, so that no other does the same."""
NOTICES_WANTED = FIXED["notices_wanted"]
NOTICES = FIXED["notices"]
NOTICE_COUNTS = FIXED["notice_counts"]
DEAD = FIXED["notices_dead"]
INBOX = FIXED["inbox"]
ASIDE = FIXED["aside"]
WAITING = FIXED["waiting"]
TWINS = FIXED["twins"]
TWINS_WAITING = FIXED["twins_waiting"]
FLEET = FIXED["fleet"]
QUARANTINE = FIXED["quarantine"]
DEPLOYMENT = FIXED["deployment"]
WATCH = FIXED["watch"]
BROKER_WATCH = FIXED["broker_watch"]
BINDS = FIXED["binds"]
NEWS = FIXED["watched"]
UNROUTED = FIXED["karton_tasks"]
"""Tasks that karton-system has to route."""


def record_key(uid: str) -> str:
    """The record's key; the braces make it one hash slot per analysis."""
    return _BY_NAME["record"].of(uid)


def entry_key(where: str, uid: str) -> str:
    """What is known of an item in quarantine."""
    return _BY_NAME["entry"].of(where, uid)


def task_key(task_uid: str) -> str:
    """Karton's key of a task."""
    return _BY_NAME["task"].of(task_uid)


def index_uids_key(window: str) -> str:
    """The uids of a window of the index."""
    return _BY_NAME["index_uids"].of(window)


def queue_keys(identity: str) -> list[str]:
    """Karton's queues of an identity, the most urgent first; before them that of old producers."""
    return [identity, *(queue_key(priority.value, identity) for priority in Priority)]


def queue_key(priority: str, identity: str) -> str:
    """Karton's queue of an identity for the tasks of a priority."""
    return _BY_NAME["queue"].of(priority, identity)


def gaps_key(watch: str) -> str:
    """When :data:`WATCH` or :data:`BROKER_WATCH` was interrupted."""
    return {WATCH: FIXED["gaps"], BROKER_WATCH: FIXED["broker_gaps"]}[watch]


def line_key(place: Place | str) -> str:
    """The line of a place."""
    return _BY_NAME["line"].of(str(place))


def host_key(host: str) -> str:
    """What a host last said about itself."""
    return _BY_NAME["host"].of(host)


def io_key(host: str) -> str:
    """Exists while a host's io worker is alive."""
    return _BY_NAME["io"].of(host)


def lease_key(host: str) -> str:
    """Which machine has a host name."""
    return _BY_NAME["lease"].of(host)


def canary_key(profile: str) -> str:
    """What good canaries did in a profile."""
    return _BY_NAME["canary"].of(profile)


def judging_key(profile: str) -> str:
    """Which host may put slots of a profile aside."""
    return _BY_NAME["judging"].of(profile)


def reusable_key(conditions: str) -> str:
    """The newest complete analysis under these conditions."""
    return _BY_NAME["reusable"].of(conditions)


def making_key(uid: str) -> str:
    """Who is copying an earlier analysis to this uid."""
    return _BY_NAME["making"].of(uid)


def variants_key(root_uid: str) -> str:
    """The second looks that a root was granted."""
    return _BY_NAME["variants"].of(root_uid)


def durations_key(profile: str) -> str:
    """How long the newest analyses of a profile took."""
    return _BY_NAME["durations"].of(profile)


def news_key(profile: str, quality: str) -> str:
    """When the newest measured runs of a profile and quality showed something new."""
    return _BY_NAME["news"].of(profile, quality)


def stops_key(profile: str, quality: str) -> str:
    """How long the newest of its other watched runs lasted."""
    return _BY_NAME["stops"].of(profile, quality)
