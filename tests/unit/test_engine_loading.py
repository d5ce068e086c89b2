"""Which files Windows does not start, as far as the emulator has to know (E6)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pefile
import pytest

from drakcelery.engines import Detonation, loading
from drakcelery.engines.emulator import Emulator, create
from drakcelery.model.analysis import Execution
from drakcelery.model.program_file import headers
from drakcelery.settings import DrakcelerySection, Settings

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
PROGRAMS = ("behaviour.exe", "behaviour32.exe", "dropper.exe", "endless.exe", "library.dll", "library32.dll")


def optional(**values: int) -> Callable[[Any], None]:
    """Sets fields of the optional header."""

    def change(image: Any) -> None:
        for name, value in values.items():
            setattr(image.OPTIONAL_HEADER, name, value)

    return change


def header(**values: int) -> Callable[[Any], None]:
    """Sets fields of the file header."""

    def change(image: Any) -> None:
        for name, value in values.items():
            setattr(image.FILE_HEADER, name, value)

    return change


def gap(image: Any) -> None:
    """Moves the last section up, so that there is a hole before it."""
    image.sections[-1].VirtualAddress += 0x10000
    image.OPTIONAL_HEADER.SizeOfImage += 0x10000


def changed(path: Path, change: Callable[[Any], None], name: str = "behaviour.exe") -> Path:
    """A sample with its headers changed."""
    image = pefile.PE(data=(SAMPLES / name).read_bytes(), fast_load=True)
    change(image)
    path.write_bytes(bytes(image.write()))
    return path


def judged(path: Path) -> loading.Refused | None:
    """What is said of a file."""
    with headers(path) as image:
        return loading.refused(image, path.stat().st_size)


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_started(name: str) -> None:
    """Programs as compilers make them are not refused."""
    assert judged(SAMPLES / name) is None


@pytest.mark.parametrize(
    ("change", "why", "code"),
    [
        (header(Machine=0xAA64), "a program for ARM64", 216),
        (header(Machine=0x1C4), "a program for ARM", 216),
        (header(Machine=0x1234), "an unknown processor (0x1234)", 216),
        (header(Machine=0x14C), "the other word size", 193),
        (header(Characteristics=0x20), "not executable", 193),
        (optional(Subsystem=1), "a driver", 129),
        (optional(Subsystem=10), "a program for EFI", 129),
        (optional(Subsystem=99), "a program for the subsystem 99", 129),
        (optional(SectionAlignment=0x1001), "alignment", 193),
        (optional(SectionAlignment=0), "alignment", 193),
        (optional(FileAlignment=0x10), "alignment", 193),
        (optional(FileAlignment=0x2000), "alignment", 193),
        (optional(SizeOfImage=0), "size in memory", 193),
        (optional(SizeOfImage=0x7FFFFFFF), "size in memory", 193),
        (optional(SizeOfImage=0x1000), "less than its sections need", 193),
        (optional(ImageBase=0x140000800), "base address", 193),
        (optional(AddressOfEntryPoint=0x7FFF0000), "entry point is outside", 193),
        (gap, "do not follow one another", 193),
    ],
)
def test_what_windows_does_not_start(
    tmp_path: Path, change: Callable[[Any], None], why: str, code: int
) -> None:
    """Each of the rules, with what Windows answers."""
    refused = judged(changed(tmp_path / "a.exe", change))
    assert refused is not None
    assert why in refused.why
    assert refused.code == code


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (optional(Subsystem=2), "behaviour.exe"),
        (optional(AddressOfEntryPoint=0), "library.dll"),
        (optional(SizeOfImage=0x100000), "behaviour.exe"),
        (optional(CheckSum=1), "behaviour.exe"),
        (header(TimeDateStamp=0), "behaviour.exe"),
        (optional(Subsystem=0), "library.dll"),
    ],
)
def test_what_looks_odd_and_starts(tmp_path: Path, change: Callable[[Any], None], name: str) -> None:
    """Nothing is refused that Windows starts."""
    assert judged(changed(tmp_path / name, change, name)) is None


def test_a_file_that_is_cut_off(tmp_path: Path) -> None:
    """Where it ends before its last section does, Windows takes it for no program."""
    whole = (SAMPLES / "behaviour.exe").read_bytes()
    sections = pefile.PE(data=whole, fast_load=True).sections
    last = max(sections, key=lambda one: one.PointerToRawData)
    needed = last.PointerToRawData + min(last.SizeOfRawData, last.Misc_VirtualSize)
    path = tmp_path / "a.exe"
    path.write_bytes(whole[:needed])
    assert judged(path) is None
    path.write_bytes(whole[: needed - 1])
    assert (refused := judged(path)) is not None
    assert "cut off" in refused.why


@pytest.mark.parametrize(
    ("head", "size", "why"),
    [
        (b"MZ" + bytes(58) + (0x400).to_bytes(4, "little") + b"cannot be run in DOS mode", 89, "cut off"),
        (b"MZ" + bytes(58) + (0x40).to_bytes(4, "little") + b"PE\0\0\x64", 69, "headers are broken"),
        (b"MZ" + bytes(58) + (0x400).to_bytes(4, "little") + b"\xb4\x09", 66, None),
        (b"MZ", 2, None),
        (b"", 0, None),
        (b"\x7fELF" + bytes(60), 64, None),
    ],
)
def test_what_is_no_whole_pe(head: bytes, size: int, why: str | None) -> None:
    """A PE that ends before its headers do is one all the same; a DOS program, or nothing, is none."""
    refused = loading.unreadable(head, size)
    assert (refused is None) is (why is None)
    assert why is None or why in refused.why  # type: ignore[union-attr] # not None here


@pytest.fixture
def engine(tmp_path: Path) -> Emulator:
    """The emulator engine with its state below the test's directory."""
    return create(Settings(drakcelery=DrakcelerySection(state_dir=tmp_path / "state")))


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        (b"CYGWIN1.dll", True),
        (b"msys-2.0.dll", True),
        (b"libssp-0.dll", True),
        (b"libssl-3.dll", False),
        (b"KERNEL32.dll", False),
    ],
)
def test_a_runtime_that_no_windows_has(tmp_path: Path, name: bytes, missing: bool) -> None:
    """A program that needs one does not begin where nobody brings it; of other DLLs nobody knows."""
    path = tmp_path / "a.exe"
    whole = (SAMPLES / "behaviour.exe").read_bytes()
    assert b"KERNEL32.dll" in whole
    path.write_bytes(whole.replace(b"KERNEL32.dll", name.ljust(12, b"\0")))
    with headers(path) as image:
        refused = loading.lacking(image)
    assert (refused is not None) is missing
    assert refused is None or (name.decode() in refused.why and refused.code == 126)


@pytest.mark.parametrize("damage", ["arm", "driver", "cut", "headers", "runtime"])
def test_a_refused_file_is_an_outcome(engine: Emulator, tmp_path: Path, damage: str) -> None:
    """It is accepted as any program, nothing of it is emulated, and the outcome says what Windows says."""
    path = tmp_path / "a.exe"
    shutil.copy(SAMPLES / "behaviour.exe", path)
    match damage:
        case "arm":
            changed(path, header(Machine=0xAA64))
        case "driver":
            changed(path, optional(Subsystem=1))
        case "runtime":
            path.write_bytes(path.read_bytes().replace(b"KERNEL32.dll", b"cygwin1.dll\0"))
        case "cut":
            path.write_bytes(path.read_bytes()[:0x600])
        case _:
            path.write_bytes(path.read_bytes()[:0xA0])
    work = Detonation(
        uid="u",
        slot="vm-1",
        sample=path,
        extension="exe",
        magic="data",
        start_command="%f",
        plugins=("apimon",),
        timeout=1,
        raw=tmp_path / "raw",
        hooks=None,
    )
    engine.accept(work)
    outcome = engine.run(work)
    assert outcome.execution is Execution.NOT_EXECUTED
    assert outcome.complete is False
    assert outcome.windows_error in (126, 129, 193, 216)
    assert outcome.reason is not None
    assert outcome.reason.startswith("Windows does not start the file: ")
    assert outcome.start_command == '"C:\\Users\\user\\Desktop\\a.exe"'
    assert not work.log.exists()
