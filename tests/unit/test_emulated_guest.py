"""What a profile means to the emulator: how it is written, and that no guest passes for another."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from drakcelery.engines import loading
from drakcelery.engines.emulator import create
from drakcelery.engines.speakeasy_guest import configuration
from drakcelery.engines.speakeasy_guest.configuration import USUAL
from drakcelery.model.emulated_guest import KEYS, EmulatedGuest, parse_guest
from drakcelery.settings import DrakcelerySection, Settings
from tests.evaders import EVADERS, PROFILES
from tests.schemas import speakeasy_takes
from tests.unit.settings.reading import complaint, read

EACH = {
    "windows": "7",
    "bits": "32",
    "user": "anna",
    "computer": "ANNA-PC",
    "uptime": "240",
    "mouse": "still",
    "hypervisor": "xen",
    "elevated": "no",
    "processors": "1",
    "memory": "1024",
    "processes": "vmtoolsd.exe",
    "sleep": "waits",
}
"""A value of each key that is not the usual one."""


def test_every_key_is_read() -> None:
    """Each key changes the guest, alone and with all others, whatever the case and the spaces are."""
    assert set(EACH) == set(KEYS)
    whole = parse_guest(" , ".join(f"{key.upper()} = {value}" for key, value in EACH.items()))
    assert whole == EmulatedGuest(
        windows="7",
        bits=32,
        user="anna",
        computer="ANNA-PC",
        uptime=240,
        mouse=False,
        hypervisor="xen",
        elevated=False,
        processors=1,
        memory=1024,
        processes=("vmtoolsd.exe",),
        sleep=True,
    )
    assert EmulatedGuest.from_json(whole.to_json()) == whole
    assert parse_guest("windows=11, processes=a.exe|b-c.EXE, hypervisor=none").processes == (
        "a.exe",
        "b-c.exe",
    )


def test_no_guest_passes_for_another() -> None:
    """The digest is another one with each key alone, and without any it is that of the usual guest."""
    digests = {configuration.digest(parse_guest(f"{key}={value}")) for key, value in EACH.items()}
    assert len(digests) == len(EACH)
    assert configuration.digest() not in digests
    assert configuration.digest(EmulatedGuest()) == configuration.digest()
    assert configuration.build(EmulatedGuest()) == configuration.build()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("windows=95", "one of 7, 8.1, 10, 11 after windows="),
        ("bits=16", "one of 32, 64 after bits="),
        ("user=a\\b", "a name of letters, digits, ' ', '.', '_' and '-' (20 at most) after user="),
        ("user=..", "a name of letters"),
        ("user=x.", "a name of letters"),
        ("computer=ANNA_PC", "a name of letters, digits and '-' (15 at most) after computer="),
        ("uptime=1", "60 to 31536000 seconds after uptime="),
        ("uptime=" + "9" * 5000, "60 to 31536000 seconds after uptime="),
        ("memory=-1", "512 to 1048576 MiB after memory="),
        ("processes=a.exe|..\\b.exe", "names of programs such as outlook.exe"),
        ("processes=" + "|".join(["a.exe"] * 17), "16 programs at most"),
        ("mouse=yes", "one of moves, still after mouse="),
        ("elevated=yes, elevated=no", "each key once, and elevated is there twice"),
        ("colour=red", "key=value with a key of windows, bits, user"),
        ("windows", "key=value with a key of"),
    ],
)
def test_what_is_refused(text: str, expected: str, tmp_path: Path) -> None:
    """A wrong value stops the start, and the sentence names the profile and what was expected."""
    said = complaint(tmp_path, f"[emulator_profiles]\nwin7 = {text}\n")
    assert said.startswith("settings.ini: [emulator_profiles] win7 = ")
    assert f"expected {expected}" in said


def test_the_slots_profile_counts(tmp_path: Path) -> None:
    """A slot has the guest of its profile, whatever the case; a profile without a slot is told."""
    text = "[drakcelery]\nengine = emulator\n[slots]\nvm-1 = Win7\nvm-2 = other\n"
    ours = read(tmp_path, f"{text}[emulator_profiles]\nWin7 = bits=32\nunused = bits=32\n")
    assert ours.emulated_guest("vm-1").bits == 32
    assert ours.emulated_guest("vm-2") == ours.emulated_guest("doctor") == USUAL
    assert ours.without_effect() == [
        "[emulator_profiles] unused has no effect: no slot of this host has that profile"
    ]
    from_environment = read(tmp_path, text, DRAKCELERY_EMULATOR_PROFILES_WIN7="user=anna")
    assert from_environment.emulated_guest("vm-1").user == "anna"


def test_where_things_lie() -> None:
    """The user's folder has the user's name anywhere, and a 32-bit Windows has one kind of folders."""
    guest = EmulatedGuest(user="anna", bits=32)
    assert guest.located("C:\\Users\\user") == "C:\\Users\\anna"
    assert (
        guest.located("C:\\a;C:\\Users\\user\\b;C:\\Users\\users")
        == "C:\\a;C:\\Users\\anna\\b;C:\\Users\\users"
    )
    assert guest.located("C:\\Program Files (x86)\\x") == "C:\\Program Files\\x"
    assert guest.located("C:\\Windows\\SysWOW64") == "C:\\Windows\\System32"
    text = str(configuration.build(guest))
    assert "Users\\\\user\\\\" not in text
    assert "(x86)" not in text.replace("x64)", "")


def test_each_guest_is_one_that_speakeasy_takes() -> None:
    """Its schema accepts the guests of the corpus."""
    for text in PROFILES.values():
        speakeasy_takes(configuration.build(parse_guest(text)))


def test_the_snapshot_is_the_slots(tmp_path: Path) -> None:
    """The engine's snapshot in a slot is the digest of the slot's guest."""
    guest = parse_guest(PROFILES["used"])
    engine = create(
        Settings(
            drakcelery=DrakcelerySection(state_dir=tmp_path),
            slots={"vm-1": "default", "vm-2": "used"},
            emulator_profiles={"used": guest},
        )
    )
    assert engine._snapshot("vm-1").sha256 == configuration.digest()
    assert engine._snapshot("vm-2").sha256 == configuration.digest(guest)


def _image(*resources: bytes) -> Any:
    """What pefile makes of a program with these manifests."""
    language = [SimpleNamespace(data=SimpleNamespace(struct=SimpleNamespace(OffsetToData=number, Size=2**31)))
                for number in range(len(resources))]  # fmt: skip
    names = [SimpleNamespace(directory=SimpleNamespace(entries=language))]
    kinds = [SimpleNamespace(id=loading.MANIFEST, directory=SimpleNamespace(entries=names))]
    return SimpleNamespace(
        FILE_HEADER=SimpleNamespace(Machine=0x14C, Characteristics=loading.IMAGE_FILE_EXECUTABLE_IMAGE),
        DIRECTORY_ENTRY_RESOURCE=SimpleNamespace(entries=kinds),
        parse_data_directories=lambda _which: None,
        get_data=lambda place, size: resources[place][:size],
    )


ASKS = b"<trustInfo><requestedExecutionLevel uiAccess=\"false\"\n level='requireAdministrator' /></trustInfo>"


@pytest.mark.parametrize(
    ("manifest", "code"),
    [
        (ASKS, loading.ELEVATION_REQUIRED),
        (ASKS.replace(b"<requested", b"<ms_asmv3:requested"), loading.ELEVATION_REQUIRED),
        (ASKS.replace(b"requireAdministrator", b"asInvoker"), None),
        (ASKS.replace(b"requireAdministrator", b"highestAvailable"), None),
        (b"x" * loading.MOST_MANIFEST + ASKS, None),
        (b"<requestedExecutionLevel" + b" " * 100_000, None),
    ],
)
def test_who_has_to_be_an_administrator(manifest: bytes, code: int | None) -> None:
    """A guest without rights starts no program whose manifest asks for them; one with them starts all."""
    refused = loading.refused_by(_image(manifest), parse_guest("elevated=no"))
    assert (refused.code if refused else None) == code
    assert loading.refused_by(_image(manifest), USUAL) is None


def test_resources_that_cannot_be_read() -> None:
    """A program whose resources are broken is started."""
    image = _image()
    del image.DIRECTORY_ENTRY_RESOURCE
    assert loading.refused_by(image, parse_guest("elevated=no")) is None


def test_the_corpus_is_half_evaders() -> None:
    """Each key of a guest has an evader but the computer's name, and each cure differs in that key alone."""
    assert {one.evades for one in EVADERS} == set(KEYS) - {"computer"}
    for one in EVADERS:
        hides, cured = (parse_guest(text).to_json() for text in (PROFILES[one.hides_from], one.cure))
        changed = {key for key in hides if hides[key] != cured[key]}
        assert changed == {one.evades}
