"""What a sample did as an event of MISP: PyMISP reads it whatever a sample chose, and twice the same."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymisp import MISPAttribute, MISPEvent, MISPObject

from drakcelery.behaviour.report import Report
from drakcelery.operators.exchange.misp import misp
from drakcelery.operators.exchange.selection import MOST
from drakcelery.operators.exchange.sharing import Level
from drakcelery.testing import RECORDED
from tests.examples import examples
from tests.reports import CAPABILITIES, NASTY, SEEN, file, hostile, process, report


def loaded(given: Report, level: Level = "amber") -> MISPEvent:
    """The event as PyMISP reads it; all templates have what they need, and no identifier is there twice."""
    text = misp(given, level)
    event = MISPEvent()
    event.load(json.loads(text))
    for one in event.objects:
        template = MISPObject(one.name, strict=True)
        template.from_dict(**json.loads(one.to_json()))
        template.to_json(strict=True)
    identifiers = list(uuids(json.loads(text)))
    assert len(set(identifiers)) == len(identifiers)
    assert all(str(uuid.UUID(one)) == one for one in identifiers)
    return event


def uuids(value: Any) -> Iterator[str]:
    """All identifiers in an event."""
    if isinstance(value, dict):
        if "uuid" in value:
            yield value["uuid"]
        for one in value.values():
            yield from uuids(one)
    elif isinstance(value, list):
        for one in value:
            yield from uuids(one)


def attributes(event: MISPEvent) -> list[MISPAttribute]:
    """All of them."""
    return [*event.attributes, *(one for thing in event.objects for one in thing.attributes)]


def values(event: MISPEvent, template: str) -> list[dict[str, Any]]:
    """The objects of a template, by their relations."""
    return [
        {one.object_relation: one.value for one in found.attributes}
        for found in event.get_objects_by_name(template)
    ]


def recorded() -> Report:
    """The report of our own sample."""
    return Report.model_validate_json((RECORDED / "report.json").read_bytes())


def test_the_recorded_analysis() -> None:
    """Each of its doings is an object of MISP's own templates; nothing of it is meant for detection."""
    event = loaded(recorded(), "green")
    assert event.info == "drakcelery: what behaviour.exe did"
    assert [tag.name for tag in event.tags] == ["tlp:green"]
    assert (event.distribution, event.published) == (0, False)
    assert not any(one.to_ids for one in attributes(event))
    sample, written = values(event, "file")
    assert sample == {"sha256": recorded().sample.sha256, "filename": "behaviour.exe"}
    assert written["fullpath"] == "C:\\Users\\user\\AppData\\Local\\Temp\\drakcelery-sample.txt"
    (value,) = values(event, "registry-key")
    assert value["key"].startswith("HKEY_USERS\\S-1-5-21-")
    assert (value["name"], value["data"]) == ("Greeting", "drakcelery was here")
    (name,) = values(event, "domain-ip")
    assert (name["domain"], name["ip"]) == ("sample.drakcelery.invalid", "198.51.100.3")
    (connection,) = values(event, "network-connection")
    assert (connection["ip-dst"], connection["dst-port"]) == ("198.51.100.3", "8080")
    (request,) = values(event, "http-request")
    assert (request["url"], request["method"]) == ("http://sample.drakcelery.invalid/hello", "GET")
    parent, child = event.get_objects_by_name("process")
    (reference,) = child.references
    assert (reference.referenced_uuid, reference.relationship_type) == (parent.uuid, "child-of")
    (analysis,) = event.get_objects_by_name("malware-analysis")
    assert [one.relationship_type for one in analysis.references] == ["characterizes"]
    (page,) = event.event_reports
    assert page.content.startswith("# What `behaviour.exe` did")
    assert [one.value for one in event.attributes] == [recorded().ending.summary]


def test_the_same_twice() -> None:
    """To the byte."""
    assert misp(recorded(), "red") == misp(recorded(), "red")


def test_what_is_there_afterwards() -> None:
    """Neither what was deleted nor what only Windows did; a renamed file by its new name, with its marks."""
    event = loaded(
        report(
            files=[
                file("C:\\gone.txt", actions=["deleted"]),
                file("C:\\a.tmp", renamed_to="C:\\b.exe", executable=True, autostart="Startup folder"),
                file("C:\\windows.log", processes=[0]),
            ],
            registry=[{**SEEN, "action": "deleted", "key": "\\REGISTRY\\USER\\y"}],
            services=[{**SEEN, "name": "svc", "actions": ["created"], "program": "C:\\s.exe"}],
            network={"tls": [{**SEEN, "name": "c2.example", "address": "::1", "port": 443}]},
        )
    )
    assert [one["filename"] for one in values(event, "file")] == ["malwar.exe", "b.exe"]
    assert event.get_objects_by_name("file")[1].comment == "written, executable, Startup folder"
    assert values(event, "registry-key") == []
    assert values(event, "windows-service") == [{"name": "svc", "image-path": "C:\\s.exe"}]
    (connection,) = values(event, "network-connection")
    assert (connection["hostname-dst"], connection["layer7-protocol"]) == ("c2.example", "HTTPS")
    assert "Left out of the list files of report.json: 1." in [one.value for one in event.attributes]


def test_techniques() -> None:
    """As MISP's galaxy names them."""
    tags = [tag.name for tag in loaded(report(capabilities=CAPABILITIES)).tags]
    assert tags == [
        "tlp:amber",
        'misp-galaxy:mitre-attack-pattern="Process Injection - T1055"',
        'misp-galaxy:mitre-attack-pattern="PowerShell - T1059.001"',
    ]


@pytest.mark.slow
def test_long_lists_are_cut() -> None:
    """What could be run comes first, and what is missing is counted."""
    files = [file(f"C:\\{number}.txt") for number in range(MOST + 100)]
    files.append(file("C:\\last.exe", executable=True))
    event = loaded(report(files=files))
    assert values(event, "file")[1]["filename"] == "last.exe"
    assert Counter(one.name for one in event.objects)["file"] == MOST + 1
    assert "Left out of the list files of report.json: 101." in [one.value for one in event.attributes]


@pytest.mark.slow
@examples(60)
@given(value=NASTY | st.text(max_size=30) | st.text(st.characters(categories=["Cs", "Cc", "Zs"]), max_size=9))
def test_read_whatever_a_sample_chose(value: str) -> None:
    """Odd texts and surrogates: PyMISP reads it, and no value is empty or has a line end."""
    event = loaded(hostile(value), "red")
    for one in attributes(event):
        assert str(one.value).strip() == str(one.value) != ""
        assert "\n" not in str(one.value)


@pytest.mark.parametrize("seconds", [-1.0, 1e300, 0.0])
@pytest.mark.parametrize("number", [-1, 0, 65_536, 2**70])
def test_read_whatever_numbers_are_there(seconds: float, number: int) -> None:
    """Times that no calendar has, ports and pids out of range, a process that is its own parent."""
    times = {"count": 1, "first": seconds, "last": 1.0, "processes": [1]}
    connection = {**times, "protocol": "other", "address": "::1", "port": number}
    given = report(
        processes=[process(1, origin="sample", started=seconds, parent=1) | {"pid": number, "ppid": number}],
        network={"connections": [connection]},
    )
    run = given.run.model_copy(update={"finished": 2**60 if number else 1})
    loaded(given.model_copy(update={"run": run}))
