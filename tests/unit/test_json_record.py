"""What is said of a Karton task's record without Karton's parser."""

from __future__ import annotations

import json

import pytest
from karton.core import Task

from drakcelery.errors import Unreadable
from drakcelery.karton.json_record import DEEPEST, last_update


def test_as_karton_writes_it() -> None:
    """The time is that of Karton's own task."""
    task = Task({"type": "sample"})
    assert last_update(task.serialize()) == task.last_update > 0


@pytest.mark.parametrize("value", ["1", True, None, -1, 0, float("nan"), float("inf"), 10**400, [1], {}])
def test_no_sensible_time(value: object) -> None:
    """Whoever may push a task decides what is in it."""
    assert last_update(json.dumps({"last_update": value})) == 0


def test_without_a_time() -> None:
    """Nor need there be one."""
    assert last_update("{}") == 0


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", '{"last_update": ' + "9" * 5000 + "}", "[" * (DEEPEST + 1)]
)
def test_no_object(text: str) -> None:
    """What is none is refused as the reader of whole tasks refuses it."""
    with pytest.raises(Unreadable):
        last_update(text)
