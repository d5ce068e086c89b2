"""What the emulator accepts: files and start commands; and how the engine talks to its guest program."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pefile
import pytest

from drakcelery.engines import Detonation
from drakcelery.engines.emulator import Emulator, create
from drakcelery.engines.speakeasy_guest import configuration
from drakcelery.engines.speakeasy_guest.calling import stdcall
from drakcelery.engines.speakeasy_guest.job import (
    MAX_MISSING,
    MAX_STATE,
    Account,
    GuestJob,
    Missing,
    State,
    Told,
    parse_state,
    state_line,
)
from drakcelery.engines.speakeasy_guest.launch import Launch, parse
from drakcelery.engines.speakeasy_guest.record.tally import MOST_TOLD
from drakcelery.errors import UnsupportedSample
from drakcelery.settings import DrakcelerySection, Settings
from tests.guest_jobs import guest_job
from tests.schemas import speakeasy_takes

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


def job(sample: Path, *, magic: str = "data", command: str = "%f") -> Detonation:
    """A job with what *accept* looks at."""
    return Detonation(
        uid="u",
        slot="vm-1",
        sample=sample,
        extension="exe",
        magic=magic,
        start_command=command,
        plugins=("apimon",),
        timeout=1,
        raw=sample.parent,
        hooks=None,
    )


@pytest.fixture
def engine(tmp_path: Path) -> Emulator:
    """The emulator engine with its state below the test's directory."""
    return create(Settings(drakcelery=DrakcelerySection(state_dir=tmp_path / "state")))


def dotnet(path: Path) -> None:
    """Write behaviour.exe with the header of a .NET assembly."""
    image = pefile.PE(str(SAMPLES / "behaviour.exe"), fast_load=True)
    image.OPTIONAL_HEADER.DATA_DIRECTORY[14].VirtualAddress = 0x2000
    path.write_bytes(bytes(image.write()))


ELSEWHERE = "Use a host with the drakvuf engine for it."


@pytest.mark.parametrize(
    ("content", "extension", "magic", "says", "elsewhere"),
    [
        (None, "exe", "PE32+ Mono/.Net assembly", "a .NET assembly", True),
        (b"PK\3\4", "docx", "Microsoft Word 2007+", "this is Microsoft Word 2007+.", True),
        (b"echo", "ps1", "ASCII text", "this is ASCII text.", True),
        (b"PK\3\4", "exe", "Microsoft Word 2007+", "under the extension of a script or a document", False),
        (b"hello\n", "exe", "ASCII text", "Windows starts no such file as .exe, so no engine", False),
        (b"", "exe", "empty", "this is an empty file", False),
        (b"MZ" + bytes(62), "exe", "MS-DOS executable", "a 16-bit program, for DOS or early Windows", False),
        (b"\xb4\x09\xcd\x21", "exe", "DOS executable (COM)", "64-bit Windows runs no 16-bit programs", False),
        (b"\x7fELF" + bytes(60), "exe", "ELF 64-bit LSB", "a program for Linux", False),
        (b"\xcf\xfa\xed\xfe" + bytes(60), "dll", "Mach-O 64-bit", "a program for macOS", False),
    ],
)
def test_everything_else_is_refused_with_a_sentence(
    engine: Emulator,
    tmp_path: Path,
    content: bytes | None,
    extension: str,
    magic: str,
    says: str,
    elsewhere: bool,
) -> None:
    """What is no Windows program is refused; another engine is named only where it could run it (E6)."""
    sample = tmp_path / f"malwar.{extension}"
    if content is None:
        dotnet(sample)
    else:
        sample.write_bytes(content)
    with pytest.raises(UnsupportedSample) as caught:
        engine.accept(dataclasses.replace(job(sample, magic=magic), extension=extension))
    sentence = str(caught.value)
    assert sentence.startswith("The emulator engine runs 32- and 64-bit Windows EXE and DLL files; this is")
    assert says in sentence
    assert sentence.endswith(ELSEWHERE) is elsewhere
    assert sentence.endswith(".")
    assert ".." not in sentence


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("behaviour.exe", "%f"),
        ("behaviour32.exe", '"%f" --flag'),
        ("behaviour32.exe", 'start "" %f'),
        ("library.dll", "rundll32 %f,Run"),
        ("library32.dll", "regsvr32 /s %f"),
    ],
)
def test_windows_programs_are_accepted(engine: Emulator, name: str, command: str) -> None:
    """EXE and DLL, 32 and 64 bit, with the start commands that belong to them."""
    engine.accept(job(SAMPLES / name, command=command))


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("behaviour.exe", "powershell.exe -File %f"),
        ("behaviour.exe", "rundll32 %f,Run"),
        ("behaviour.exe", "cmd /c echo"),
        ("library.dll", "%f"),
        ("library.dll", "regsvr32 /s other.dll"),
    ],
)
def test_a_start_command_that_cannot_be_kept_is_refused(engine: Emulator, name: str, command: str) -> None:
    """A command that the emulator would have to ignore is refused, and the sentence shows it."""
    with pytest.raises(UnsupportedSample, match="Start command: the emulator starts") as caught:
        engine.accept(job(SAMPLES / name, command=command))
    assert repr(command) in str(caught.value)


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"start_method": "runas"}, "Start method: runas needs a Windows guest"),
        ({"start_method": "shellexec"}, "Start method: shellexec"),
        ({"guest_working_directory": "C:\\Users"}, "Working directory"),
        ({"net_enable": True}, "Network"),
    ],
)
def test_what_needs_a_windows_guest_is_refused(engine: Emulator, wish: dict[str, Any], says: str) -> None:
    """A wish that only DRAKVUF can grant is refused with a sentence, never left out (H7, I8)."""
    plain = job(SAMPLES / "behaviour.exe")
    with pytest.raises(UnsupportedSample, match=says):
        engine.accept(dataclasses.replace(plain, **wish))
    engine.accept(dataclasses.replace(plain, start_method="createproc", net_enable=False))


def test_the_sample_is_not_kept_open(engine: Emulator, tmp_path: Path) -> None:
    """Looking at a file leaves it free to be removed and changes nothing in it."""
    sample = tmp_path / "malwar.exe"
    shutil.copy(SAMPLES / "behaviour.exe", sample)
    engine.accept(job(sample))
    assert sample.read_bytes() == (SAMPLES / "behaviour.exe").read_bytes()


@pytest.mark.parametrize(
    ("command", "is_dll", "launch"),
    [
        ("%f", False, Launch()),
        ('"%f" -a "b c"', False, Launch(arguments='-a "b c"')),
        ("rundll32.exe %f,Run x y", True, Launch(container="rundll32.exe", export="Run", arguments="x y")),
        ("rundll32 %f,#3", True, Launch(container="rundll32.exe", export="#3")),
        ("rundll32 %f", True, Launch(container="rundll32.exe")),
        (
            "regsvr32 /s %f",
            True,
            Launch(container="regsvr32.exe", export="DllRegisterServer", arguments="/s"),
        ),
        (
            "regsvr32 /u /s %f",
            True,
            Launch(container="regsvr32.exe", export="DllUnregisterServer", arguments="/u /s"),
        ),
    ],
)
def test_start_commands_are_understood(command: str, is_dll: bool, launch: Launch) -> None:
    """Container, export and arguments are taken from the command."""
    assert parse(command, is_dll=is_dll) == launch


def test_a_long_command_makes_a_short_sentence() -> None:
    """A hostile start command does not fill the error with itself."""
    with pytest.raises(ValueError, match="…") as caught:
        parse("x" * 1_000_000, is_dll=False)
    assert len(str(caught.value)) < 400


def test_a_job_comes_over_whole() -> None:
    """What the engine writes is what the guest program reads, on one line whatever the arguments hold."""
    sent = guest_job(sample="/w/a.exe", arguments='a\n"b" \ud800', hooks="/w/hooks")
    assert sent.to_json().count(b"\n") == 1
    assert GuestJob.from_json(sent.to_json()) == sent


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({}, f'"{configuration.FOLDER}a.exe"'),
        ({"arguments": "-x"}, f'"{configuration.FOLDER}a.exe" -x'),
        (
            {"container": "rundll32.exe", "export": "Run", "arguments": "1"},
            f'rundll32.exe "{configuration.FOLDER}a.exe",Run 1',
        ),
        (
            {"container": "regsvr32.exe", "export": "DllRegisterServer"},
            f'regsvr32.exe "{configuration.FOLDER}a.exe"',
        ),
    ],
)
def test_the_program_sees_its_command_line(more: dict[str, str], line: str) -> None:
    """The command line has the path in the guest, not the one on the host."""
    assert guest_job(sample="/var/lib/work/a.exe", **more).command_line() == line


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"state": "other", "detail": ""}',
        b"\xff",
        b'{"state": "ready"}',
        b"[" * 9,
    ],
)
def test_a_hostile_state_is_ignored(line: bytes) -> None:
    """Only a whole state counts: the guest program may have been taken over."""
    assert parse_state(line) is None


def test_a_detail_has_nothing_but_text() -> None:
    """It may quote names that the sample made."""
    told = parse_state(state_line(State.FINISHED, "a\x1b[2J\nb\ud800.exe"))
    assert told is not None
    assert told.detail == "a\ufffd[2J\ufffdb\ufffd.exe"


def test_states_are_bounded() -> None:
    """A state comes over, its text cut."""
    told = parse_state(state_line(State.FINISHED, "x" * 5000))
    assert told == Told(State.FINISHED, "x" * 1000, Account())


def test_an_account_comes_over() -> None:
    """What a run came to is in its last state; the longest that is written is read whole."""
    missing = tuple(Missing(name="\u20ac" * 100, count=2**53 - 1, guessed=True) for _ in range(MOST_TOLD))
    account = Account(complete=True, in_start_up=True, calls=9, missing=missing)
    line = state_line(State.FINISHED, "\u20ac" * 1000, account)
    assert len(line) <= MAX_STATE
    assert parse_state(line) == Told(State.FINISHED, "\u20ac" * 1000, account)


@pytest.mark.parametrize(
    "account",
    [
        [],
        {"calls": -1},
        {"calls": True},
        {"calls": 2**53},
        {"missing": 1},
        {"missing": [1]},
        {"missing": [{"name": "f", "count": "1", "guessed": False}]},
        {"missing": [{"name": "f"}]},
    ],
)
def test_a_hostile_account_is_none(account: object) -> None:
    """A state with an account that is none of ours counts as no state; an empty list says nothing."""
    line = json.dumps({"state": "finished", "detail": "", "account": account}).encode()
    assert parse_state(line) == (Told(State.FINISHED, "", Account()) if account == [] else None)


def test_an_account_is_bounded_and_cleaned() -> None:
    """Names come from the program: neither their number nor what is in them gets into the record as it is."""
    many = [{"name": "\x1b[31m" + "x" * 500, "count": 1, "guessed": 1}] * 5000
    line = json.dumps(
        {"state": "finished", "detail": "", "account": {"complete": 1, "missing": many}}
    ).encode()
    told = parse_state(line)
    assert told is not None
    assert not told.account.complete
    assert len(told.account.missing) == MAX_MISSING
    assert told.account.missing[0].name.isprintable()
    assert len(told.account.missing[0].name) <= 101
    assert not told.account.missing[0].guessed


def test_what_the_caller_says_about_the_stack() -> None:
    """gcc's code after a stdcall call tells what the callee was to remove; other code tells nothing."""
    assert stdcall.words_restored_by_caller(b"\x83\xec\x0c\x90\x90\x90") == 3
    assert stdcall.words_restored_by_caller(b"\x81\xec\x10\x00\x00\x00") == 4
    assert stdcall.words_restored_by_caller(b"\x85\xc0\x74\x05\x90\x90") is None
    assert stdcall.words_restored_by_caller(b"\x83") is None
    assert stdcall.is_cdecl("api-ms-win-crt-stdio-l1-1-0")
    assert not stdcall.is_cdecl("KERNEL32")


def test_the_configuration_is_one_that_can_be_named(engine: Emulator) -> None:
    """Each run has the same Windows, Speakeasy's schema accepts it, and its digest is the snapshot's."""
    speakeasy_takes(configuration.build())
    speakeasy_takes(configuration.for_container(configuration.build(), "rundll32.exe", "x"))
    assert configuration.build() == configuration.build()
    snapshot = engine.prepare(job(SAMPLES / "behaviour.exe"))
    assert snapshot.version == configuration.CONFIGURATION_DATE
    assert snapshot.sha256 == configuration.digest()
    assert engine.version().startswith("emulator speakeasy-1.")


def test_the_engine_itself_imports_no_emulator() -> None:
    """Speakeasy is imported in the guest program only, behind its limits."""
    program = (
        "import sys, drakcelery.engines.emulator; print({'speakeasy', 'unicorn', 'dpkt'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
