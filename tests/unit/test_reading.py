"""Karton's tasks as anyone may have written them: read as Karton reads them, or refused with a sentence."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from karton.core import Task
from karton.core.task import TaskState

from drakcelery.errors import Unreadable
from drakcelery.karton import reading
from drakcelery.model.text import REPLACEMENT, clean, is_storable, storable

UID = "{r}:t"


def fields(**changed: Any) -> dict[str, Any]:
    """What Karton writes of a task, with some of it *changed*."""
    task = Task({"type": "sample"}, uid=UID, root_uid="r", payload={"n": 1})
    return {**json.loads(task.serialize()), **changed}


def nested(levels: int) -> Any:
    """A list in a list in a list."""
    return json.loads("[" * levels + "]" * levels)


@pytest.mark.parametrize(
    "payload",
    [
        {"x": "\udc83"},
        {"\ud800": {"a": ["\udfff"]}},
        {"score": float("nan"), "z": -math.inf},
        {"big": 10**4000},
        {"deep": nested(150)},
        {"text": '"[' * 1000},
    ],
    ids=["surrogate", "surrogate key", "not finite", "huge", "deep", "brackets in text"],
)
def test_what_karton_writes_is_read(payload: dict[str, Any]) -> None:
    """Lone surrogates, NaN and huge numbers come out as they went in, as Karton has them (R1, R2)."""
    text = json.dumps(fields(payload=payload))
    task = reading.read_task(text, UID)
    assert json.dumps(task.payload) == json.dumps(payload)
    assert json.dumps(json.loads(task.serialize())["payload"]) == json.dumps(payload)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"uid": True}, "uid"),
        ({"uid": ["{r}:t"]}, "uid"),
        ({"uid": "{r}:other"}, "another task"),
        ({"root_uid": True}, "root_uid"),
        ({"root_uid": ["r"]}, "root_uid"),
        ({"root_uid": None}, "root_uid"),
        ({"root_uid": "\udc83"}, "root_uid"),
        ({"root_uid": "r" * 600}, "root_uid"),
        ({"parent_uid": 1}, "parent_uid"),
        ({"orig_uid": {}}, "orig_uid"),
        ({"headers": []}, "headers"),
        ({"headers": {"x": {"__karton_resource__": {"name": "a", "bucket": "b", "uid": "c"}}}}, "no task"),
        ({"headers_persistent": "x"}, "headers_persistent"),
        ({"payload": None}, "payload"),
        ({"payload": {"__karton_resource__": {"name": "a"}}}, "no task"),
        ({"payload": {"sample": {"__karton_resource__": None}}}, "no task"),
        ({"payload_persistent": [1]}, "payload_persistent"),
        ({"status": "Weird"}, "status"),
        ({"status": {"a": 1}}, "status"),
        ({"priority": 5}, "priority"),
        ({"payload": {"x": nested(300)}}, "deeper"),
    ],
)
def test_what_is_no_task_is_refused(changed: dict[str, Any], named: str) -> None:
    """Each field that is relied on has its type, and the sentence names it (S2, S3)."""
    text = json.dumps(fields(**changed))
    with pytest.raises(Unreadable, match=named):
        reading.read_task(text, UID)
    _ends_readable(text)


@pytest.mark.parametrize("gone", sorted(set(fields()) - {"parent_uid", "orig_uid", "error", "last_update"}))
def test_a_missing_field(gone: str) -> None:
    """A field that is not there is refused as a wrong one is, or has a default; nothing else comes of it."""
    text = json.dumps({name: value for name, value in fields().items() if name != gone})
    if gone in ("headers_persistent", "priority"):  # Karton 2 and 5.1 wrote none
        assert reading.read_task(text, UID).uid == UID
    else:
        with pytest.raises(Unreadable, match=gone):
            reading.read_task(text, UID)
    _ends_readable(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "null",
        "[]",
        '"text"',
        "{",
        "[" * 5000,
        "1" * 5000,
        "\udc83",
        "NaN",
        '{"a": 1%s}' % ("0" * 5000),
    ],
)
def test_what_is_no_json_object_is_refused(text: str) -> None:
    """It says so of itself, so that it is tried again: somebody may write the task again."""
    with pytest.raises(Unreadable):
        reading.read_task(text, UID)
    assert not reading.is_readable(text)
    _ends_readable(text)


def _ends_readable(text: str) -> None:
    """Whatever it was, Karton can read how it ended."""
    word = reading.last_word(text, UID, ["why \udc83\n"], now=5.0)
    assert word is not None
    task = Task.unserialize(word)
    assert (task.uid, task.status, task.error) == (UID, TaskState.CRASHED, [f"why {REPLACEMENT}\n"])


def test_the_end_keeps_what_can_be_kept() -> None:
    """A task with one wrong field is CRASHED with all its others."""
    word = reading.last_word(
        json.dumps(fields(parent_uid=[], payload={"x": "\udc83"})), UID, ["why\n"], now=5.0
    )
    task = Task.unserialize(str(word))
    assert (task.payload, task.headers, task.parent_uid) == ({"x": "\udc83"}, {"type": "sample"}, None)
    assert reading.last_word(None, UID, ["why\n"], now=5.0) is None
    assert reading.last_word("{}", "\udc83", ["why\n"], now=5.0) is None, "Karton can have no such task"


@pytest.mark.parametrize("when", [None, True, "now", float("nan"), math.inf, -5, 10**400, [], 1e300])
def test_an_odd_time_is_none(when: Any) -> None:
    """When a task changed is for show and for patience: what is no time keeps no sample from running."""
    assert reading.read_task(json.dumps(fields(last_update=when)), UID).last_update == 0


def test_only_the_time_is_renewed() -> None:
    """All else of a task stays as somebody else wrote it, unknown fields too."""
    text = json.dumps(fields(extra="\udc83", payload={"x": float("nan")}))
    new = json.loads(reading.refreshed(text, 5.0))
    assert new.pop("last_update") == 5.0
    old = json.loads(text)
    del old["last_update"]
    assert json.dumps(new, sort_keys=True) == json.dumps(old, sort_keys=True)


def test_the_root_within_a_uid() -> None:
    """As Karton 5.4 writes it, and as older ones did."""
    assert [reading.root_of(uid) for uid in ("{r}:t", "old", "{broken")] == ["r", "old", "{broken"]


@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_any_text_can_be_stored_and_shown(text: str) -> None:
    """What is stored is UTF-8; what is shown drives no terminal and is bounded."""
    assert storable(text).encode().decode() == storable(text)
    assert is_storable(text) == (storable(text) == text)
    assert clean(text).isprintable()
    assert len(clean(text, 5)) <= 6
