"""What a sample did as STIX 2.1: valid whatever a sample chose, and twice the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakcelery.behaviour.report import Report
from drakcelery.operators.exchange import sharing, values
from drakcelery.operators.exchange.selection import MOST
from drakcelery.operators.exchange.stix import stix
from drakcelery.testing import RECORDED
from tests.examples import examples
from tests.reports import CAPABILITIES, NASTY, SAMPLE, SEEN, file, hostile, process, report

Object = dict[str, Any]
NOT_FOLLOWED = "uuid-check,network-traffic-ports"
"""docs/report.md: UUIDv4 makes no bundle twice, and no plugin tells the source port."""
TEXTS = NASTY | st.text(max_size=30) | st.text(st.characters(categories=["Cs", "Cc", "Lo", "Nd"]), max_size=9)
NAMES = (
    "a.example",
    "A.Example.",
    "-a.example",
    "a..b",
    "xn--a",
    "ex_ample.com",
    "bücher.example",
    "localhost",
)
ODD = (
    "a" * 64 + ".example",
    "*.example",
    "a.123",
    "\u2024.example",
    "ex\u00adample.com",
    "0x7f.1",
    "user@host",
)
ADDRESSES = ("1.2.3.4", "::1", "fe80::1%eth0", "::ffff:1.2.3.4", "256.1.1.1", "1.2.3", "[::1]", "1.2.3.4/24")
HOSTS = st.sampled_from((*NAMES, *ODD, *ADDRESSES))
URLS = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["http", "https", "HTTP", "ftp", "javascript", ""]),
    HOSTS,
    st.sampled_from(["", ":80", ":99999", ":x", ":"]),
    TEXTS.map(lambda text: f"/{text}"),
)


def problems(text: str) -> list[str]:
    """What stix2-validator has against a bundle; recommendations are rules to it."""
    # It takes a second, in each process that collects tests
    from stix2validator import ValidationOptions, print_results, validate_string

    checks = ValidationOptions(
        version="2.1", strict=True, strict_properties=True, enforce_refs=True, disabled=NOT_FOLLOWED
    )
    found = validate_string(text, checks)
    print_results(found)
    return [str(error) for error in found.errors]


def bundle(given: Report, level: sharing.Level = "amber") -> list[Object]:
    """The objects of a bundle, which is valid."""
    text = stix(given, level)
    assert problems(text) == []
    return list(json.loads(text)["objects"])


def kinds(objects: list[Object], kind: str) -> list[Object]:
    """Those of a kind."""
    return [one for one in objects if one["type"] == kind]


def only(objects: list[Object], kind: str) -> Object:
    """The only one of its kind."""
    (found,) = kinds(objects, kind)
    return found


def recorded() -> Report:
    """The report of our own sample."""
    return Report.model_validate_json((RECORDED / "report.json").read_bytes())


def test_the_recorded_analysis() -> None:
    """Each of its doings is an object, and the analysis names all of them."""
    objects = bundle(recorded(), "green")
    by_id = {one["id"]: one for one in objects}
    assert len(by_id) == len(objects)
    analysis = only(objects, "malware-analysis")
    assert (analysis["product"], analysis["version"]) == ("emulator-speakeasy", "1.5.11")
    assert (analysis["result"], analysis["analysis_started"]) == ("unknown", "2026-11-29T11:02:15Z")
    assert by_id[analysis["sample_ref"]]["hashes"] == {"SHA-256": recorded().sample.sha256}
    seen = {by_id[name]["type"] for name in analysis["analysis_sco_refs"]}
    assert seen == {
        *("directory", "domain-name", "file", "ipv4-addr", "network-traffic", "process", "url"),
        "windows-registry-key",
    }
    child, parent = sorted(kinds(objects, "process"), key=lambda one: -one["pid"])
    assert child["parent_ref"] == parent["id"]
    assert parent["image_ref"] == analysis["sample_ref"]
    (traffic,) = parent["opened_connection_refs"]
    assert (by_id[traffic]["dst_port"], by_id[traffic]["protocols"]) == (8080, ["ipv4", "tcp"])
    key = only(objects, "windows-registry-key")
    assert key["key"].startswith("HKEY_USERS\\S-1-5-21-")
    assert key["values"] == [{"name": "Greeting", "data": "drakcelery was here"}]
    assert set(only(objects, "grouping")["object_refs"]) == set(by_id) - {
        only(objects, "grouping")["id"],
        only(objects, "marking-definition")["id"],
    }
    assert not kinds(objects, "indicator")
    assert only(objects, "note")["content"] == recorded().ending.summary


def test_the_same_twice() -> None:
    """To the byte, and another analysis of the same sample names the same files."""
    assert stix(recorded(), "green") == stix(recorded(), "green")
    other = bundle(recorded().model_copy(update={"analysis_uid": "another"}))
    ours = bundle(recorded())
    same = {one["id"] for one in ours} & {one["id"] for one in other}
    observed = ("file", "directory", "url", "domain-name", "ipv4-addr", "windows-registry-key")
    assert {one["id"] for one in ours if one["type"] in observed} <= same
    assert not {one["id"] for one in ours if one["type"] in ("process", "malware-analysis")} & same


@pytest.mark.parametrize(
    ("headers", "tlp"),
    [
        ({"share_3rd_party": True}, "green"),
        ({"share_3rd_party": False}, "red"),
        ({"share_3rd_party": "true"}, "red"),
        ({"share_3rd_party": None}, "amber"),
        ({}, "amber"),
    ],
)
def test_who_may_see_it(headers: Object, tlp: str) -> None:
    """Only a plain yes lets others see it; each object says so."""
    objects = bundle(recorded(), sharing.level(headers))
    marking = only(objects, "marking-definition")
    assert marking["definition"] == {"tlp": tlp}
    unmarked = [one["type"] for one in objects if one.get("object_marking_refs") != [marking["id"]]]
    assert sorted(unmarked) == ["identity", "marking-definition"]


def test_what_is_there_afterwards() -> None:
    """Neither what was deleted nor what only Windows did; a renamed file by its new name."""
    own = {**SEEN, "action": "set", "key": "\\REGISTRY\\MACHINE\\Software\\x", "value_name": "", "value": ""}
    objects = bundle(
        report(
            files=[
                file("C:\\gone.txt", actions=["deleted"]),
                file("C:\\a.tmp", renamed_to="C:\\b.exe", sha256="CD" * 32),
                file("C:\\windows.log", processes=[0]),
            ],
            registry=[own, own | {"action": "deleted", "key": "\\REGISTRY\\USER\\y"}],
            services=[
                {**SEEN, "name": "svc", "actions": ["created"], "program": "C:\\s.exe"},
                {**SEEN, "name": "other", "actions": ["started"]},
            ],
            mutexes=[{**SEEN, "name": "Global\\m"}],
        )
    )
    names = {one["name"]: one for one in kinds(objects, "file")}
    assert set(names) == {"malwar.exe", "b.exe"}
    assert names["b.exe"]["hashes"] == {"SHA-256": "cd" * 32}
    assert only(objects, "windows-registry-key")["key"] == "HKEY_LOCAL_MACHINE\\Software\\x"
    assert only(objects, "mutex")["name"] == "Global\\m"
    (service,) = [one for one in kinds(objects, "process") if "extensions" in one]
    assert service["extensions"] == {"windows-service-ext": {"service_name": "svc"}}
    said = only(objects, "note")["content"]
    assert "Left out of the list files of report.json: 1." in said


def test_techniques() -> None:
    """Each once, by its number in ATT&CK, with the rules that found it."""
    objects = bundle(report(capabilities=CAPABILITIES))
    found = {one["external_references"][0]["external_id"]: one for one in kinds(objects, "attack-pattern")}
    assert list(found) == ["T1055", "T1059.001"]
    shell = found["T1059.001"]
    assert (shell["name"], shell["description"]) == ("PowerShell", "By these rules of capa: one, two.")
    related = {one["target_ref"] for one in kinds(objects, "relationship")}
    assert related == {one["id"] for one in found.values()}


@pytest.mark.slow
def test_long_lists_are_cut() -> None:
    """What could be run comes first, and what is missing is counted."""
    files = [file(f"C:\\{number}.txt") for number in range(MOST + 100)]
    files.append(file("C:\\last.exe", executable=True))
    processes = [SAMPLE, *(process(number, parent=1) for number in range(2, MOST + 50))]
    objects = bundle(report(files=files, processes=processes))
    names = {one["name"] for one in kinds(objects, "file")}
    assert "last.exe" in names
    assert len(kinds(objects, "process")) == MOST
    said = only(objects, "note")["content"]
    assert "of the list files of report.json: 101." in said
    assert "of the list processes of report.json: 49." in said


@pytest.mark.slow
@examples(60)
@given(value=TEXTS | HOSTS | URLS)
def test_valid_whatever_a_sample_chose(value: str) -> None:
    """Odd texts, surrogates, addresses and URLs that are none: the bundle is valid."""
    assert problems(stix(hostile(value), "red")) == []


@pytest.mark.parametrize("seconds", [-1.0, 1e300, 253_402_300_800.0, 0.0, 1.5])
@pytest.mark.parametrize("number", [-1, 0, 65_536, 2**70])
def test_valid_whatever_numbers_are_there(seconds: float, number: int) -> None:
    """Times that no calendar has, ports and pids out of range, ends before their beginnings."""
    times = {"count": 1, "first": seconds, "last": 1.0, "processes": [1]}
    given = report(
        processes=[process(1, origin="sample", started=seconds, parent=1) | {"pid": number}],
        network={
            "connections": [{**times, "protocol": "other", "address": "::1", "port": number}],
            "names": [{**times, "name": "1.2.3.4", "sources": ["api"], "addresses": ["1.2.3.4", "a"]}],
        },
    )
    run = given.run.model_copy(update={"started": 5, "finished": 2**60 if number else 1})
    bundle(given.model_copy(update={"run": run}))


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("http://A.example:80/a b?c=d e#f", "http://a.example:80/a%20b?c=d%20e#f"),
        ("https://bücher.example/%zz[1]", "https://xn--bcher-kva.example/%25zz%5B1%5D"),
        ("http://[::1]:8080/", "http://[::1]:8080/"),
        ("http://1.2.3.4", "http://1.2.3.4"),
        ("http://", None),
        ("file:///etc/passwd", None),
        ("http://a.example:70000/", None),
        ("http://[::1", None),
    ],
)
def test_urls(given: str, made: str | None) -> None:
    """What RFC 3986 does not allow is escaped; what is no URL of a host is left out."""
    assert values.url(given) == made


def test_registry_keys_that_the_schemas_refuse() -> None:
    """They take HKU and others for an abbreviated hive wherever it stands."""
    assert values.registry_key("\\Registry\\Machine\\a") == "HKEY_LOCAL_MACHINE\\a"
    assert values.registry_key("\\REGISTRY\\MACHINES") == "\\REGISTRY\\MACHINES"
    assert values.registry_key("\\REGISTRY\\USER\\Software\\HKU") is None
    assert values.registry_key("") is None
