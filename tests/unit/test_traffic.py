"""The recorded traffic in the report: names, requests, server names, and whatever else is in a capture."""

from __future__ import annotations

import io
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from drakcelery.behaviour import traffic as traffic_module
from drakcelery.behaviour.reader import Reader
from tests.captures import ETHER, GUEST, SERVER, captured, hello, segment
from tests.examples import examples

REQUEST = (
    b"POST /gate.php?a=1 HTTP/1.1\r\nHost: evil.example\r\nUser-Agent: x/1\r\nContent-Length: 5\r\n\r\nhello"
)


def read(capture: bytes) -> Reader:
    """What is seen in a capture."""
    reader = Reader()
    reader.read_traffic(io.BytesIO(capture))
    return reader


def seen(reader: Reader) -> traffic_module.Traffic:
    """Its traffic."""
    assert reader.traffic is not None
    return reader.traffic


def requests(reader: Reader) -> list[tuple[str, str, int]]:
    """Verb, URL and count of each request."""
    return [(one.method, one.url, one.count) for one in seen(reader).report_requests(lambda _: ())]


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_names_requests_and_greetings(form: str) -> None:
    """DNS with its answers, HTTP with host and agent, TLS with the server's name; also over IPv6."""
    question = DNS(id=1, qd=DNSQR(qname="Evil.example"))
    answer = DNS(id=1, qr=1, qd=DNSQR(qname="Evil.example"), an=DNSRR(rrname="Evil.example", rdata=SERVER))
    six = ETHER / IPv6(src="2001:db8::1", dst="2001:db8::2") / TCP(sport=1, dport=443) / hello("six.example")
    reader = read(
        captured(
            ETHER / IP(src=GUEST, dst="10.0.0.1") / UDP(sport=5000, dport=53) / question,
            ETHER / IP(src="10.0.0.1", dst=GUEST) / UDP(sport=53, dport=5000) / answer,
            segment(REQUEST),
            segment(hello("tls.example"), port=443),
            six,
            form=form,
        )
    )
    [name] = reader.sockets.report_names(lambda _: ())
    assert (name.name, name.sources, name.addresses, name.count) == ("evil.example", ("dns",), (SERVER,), 1)
    assert name.first == 1700000000
    [request] = seen(reader).report_requests(lambda _: ())
    assert (request.method, request.url) == ("POST", "http://evil.example/gate.php?a=1")
    assert (request.user_agent, request.address, request.port) == ("x/1", SERVER, 80)
    assert [(one.name, one.address, one.port) for one in seen(reader).report_tls(lambda _: ())] == [
        ("tls.example", SERVER, 443),
        ("six.example", "2001:db8::2", 443),
    ]
    assert seen(reader).unreadable == 0


def test_an_answer_alone() -> None:
    """A capture may begin between question and answer: the name was looked up once."""
    answer = DNS(id=1, qr=1, qd=DNSQR(qname="evil.example"), an=DNSRR(rrname="evil.example", rdata=SERVER))
    reader = read(captured(ETHER / IP(src=SERVER, dst=GUEST) / UDP(sport=53, dport=5000) / answer))
    assert [one.count for one in reader.sockets.report_names(lambda _: ())] == [1]


def test_what_comes_in_pieces_and_again() -> None:
    """A request or a greeting over several segments is one; the next one on the connection is another."""
    greeting = hello("tls.example")
    again = b"GET /two HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    reader = read(
        captured(
            *(segment(REQUEST[at : at + 20]) for at in range(0, len(REQUEST), 20)),
            *(segment(greeting[at : at + 30], port=443) for at in range(0, len(greeting), 30)),
            segment(again),
            segment(again),
        )
    )
    assert requests(reader) == [
        ("POST", "http://evil.example/gate.php?a=1", 1),
        ("GET", "http://evil.example/two", 2),
    ]
    assert [one.name for one in seen(reader).report_tls(lambda _: ())] == ["tls.example"]


def test_a_greeting_whose_server_has_no_name() -> None:
    """Nothing is listed."""
    nameless = hello("tls.example").replace(b"\0\0\x0btls.example", b"\0\0\0tls.example")
    assert b"\0\0\0tls.example" in nameless
    reader = read(captured(segment(nameless, port=443)))
    assert (list(seen(reader).report_tls(lambda _: ())), seen(reader).unreadable) == ([], 0)


def test_a_long_capture_is_read_from_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is counted, in bytes; connections that wait for more are bounded as well."""
    monkeypatch.setattr(traffic_module, "MOST_PACKETS", 3)
    monkeypatch.setattr(traffic_module, "MOST_CONNECTIONS", 1)
    packets = [segment(b"GET /", source=number) for number in range(1, 3)]
    last = segment(b"x HTTP/1.0\r\n\r\n", source=2)
    reader = read(captured(*packets, last, segment(REQUEST)))
    assert requests(reader) == [("GET", f"http://{SERVER}:80/x", 1)]
    assert reader.budget.left_out == Counter(traffic_bytes=len(bytes(segment(REQUEST))) + 16)


@examples(60)
@given(st.binary(max_size=300), st.integers(0, 2**32))
def test_whatever_a_capture_holds(noise: bytes, seed: int) -> None:
    """Noise, and packets with bytes exchanged: nothing is raised, and what is readable is read."""
    read(noise)
    chance = random.Random(seed)  # noqa: S311 chosen by hypothesis, no secret
    good = bytearray(captured(segment(REQUEST), segment(hello("tls.example"), port=443), segment(noise)))
    for _ in range(8):
        good[chance.randrange(24, len(good))] = chance.randrange(256)
    read(bytes(good))
    read(captured(segment(REQUEST[:40] + noise), segment(hello("x")[:60] + noise, port=443)))


def test_what_takes_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest can build packets that take long; the rest of the capture is counted, not read."""
    capture = captured(segment(REQUEST), segment(REQUEST, source=50001))
    monkeypatch.setattr(traffic_module, "MOST_SECONDS", -1.0)
    reader = read(capture)
    assert list(seen(reader).requests) == []
    assert reader.budget.left_out["traffic_bytes"] > len(REQUEST)


def test_a_beginning_that_is_none_is_told_once() -> None:
    """What follows on the connection is not read as its beginning again."""
    broken = segment(b"GET \r\n\r\n")
    reader = read(captured(broken, *[segment(b"more")] * 5))
    assert seen(reader).unreadable == 1
