"""Analyses as programs read them: from a directory, whatever is in it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from karton.core import Resource, Task

from drakcelery.artifacts.log import LINE_LIMIT
from drakcelery.behaviour.report import Report
from drakcelery.errors import ArtifactMissing, ArtifactUnreadable
from drakcelery.model.analysis import Execution
from drakcelery.reading import Analysis, Dump
from drakcelery.reading.dumps import DIRECTORY_LIMIT, Dumps, directory_size
from drakcelery.reading.sources import parsed, temporary
from tests.builders import OUTCOME, collected
from tests.examples import examples
from tests.reference import DOCS


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """What `drakcelery fetch` downloads."""
    collected(tmp_path)
    return tmp_path / "analysis"


def test_a_directory_that_fetch_made(directory: Path) -> None:
    """Metadata, logs, events, dumps and traffic: each by its own type."""
    one = Analysis.from_directory(directory)
    assert one.uid == "a-1"
    assert one.metadata.execution is Execution.EXECUTED
    assert (one.metadata.time_started, one.metadata.time_finished) == (OUTCOME.started, OUTCOME.finished)
    assert one.metadata.options.timeout == 60
    assert one.logs == ("inject", "procmon", "tlsmon")
    assert list(one.events("procmon")) == [{"Plugin": "procmon", "pid": 4}]
    assert one.artifacts["procmon.log"] == (directory / "procmon.log").stat().st_size
    with one.dumps() as dumps:
        assert list(dumps) == [
            Dump(name="1000_00000000000000aa", size=2, base_address="0x1000"),
            Dump(name="2000_00000000000000bb", size=101, base_address="0x2000"),
        ]
        with dumps.open("dumps/1000_00000000000000aa") as dump:
            assert dump.read() == b"MZ"
    with one.pcap() as pcap:
        assert pcap.read(4) == struct.pack("<I", 0xA1B2C3D4)
    assert one.report.analysis_uid == "a-1"
    assert one.report.ending.observed == "not_seen"
    assert Report.model_validate(one.report_json) == one.report
    assert one.process_tree == []
    with one.open("wireshark_key_file.txt") as keys:
        assert keys.read().startswith(b"CLIENT_RANDOM")


def test_plugins_that_write_under_other_names(directory: Path) -> None:
    """These are told, instead of no events; a name is on if a plugin was that writes under it."""
    path = directory / "metadata.json"
    metadata = json.loads(path.read_bytes())
    path.write_text(json.dumps({**metadata, "plugins": ["syscalls"]}))
    one = Analysis.from_directory(directory)
    assert [list(one.events(name)) for name in ("syscalls", "syscall", "sysret")] == [[], [], []]
    (directory / "syscall.log").write_bytes(b'{"Plugin": "syscall"}\n')
    one = Analysis.from_directory(directory)
    with pytest.raises(ArtifactMissing, match=r"has no syscalls\.log: syscalls writes as syscall$"):
        one.events("syscalls")
    assert list(one.events("syscall")) == [{"Plugin": "syscall"}]
    with pytest.raises(ArtifactMissing, match=r"no procdump\.log, and the plugin was not on"):
        one.events("procdump")


def test_a_packed_log_is_not_an_empty_one(directory: Path) -> None:
    """Somebody has packed the log: it is said, instead of that nothing happened."""
    (directory / "procmon.log").rename(directory / "procmon.log.gz")
    with pytest.raises(ArtifactMissing, match=r"has no procmon\.log, but procmon\.log\.gz: unpack it$"):
        Analysis.from_directory(directory).events("procmon")


def test_a_directory_that_cannot_be_entered(directory: Path) -> None:
    """It is not taken for one in which there is no analysis."""
    with pytest.raises(ArtifactUnreadable, match="a: File name too long"):
        Analysis.from_directory(directory / ("a" * 5000))
    with pytest.raises(ArtifactMissing, match="is no analysis"):
        Analysis.from_directory(directory / "procmon.log")
    with pytest.raises(ArtifactMissing, match="is no analysis"):
        Analysis.from_directory("a\0b")


def test_a_directory_that_cannot_be_read(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the system says is an error of ours: gone, no room for a download."""
    one = Analysis.from_directory(directory)
    shutil.rmtree(directory)
    with pytest.raises(ArtifactUnreadable, match="No such file"):
        one.artifacts  # noqa: B018 it is a property
    monkeypatch.setattr(tempfile, "tempdir", str(directory / "gone"))
    with pytest.raises(ArtifactUnreadable, match="a log cannot be downloaded: FileNotFoundError"):
        temporary(lambda path: path.touch(), "a log", size=0)
    with pytest.raises(ArtifactUnreadable, match="a file: Input/output error"):
        parsed(io.BufferedReader(Unreadable()), "a file")


class Unreadable(io.RawIOBase):
    """A file of which no byte can be read, as on a disk that is broken."""

    def readable(self) -> bool:
        """It says so."""
        return True

    def readinto(self, _buffer: object) -> int:
        """Raises."""
        raise OSError(5, "Input/output error")


def test_metadata_is_what_was_written(directory: Path) -> None:
    """The reader's model says what the writer wrote, nothing less."""
    written = json.loads((directory / "metadata.json").read_bytes())
    read = Analysis.from_directory(directory).metadata.payload()
    times = {"time_started": OUTCOME.started, "time_finished": OUTCOME.finished}
    assert read == written | times


def test_what_an_analysis_lacks(directory: Path) -> None:
    """A plugin that wrote nothing has no events; for anything else the error says what there is."""
    one = Analysis.from_directory(directory)
    assert list(one.events("apimon")) == []
    with pytest.raises(ArtifactMissing, match=r"no regmon\.log, and the plugin was not on; .*procmon"):
        one.events("regmon")
    with pytest.raises(ArtifactMissing, match=r"no plugin writes '\.\./x\.log'"):
        one.events("../x")
    with pytest.raises(ArtifactMissing, match=r"has no 'screenshots\.zip'; there are dumps\.pcap, dumps"):
        one.open("screenshots.zip").__enter__()
    (directory / "dumps.pcap").unlink()
    with pytest.raises(ArtifactMissing, match=r"dumps\.pcap"):
        Analysis.from_directory(directory).pcap().__enter__()
    with Analysis.from_directory(directory).dumps() as dumps, pytest.raises(ArtifactMissing, match="no dump"):
        dumps.open("3000_00000000000000cc").__enter__()
    (directory / "metadata.json").unlink()
    with pytest.raises(ArtifactMissing, match="is no analysis"):
        Analysis.from_directory(directory)
    with pytest.raises(ArtifactMissing, match="is no analysis"):
        Analysis.from_directory(directory / "none")


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (b"\n", "no JSON"),
        (b'{"Plugin": "procmon"\n', "no JSON"),
        (b'{"a": "\xff"}\n', "no JSON"),
        (b"[1]\n", "no object"),
        (b"null\n", "no object"),
        (b"[" * 100_000 + b"\n", "no JSON"),
        (b'{"a": "' + b"x" * (3 * LINE_LIMIT) + b'"}\n', "bytes or more"),
    ],
)
def test_odd_lines(directory: Path, odd: bytes, why: str) -> None:
    """A line that is no event is counted and named; those before it and after it are there."""
    log = directory / "procmon.log"
    log.write_bytes(b'{"n": 1}\n' + odd + b'{"n": 2}\n' + b'{"n": 3}')
    events = Analysis.from_directory(directory).events("procmon")
    for _ in range(2):
        assert [event["n"] for event in events] == [1, 2, 3]
        assert (events.lines, events.odd) == (4, 1)
        [line] = events.odd_lines
        assert line.number == 2
        assert why in line.why


def test_odd_lines_without_end(directory: Path) -> None:
    """All are counted, and only the first are kept."""
    (directory / "procmon.log").write_bytes(b"\n" * 10_000)
    events = Analysis.from_directory(directory).events("procmon")
    assert list(events) == []
    assert (events.odd, len(events.odd_lines)) == (10_000, 20)


def test_links_are_no_artifacts(directory: Path, tmp_path: Path) -> None:
    """What is no plain file with a plain name is not read, even if it is put there later."""
    secret = tmp_path / "secret"
    secret.write_text('{"secret": 1}\n')
    (directory / "regmon.log").symlink_to(secret)
    (directory / ".hidden").write_text("x")
    os.mkfifo(directory / "filetracer.log")
    one = Analysis.from_directory(directory)
    assert not {"regmon.log", ".hidden", "filetracer.log"} & set(one.artifacts)
    events = one.events("procmon")
    (directory / "procmon.log").unlink()
    (directory / "procmon.log").symlink_to(secret)
    with pytest.raises(ArtifactUnreadable, match=r"procmon\.log: is a link"):
        list(events)
    (directory / "metadata.json").rename(directory / "elsewhere")
    (directory / "metadata.json").symlink_to(directory / "elsewhere")
    with pytest.raises(ArtifactMissing, match="is no analysis"):
        Analysis.from_directory(directory)


@pytest.mark.parametrize("text", [b"{", b"[]", b"{}", b'{"sample_sha256": 1}', b" " * (16 * 1024**2 + 1)])
def test_bad_metadata(directory: Path, text: bytes) -> None:
    """What is no metadata is said in a sentence that names the file."""
    (directory / "metadata.json").write_bytes(text)
    with pytest.raises(ArtifactUnreadable, match=r"analysis: metadata"):
        _ = Analysis.from_directory(directory).metadata


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"version": 2}'])
def test_a_bad_report(directory: Path, text: bytes) -> None:
    """Nor is what is no report taken for one, or a version that may mean something else."""
    (directory / "report.json").write_bytes(text)
    with pytest.raises(ArtifactUnreadable, match=r"report\.json is"):
        _ = Analysis.from_directory(directory).report
    (directory / "report.json").unlink()
    with pytest.raises(ArtifactMissing, match=r"has no 'report\.json'"):
        _ = Analysis.from_directory(directory).report


def test_metadata_by_an_older_version(directory: Path) -> None:
    """What older versions did not write has its default."""
    path = directory / "metadata.json"
    written = json.loads(path.read_bytes())
    for name in ("complete", "log_dropped", "id", "status", "file", "options", "vm_id", "windows_error"):
        del written[name]
    path.write_text(json.dumps(written))
    metadata = Analysis.from_directory(directory).metadata
    assert (metadata.complete, metadata.log_dropped.bytes, metadata.vm_id) == (None, 0, None)


def test_names_in_a_zip(directory: Path) -> None:
    """Members with names that no dump has are counted and left out."""
    with zipfile.ZipFile(directory / "dumps.zip", "w") as archive:
        for name in ("../../etc/passwd", "/dumps/x", "dumps/../x", "dumps/", "dumps/.x", "dumps/ok", "x"):
            archive.writestr(name, b"data")
    with Analysis.from_directory(directory).dumps() as dumps:
        assert [dump.name for dump in dumps] == ["ok"]
        assert (len(dumps), dumps.odd) == (1, 5)
        with pytest.raises(ArtifactMissing):
            dumps.open("../../etc/passwd").__enter__()


def test_a_dump_that_is_damaged(directory: Path) -> None:
    """One whose bytes are not what the zip says is an error as it is read; the others can be read."""
    path = directory / "dumps.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("dumps/bad", b"A" * 100)
        archive.writestr("dumps/good", b"B" * 100)
    path.write_bytes(path.read_bytes().replace(b"A" * 100, b"C" * 100))
    with Analysis.from_directory(directory).dumps() as dumps:
        with dumps.open("bad") as dump, pytest.raises(ArtifactUnreadable, match="the dump bad"):
            dump.read()
        with dumps.open("good") as dump:
            assert dump.read() == b"B" * 100


def test_errors_of_whoever_reads_stay_theirs(directory: Path) -> None:
    """What goes wrong in the reader's own block is not taken for an error of the dump."""
    with (
        Analysis.from_directory(directory).dumps() as dumps,
        pytest.raises(RuntimeError, match="mine"),
        dumps.open("1000_00000000000000aa"),
    ):
        raise RuntimeError("mine")


@pytest.mark.parametrize("zip64", [False, True])
def test_a_listing_that_fills_the_memory(directory: Path, zip64: bool) -> None:
    """A zip that says that its listing is huge is refused before it is read."""
    with zipfile.ZipFile(directory / "dumps.zip", "w") as archive:
        archive.writestr("dumps/x", b"x")
    data = (directory / "dumps.zip").read_bytes()
    end = bytearray(data[-22:])
    huge = DIRECTORY_LIMIT + 1
    extra = b""
    if zip64:
        record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, huge, 0)
        extra = record + struct.pack("<4sIQI", b"PK\6\7", 0, len(data) - 22, 1)
    else:
        struct.pack_into("<I", end, 12, huge)
    (directory / "dumps.zip").write_bytes(data[:-22] + extra + end)
    with pytest.raises(ArtifactUnreadable, match=f"the listing of dumps.zip has {huge} bytes"):
        Analysis.from_directory(directory).dumps().__enter__()
    (directory / "dumps.zip").write_bytes(b"no zip at all")
    with pytest.raises(ArtifactUnreadable, match="is no zip"):
        Analysis.from_directory(directory).dumps().__enter__()


@pytest.mark.parametrize("comment", [b"", b"x" * 1000])
def test_the_size_of_a_listing(tmp_path: Path, comment: bytes) -> None:
    """It is what zipfile would read."""
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = comment
        for number in range(100):
            archive.writestr(f"dumps/{number}", b"x")
    with path.open("rb") as file:
        assert directory_size(file) == path.stat().st_size - 22 - len(comment) - archive.start_dir


def test_a_task_that_is_no_analysis() -> None:
    """It is said at once."""
    task = Task({"type": "sample"}, payload={"sample": Resource("x", b"x")})
    with pytest.raises(ArtifactMissing, match="no payload 'metadata'"):
        Analysis.of(task)
    with pytest.raises(ArtifactMissing, match="no analysis can have the uid"):
        Analysis.from_bucket("../x")


def test_a_task_with_local_resources(directory: Path) -> None:
    """The task of a unit test, whose resources were not uploaded, can be read as well."""
    metadata = json.loads((directory / "metadata.json").read_bytes())
    log = Resource("procmon.log", path=str(directory / "procmon.log"))
    task = Task({"type": "analysis"}, payload={"metadata": metadata, "procmon.log": log})
    one = Analysis.of(task)
    assert list(one.events("procmon")) == [{"Plugin": "procmon", "pid": 4}]
    with pytest.raises(ArtifactMissing, match=r"has no 'dumps\.zip'"):
        one.dumps().__enter__()


def test_needs_neither_celery_nor_flower() -> None:
    """A program that reads analyses loads none of what runs them."""
    code = (
        "import sys, drakcelery.reading;"
        "print(sorted({'celery', 'kombu', 'flower', 'tornado', 'drakcelery.celery'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_page(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example in docs/analyses.md runs as it is there."""
    code = (DOCS / "analyses.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(directory.parent)
    exec(compile(code, "docs/analyses.md", "exec"), {})  # noqa: S102 our own page
    shown = capsys.readouterr().out
    assert "a-1 replay 0123 None" in shown
    assert "1 lines, 0 of them" in shown
    assert "1000_00000000000000aa 2 0x1000" in shown


def zipped(method: int) -> bytes:
    """A zip with a dump, packed by *method*."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("dumps/1000_00000000000000aa", b"MZ" + bytes(range(256)) * 8)
    return file.getvalue()


METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
ZIPS = {method: zipped(method) for method in METHODS}


@examples(400)
@given(
    st.sampled_from(METHODS), st.lists(st.tuples(st.integers(0, 2**16), st.binary(max_size=4)), max_size=4)
)
def test_a_damaged_zip(method: int, changes: list[tuple[int, bytes]]) -> None:
    """Whatever its bytes are, there are dumps, or an error of ours."""
    data = bytearray(ZIPS[method])
    for place, written in changes:
        at = place % len(data)
        data[at : at + len(written)] = written
    with contextlib.suppress(ArtifactUnreadable), Dumps.of(io.BytesIO(data), "here") as dumps:
        for one in dumps:
            with contextlib.suppress(ArtifactUnreadable), dumps.open(one.name) as dump:
                while dump.read(65536):
                    pass


def test_a_member_without_a_name() -> None:
    """It is odd, and the dumps beside it are read."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("nameless", b"")
        archive.writestr("dumps/1000_00000000000000aa", b"MZ")
    data = file.getvalue().replace(b"nameless", b"\0ameless")
    with Dumps.of(io.BytesIO(data), "here") as dumps:
        assert (dumps.odd, [one.name for one in dumps]) == (1, ["1000_00000000000000aa"])


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_a_damaged_member(method: int) -> None:
    """Each decompressor says it by an exception of its own."""
    data = bytearray(ZIPS[method])
    begin = data.index(b"dumps/") + len("dumps/1000_00000000000000aa")
    data[begin : begin + 40] = b"\xff" * 40
    reading = Dumps.of(io.BytesIO(data), "here")
    with reading as dumps, pytest.raises(ArtifactUnreadable), dumps.open("1000_00000000000000aa") as dump:
        dump.read()
