"""What a second look changes, by the clues of the first one, and what a task may say about it."""

from __future__ import annotations

from typing import Any

import pytest
from karton.core import Task
from karton.core.resource import RemoteResource
from pydantic import ValidationError

from drakcelery.errors import BadTask
from drakcelery.karton import contract, relations
from drakcelery.karton.contract import SampleFacts
from drakcelery.karton.policy import policy_of
from drakcelery.model.analysis import Place
from drakcelery.model.clues import CLUES, Clue, ClueKind
from drakcelery.model.second_look import HIDING, Changes, Offer, SecondLook, VariantRules, plan
from drakcelery.settings import Settings
from drakcelery.settings.variants import VariantsSection
from tests.builders import analysis

PLACES = frozenset({Place(profile="win10", host="rack-1"), Place(profile="win7", host="rack-2")})
RULES = VariantRules(
    profiles=("win10", "xp", "win7"), format_profiles=("win7",), extra_timeout=300, longest=200
)


def planned(*kinds: ClueKind, engine: str = "drakvuf 1", rules: VariantRules = RULES, **first: Any) -> Any:
    """What is changed at an analysis in win10 of at most 60 s, with apimon."""
    offer = Offer(engine=engine, places=PLACES, hiding=HIDING)
    ours = analysis().model_copy(update={"magic": "PE32", **first})
    return plan([Clue(kind=kind) for kind in kinds], ours, offer, rules)


@pytest.mark.parametrize(
    ("kinds", "changes"),
    [
        (["debugger"], {"profile": "win7"}),
        (["cpuid"], {"profile": "win7", "plugins": ("apimon", "hidevm")}),
        (["user", "machine"], {"profile": "win7", "plugins": ("apimon", "hidevm", "hidsim")}),
        (["clock"], {"profile": "win7", "timeout": 200}),
        (["elevation"], {"start_method": "runas"}),
        (["privilege"], {"profile": "win7", "start_method": "runas"}),
        (["format"], {"profile": "win7"}),
    ],
)
def test_with_drakvuf(kinds: list[ClueKind], changes: dict[str, Any]) -> None:
    """Each clue brings what may help against it, within what the fleet, the quality and the limits allow."""
    assert planned(*kinds) == Changes(**changes)


def test_with_the_emulator() -> None:
    """It has other profiles and more time; no plugins that hide, and no other way to start."""
    assert planned(*CLUES, engine="emulator x") == Changes(profile="win7")
    assert planned("sleep", "cpuid", engine="emulator x") == Changes(profile="win7", timeout=200)


@pytest.mark.parametrize(
    ("kinds", "first"),
    [
        (["debugger"], {"target_host": "rack-1"}),
        (["debugger"], {"profile": "win7", "target_host": "rack-2"}),
        (["format"], {"magic": "PE32+ executable (console) Aarch64, for MS Windows"}),
    ],
)
def test_where_nothing_can_be_changed(kinds: list[ClueKind], first: dict[str, Any]) -> None:
    """The host that the task asks for has no other profile, or no guest has such a processor."""
    assert planned(*kinds, **first) is None


def test_without_profiles() -> None:
    """Without a profile to try, only what the engine can do is left."""
    bare = VariantRules(longest=60)
    assert planned("debugger", "sleep", rules=bare) == Changes(plugins=("apimon", "hidsim"))
    assert planned("format", rules=bare) is None
    assert planned("elevation", rules=bare, start_method="runas") is None


def test_a_link() -> None:
    """What the record of a first look says of its second one is read, whatever it is."""
    assert SecondLook.parse("a-1") == SecondLook(uid="a-1")
    assert SecondLook.parse("a-1=12") == SecondLook(uid="a-1", news=12)
    assert SecondLook.parse("a-1=x") == SecondLook(uid="a-1")


def read(payload: dict[str, Any], headers: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """What a task says."""
    task = Task(headers, payload=payload)
    policy = policy_of(Settings(variants=VariantsSection(**settings)))
    return relations.read(task.payload.get, task.headers.get, policy)


def test_what_a_task_asks() -> None:
    """How many second looks it wants, in its payload or, as a text, in a header."""
    assert read({}, {}, mode="on")["variants"] is None
    assert read({"variants": 0}, {"variants": "1"})["variants"] == 0
    assert read({}, {"variants": "1"}, mode="asked")["variants"] == 1


@pytest.mark.parametrize(
    ("payload", "settings", "said"),
    [
        ({"variants": 1}, {}, "second looks are off"),
        ({"variants": 2}, {"mode": "on"}, "at most 1 are allowed"),
        ({"variants": True}, {"mode": "on"}, "expected how many"),
        ({"variants": -1}, {"mode": "on"}, "expected how many"),
        ({"variants": "x"}, {"mode": "on"}, "expected how many"),
        ({"variant_of": "../x"}, {}, "expected the uid"),
        ({"variant_why": "x"}, {}, "expected a list"),
    ],
)
def test_what_is_refused(payload: dict[str, Any], settings: dict[str, Any], said: str) -> None:
    """A wish that makes no sense, or that the settings do not allow, is refused with a sentence."""
    with pytest.raises(BadTask, match=said):
        read(payload, {}, **settings)


@pytest.mark.parametrize(
    ("settings", "quality", "asked", "most"),
    [
        ({}, "high", None, 0),
        ({"mode": "asked"}, "high", None, 0),
        ({"mode": "asked"}, "high", 1, 1),
        ({"mode": "on", "max_per_root": 2}, "high", None, 2),
        ({"mode": "on", "qualities": "low, mid"}, "high", None, 0),
        ({"mode": "on", "qualities": "low, mid"}, "mid", None, 1),
        ({"mode": "on"}, "high", 0, 0),
    ],
)
def test_how_many(settings: dict[str, Any], quality: str, asked: int | None, most: int) -> None:
    """By the mode, the quality and what the task says."""
    assert VariantsSection(**settings).most_of(quality, asked) == most


def asked(payload: dict[str, Any], **settings: Any) -> tuple[str, ...]:
    """The plugins that a task gets."""
    sample = RemoteResource(name="evil.exe", bucket="karton", uid="c0ffee", size=1)
    headers = {"type": "sample", "stage": "recognized", "platform": "win64"}
    task = Task(headers, payload={"sample": sample, **payload})
    policy = policy_of(Settings(drakvuf_plugins={"_all_": ("apimon",)}, variants=VariantsSection(**settings)))
    return contract.read_task(task, SampleFacts(size=1, magic="PE32 executable"), policy).plugins


def test_plugins_that_hide_are_for_second_looks() -> None:
    """They need not be in the quality's list, which is also what runs in each first look."""
    wanted = {"plugins": ["apimon", "hidevm"]}
    assert asked(wanted) == ("apimon",)
    assert asked({**wanted, "variant_of": "a-1"}) == ("apimon", "hidevm")
    assert asked({**wanted, "variant_of": "a-1"}, plugins="hidsim") == ("apimon",)
    assert asked({**wanted, "variant_of": "a-1"}, plugins="none") == ("apimon",)
    with pytest.raises(ValidationError, match="plugins that hide"):
        VariantsSection(plugins="apimon")
