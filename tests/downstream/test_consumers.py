"""The public services that read DRAKVUF Sandbox's analyses, as they are on PyPI, process ours."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest
from karton.core import Task

from drakcelery.embedded.supervision import Server
from tests import reference
from tests.acceptance.deployment import Deployment
from tests.downstream.conftest import Results, wait_processed

BEHAVIOUR = reference.ROOT / "samples" / "behaviour.exe"
ANSWER = 42
CODE = b"\xb8" + struct.pack("<I", ANSWER) + b"\xc3drakcelery-rwx-mark"
"""What samples/behaviour.exe runs in memory of its own."""


@dataclass(frozen=True, kw_only=True)
class Processed:
    """An analysis that the consumers have processed."""

    sent: Task
    analysis: Task
    """As they got it."""
    produced: list[Task]
    """What they sent because of it, in order of arrival."""

    def tags(self, origin: str) -> list[list[str]]:
        """What the service *origin* tagged the sample with."""
        return [
            task.payload["tags"]
            for task in self.produced
            if task.headers["origin"] == origin and task.headers["type"] == "sample"
        ]


def _process(
    stack: Deployment, consumers: dict[str, Server], results: Results, **payload: object
) -> Processed:
    sent = stack.send(BEHAVIOUR, headers={"quality": "high"}, payload={"timeout": 30, **payload})
    analyses = wait_processed(stack, sent, consumers, results)
    produced = [task for task in results.received if task.root_uid == sent.root_uid]
    return Processed(sent=sent, analysis=analyses["karton.yaramatcher"], produced=produced)


@pytest.fixture(scope="module")
def processed(stack: Deployment, consumers: dict[str, Server], results: Results) -> Processed:
    """A program's analysis, with memory dumps."""
    return _process(stack, consumers, results)


def test_yaramatcher_finds_a_rule_in_a_dump(processed: Processed) -> None:
    """karton-yaramatcher unpacks the dumps, knows them by their names, and tags the sample with the rule."""
    assert processed.tags("karton.yaramatcher") == [["yara:behaviour_code"]]


def test_config_extractor_extracts_from_a_dump(processed: Processed) -> None:
    """karton-config-extractor reads a configuration from the right dump at the address that we say it has."""
    (config,) = [task for task in processed.produced if task.headers["type"] == "config"]
    assert (config.headers["family"], config.headers["quality"]) == ("behaviour", "high")
    dump = config.payload["parent"]
    assert dump.content.startswith(CODE)
    (place,) = [
        one for one in processed.analysis.payload["dumps_metadata"] if one["filename"] == f"dumps/{dump.name}"
    ]
    assert config.payload["config"] == {
        "type": "behaviour",
        "answer": ANSWER,
        "address": place["base_address"],
    }
    assert config.payload["executed_sample"].sha256 == processed.sent.payload["sample"].sha256
    assert processed.tags("karton.config-extractor") == [
        ["dump:win32:exe"],
        ["behaviour"],
        ["ripped:behaviour"],
    ]


def test_an_analysis_without_dumps(stack: Deployment, consumers: dict[str, Server], results: Results) -> None:
    """Where nothing was dumped, dumps.zip holds an empty folder: both finish, and find nothing."""
    processed = _process(stack, consumers, results, plugins=["procmon"])
    assert processed.analysis.payload["dumps_metadata"] == []
    assert processed.produced == []
