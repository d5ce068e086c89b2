"""TLS keys and recorded traffic."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakcelery.artifacts import keys as keys_module
from drakcelery.artifacts.keys import KeysWritten, write_key_file
from drakcelery.artifacts.pcap import keep_pcap
from drakcelery.artifacts.untrusted import UntrustedFileError

RANDOM = "ab" * 32
MASTER = "0C" * 48


def tls(client_random: object = RANDOM, master_key: object = MASTER) -> dict[str, object]:
    """What tlsmon logs of a handshake."""
    return {"Plugin": "tlsmon", "client_random": client_random, "master_key": master_key}


def write_keys(directory: Path, entries: list[dict[str, object]]) -> tuple[KeysWritten, str | None]:
    """Write the key file of a tlsmon log; its text, None if there is none."""
    source, target = directory / "tlsmon.log", directory / "keys"
    source.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    result = write_key_file(source, target)
    return result, target.read_text() if target.exists() else None


def test_keys_are_written_once_each(tmp_path: Path) -> None:
    """Each key is a line of the NSS key log format; repetitions are left out."""
    other = "12" * 32
    result, text = write_keys(tmp_path, [tls(), tls(other), tls(), tls(RANDOM.upper())])
    low = MASTER.lower()
    assert text == f"CLIENT_RANDOM {RANDOM} {low}\nCLIENT_RANDOM {other} {low}\n"
    assert (result.keys, result.skipped) == (2, 0)


def test_memory_for_repetitions_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When too many keys are remembered, they are forgotten: no key is lost, one may come twice."""
    monkeypatch.setattr(keys_module, "REMEMBERED_KEYS", 2)
    randoms = [f"{number:064x}" for number in range(5)]
    _, text = write_keys(tmp_path, [tls(one) for one in [*randoms, randoms[0]]])
    assert text is not None
    assert [line.split()[1] for line in text.splitlines()] == [*randoms, randoms[0]]


@pytest.mark.parametrize("exists", [True, False])
def test_no_key_no_file(tmp_path: Path, exists: bool) -> None:
    """Without a tlsmon log, or without a key in it, there is no key file."""
    if exists:
        assert write_keys(tmp_path, [{"Plugin": "tlsmon"}]) == (KeysWritten(keys=0, skipped=1), None)
    else:
        assert write_key_file(tmp_path / "none", tmp_path / "keys") == KeysWritten(keys=0, skipped=0)
        assert not (tmp_path / "keys").exists()


values = st.one_of(
    st.none(), st.integers(), st.text(), st.text("0123456789abcdefAF\n ", min_size=60, max_size=100)
)


@given(st.lists(st.builds(tls, values, values), max_size=5))
def test_hostile_values_are_counted_and_not_written(
    tmp_path_factory: pytest.TempPathFactory, entries: list[dict[str, object]]
) -> None:
    """Only hex of the right length gets into the file, one line for each key; all else is counted."""
    result, text = write_keys(tmp_path_factory.mktemp("keys"), [*entries, tls()])
    assert text is not None
    lines = text.splitlines()
    assert len(lines) == result.keys
    assert result.keys + result.skipped <= len(entries) + 1
    for line in lines:
        kind, client_random, master_key = line.split(" ")
        assert (kind, len(bytes.fromhex(client_random)), len(bytes.fromhex(master_key))) == (
            "CLIENT_RANDOM",
            32,
            48,
        )


def classic(order: str, magic: int, packets: int) -> bytes:
    """A pcap file."""
    packet = struct.pack(f"{order}IIII", 1, 2, 4, 4) + b"data"
    return struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, 1) + packets * packet


def block(order: str, kind: int, body: bytes) -> bytes:
    """A block of a pcapng file."""
    length = struct.pack(f"{order}I", 12 + len(body))
    return struct.pack(f"{order}I", kind) + length + body + length


def next_generation(order: str, packets: int) -> bytes:
    """A pcapng file."""
    section = block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))
    interface = block(order, 1, struct.pack(f"{order}HHI", 1, 0, 65535))
    return (
        section + interface + packets * block(order, 6, struct.pack(f"{order}IIIII", 0, 0, 0, 4, 4) + b"data")
    )


FORMATS = {
    "little": lambda packets: classic("<", 0xA1B2C3D4, packets),
    "big": lambda packets: classic(">", 0xA1B2C3D4, packets),
    "nano": lambda packets: classic("<", 0xA1B23C4D, packets),
    "ng-little": lambda packets: next_generation("<", packets),
    "ng-big": lambda packets: next_generation(">", packets),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_traffic_is_kept_unchanged(tmp_path: Path, kind: str) -> None:
    """A capture with a packet is kept byte for byte, in each format and byte order; one without is not."""
    source, target = tmp_path / "dump.pcap", tmp_path / "dumps.pcap"
    source.write_bytes(FORMATS[kind](0))
    assert keep_pcap(source, target) == "it holds no packet"
    assert not target.exists()
    source.write_bytes(FORMATS[kind](2))
    assert keep_pcap(source, target) is None
    assert target.read_bytes() == FORMATS[kind](2)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "none was recorded"),
        (b"", "it is no pcap or pcapng file"),
        (b"MZ" + bytes(100), "it is no pcap or pcapng file"),
        (b"\x0a\x0d\x0d\x0a", "it holds no packet"),
        (b"\x0a\x0d\x0d\x0a" + bytes(200), "it holds no packet"),
        (next_generation("<", 1)[:-20], "it holds no packet"),
    ],
)
def test_what_is_no_traffic_has_a_reason(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """A missing, foreign or broken-off file is left out, and it is said why."""
    if content is not None:
        (tmp_path / "dump.pcap").write_bytes(content)
    assert keep_pcap(tmp_path / "dump.pcap", tmp_path / "out") == reason


def test_a_linked_capture_is_refused(tmp_path: Path) -> None:
    """A capture that is a link, or a pipe, is not followed."""
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo"):
        with pytest.raises(UntrustedFileError):
            keep_pcap(tmp_path / name, tmp_path / "out")
