"""What the reader leaves unparsed changes nothing: the report is that of a reading that parses every line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.report import guest_lines
from drakcelery.behaviour import files as files_module
from drakcelery.behaviour import processes as processes_module
from drakcelery.behaviour import report as form
from drakcelery.behaviour.assembly import assemble
from drakcelery.behaviour.methods import SHORTEST, Sieve, method_of
from drakcelery.behaviour.process_tree import process_tree
from drakcelery.behaviour.reader import _SHOWN, Reader, Written
from drakcelery.testing import RECORDED
from tests.builders import OUTCOME
from tests.examples import examples
from tests.hostile import KEYS, METHODS, PLUGINS, VALUES, Line

Groups = Mapping[str, Sequence[bytes]]


class Plain:
    """Reads as the reader does, but parses every line and remembers none."""

    def __init__(self) -> None:
        self.reader = Reader()

    def read(self, groups: Groups) -> None:
        """As :meth:`Reader.read`."""
        for plugin, lines in groups.items():
            known = self.reader.plugins.setdefault(plugin, Written(0, lines[0][:_SHOWN], b""))
            known.lines += len(lines)
            known.last = lines[-1][:_SHOWN]
        for line in groups.get("procmon", ()):
            self.reader.processes._unsettle()
            self.reader._process(line)
        for plugin, lines in groups.items():
            if plugin in self.reader._read_along:
                self.reader._read_lines(lines, iter, self.reader._read_along[plugin][1])


def result(reader: Reader) -> tuple[Any, ...]:
    """All that comes of a reading."""
    report = assemble(
        reader,
        uid="uid",
        sample=form.Sample(sha256="0" * 64, name="malwar.exe", magic="PE32"),
        run=form.Run(
            engine="replay",
            host="h",
            slot="vm-1",
            started=1,
            finished=2,
            snapshot_version=1,
            start_command="x",
            start_method=None,
            net_enable=False,
            timeout=1,
            plugins=(),
        ),
        outcome=OUTCOME,
        packed=(),
    )
    return report.model_dump(), process_tree(reader.processes), reader.budget.left_out


def blocks(lines: Iterable[bytes], size: int) -> Iterator[Groups]:
    """*lines* by plugin, *size* of them at a time, as the splitter gives them."""
    waiting = list(lines)
    for begin in range(0, len(waiting), size):
        groups: dict[str, list[bytes]] = {}
        for line in waiting[begin : begin + size]:
            groups.setdefault(orjson.loads(line)["Plugin"], []).append(line)
        yield groups


def assert_same(lines: Sequence[bytes], *, block: int) -> Reader:
    """Both readings say the same; returns the quick one."""
    quick, plain = Reader(), Plain()
    for groups in blocks(lines, block):
        quick.read(groups)
        plain.read(groups)
    assert result(quick) == result(plain.reader)
    return quick


def written(entries: Iterable[Line], *, compact: bool = True, ascii_only: bool = True) -> list[bytes]:
    """Lines as DRAKVUF writes them, or, not *compact*, as the emulator does."""
    separators = (",", ":") if compact else None
    return [
        json.dumps(one, separators=separators, ensure_ascii=ascii_only).encode("utf-8", "replace") + b"\n"
        for one in entries
    ]


def test_the_recorded_logs() -> None:
    """Those of a real run of the emulator."""
    logs = [path for path in sorted(RECORDED.glob("*.log")) if path.stem in {*PLUGINS, "memdump"}]
    lines = [line for path in logs for line in path.read_bytes().splitlines(keepends=True)]
    assert assert_same(lines, block=7).files.table


@pytest.mark.parametrize("compact", [True, False])
def test_a_log_like_that_of_a_guest(compact: bool) -> None:
    """That of the benchmark, of which most is read by its bytes."""
    reader = assert_same(written(guest_lines(6000), compact=compact), block=400)
    assert len(reader.files.table) > 50
    assert len(reader.registry.table) > 10
    assert reader.calls.table


MORE_METHODS = (
    *("NtOpenFile", "NtReadFile", "NtDeleteFile", "NtQueryValueKey", "NtDeleteValueKey", "NtClose"),
    *("NtProtectVirtualMemory", "NtCreateProcessEx", "connect", "system", "BitBlt", "GetKeyState"),
    *("GetKeyboardLayout", "IsDebuggerPresent", "NtSetValue", "NtCreateFileX", "Method", ""),
)
MISLEADING = (
    *('"Method":"NtWriteFile"', "Method", "DesiredAccess", "EventUID", "PID", "NtSetValueKey", "FILE_CREATE"),
    *('","Method":"NtDeleteKey', "\\", '\\"', "é\n", '"NtSetValueKey"', "GENERIC_WRITE"),
)
"""Texts that the sample chooses, such as a file's name."""
FLAGS = (
    *("FILE_READ_DATA | SYNCHRONIZE", "FILE_WRITE_DATA", "DELETE", "GENERIC_ALL", "0x12019f", ""),
    *("FILE_READ_ATTRIBUTES", "FILE_ADD_FILE", 'FILE_READ_DATA" | DELETE', "\\", "\u00e9 | DELETE"),
)
PIDS = st.sampled_from([4, 8, 12, 16])
NAMES = st.sampled_from(MISLEADING) | st.text(max_size=8)
HEADS = st.fixed_dictionaries(
    {
        "Plugin": st.sampled_from(PLUGINS),
        "TimeStamp": st.sampled_from(["1700000000.500000", "1700000009.000001", "x"]),
        "PID": PIDS,
        "PPID": PIDS,
        "TID": PIDS,
        "UserId": st.just(1),
        "ProcessName": st.sampled_from(
            ["\\Device\\HarddiskVolume2\\Windows\\System32\\svchost.exe", "malwar.exe"]
        )
        | NAMES,
    }
)
TAILS = st.fixed_dictionaries(
    {},
    optional={
        "FileName": NAMES,
        "FileHandle": st.sampled_from(["0x4", "0x8", 4]),
        "IoStatusBlock": st.integers(0, 4),
        "DesiredAccess": st.sampled_from(FLAGS),
        "ShareAccess": st.sampled_from(["FILE_SHARE_READ | FILE_SHARE_DELETE", ""]),
        "CreateDisposition": st.sampled_from(
            ["FILE_OPEN", "FILE_OPEN | FILE_OVERWRITE | FILE_OVERWRITE_IF", "CREATE_ALWAYS", ""]
        ),
        "CreateOptions": st.sampled_from(["", "FILE_DELETE_ON_CLOSE", "FILE_NON_DIRECTORY_FILE"]),
        "OpenOptions": st.sampled_from(["", "FILE_DELETE_ON_CLOSE", "FILE_DIRECTORY_FILE"]),
        "Operation": st.sampled_from(["FileDispositionInformation", "FileRenameInformation", "other"]),
        "FileSrc": NAMES,
        "FileDst": NAMES,
        "Key": NAMES,
        "ValueName": NAMES,
        "Value": NAMES,
        "Status": st.sampled_from(["0x0", "0xc0000022"]),
        "NewPid": PIDS,
        "ExitPid": PIDS,
        "ClientID": PIDS,
        "ProcessHandle": st.just("0x44"),
        "CommandLine": NAMES,
        "ImagePathName": NAMES,
        "RunningProcess": NAMES,
        "Arguments": st.lists(st.sampled_from(["Arg0=0x44", 'Arg1=0x1:"x"']), max_size=3),
        "Extra": st.just({}),
    },
)


@st.composite
def likely_lines(draw: st.DrawFn) -> Line:
    """A line in DRAKVUF's order of keys."""
    line: Line = draw(HEADS)
    line |= {"Method": draw(st.sampled_from((*METHODS, *MORE_METHODS)))} if draw(st.integers(0, 3)) else {}
    line["EventUID"] = hex(draw(st.integers(1, 99)))
    return {**line, **draw(TAILS)}


UNLIKELY_LINES = st.fixed_dictionaries(
    {"Plugin": st.sampled_from(PLUGINS)},
    optional={"Method": st.sampled_from((*METHODS, *MORE_METHODS))}
    | dict.fromkeys(KEYS, VALUES | NAMES)
    | {"DesiredAccess": st.sampled_from(FLAGS) | NAMES | st.none() | st.integers()},
)


OPENED: Line = {
    "Plugin": "filetracer",
    "TimeStamp": "1700000000.500000",
    "PID": 8,
    "PPID": 4,
    "ProcessName": "\\Device\\HarddiskVolume2\\Windows\\System32\\svchost.exe",
    "Method": "NtCreateFile",
    "EventUID": "0x1",
    "FileName": "a",
    "FileHandle": "0x4",
}
READ: Line = {"DesiredAccess": "FILE_READ_DATA | SYNCHRONIZE"}
OPENINGS: Sequence[Line] = (
    {"FileName": '"Method":"NtWriteFile"', "Extra": {}, "CreateDisposition": "FILE_OPEN", **READ},
    {"FileName": '"DesiredAccess":"DELETE","', **READ, "CreateDisposition": "FILE_OPEN", "CreateOptions": ""},
    {"CreateOptions": "FILE_DELETE_ON_CLOSE", **READ, "CreateDisposition": "FILE_OPEN"},
    {"Method": "NtOpenFile", "OpenOptions": "FILE_DELETE_ON_CLOSE", **READ},
    {"Method": "NtOpenFile", "CreateDisposition": "FILE_CREATE", **READ, "OpenOptions": ""},
    {"Method": "NtOpenFile", **READ, "OpenOptions": "", "FileName": '"DesiredAccess":"DELETE"'},
    {"DesiredAccess": '" | DELETE', "CreateDisposition": "FILE_OPEN", "CreateOptions": ""},
    {"Extra": {**READ, "CreateDisposition": "FILE_OPEN", "CreateOptions": ""}},
    {"Extra": {**READ}, "CreateDisposition": "FILE_OPEN", "CreateOptions": ""},
    {"Method": "NtSetInformationFile", "FileName": "FileRename", "Operation": "FileBasicInformation"},
    {"Method": "NtSetInformationFile", "Operation": "FileRenameInformation", "FileDst": "b"},
)
"""Files that are opened, or set, in ways that their lines' bytes may mislead about."""


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("fields", OPENINGS, ids=json.dumps)
def test_how_a_file_is_opened(fields: Line, compact: bool) -> None:
    """Where the keys stand changes nothing, nor what the sample's texts are, nor that a line comes again."""
    lines = written([{**OPENED, **fields}, {**OPENED, "PID": 12, **fields}], compact=compact)
    assert_same([*lines, *lines], block=1)


@examples(150)
@example([{**OPENED, **OPENINGS[0]}], 1, False, False)
@given(
    st.lists(likely_lines() | UNLIKELY_LINES, max_size=40),
    st.integers(1, 20),
    st.booleans(),
    st.booleans(),
)
def test_hostile_lines(lines: list[Line], block: int, compact: bool, repeated: bool) -> None:
    """Whatever a line's texts are, in both forms, and where lines come again."""
    entries = [one for one in lines for _ in range(1 + repeated)]
    assert_same(written(entries, compact=compact), block=block)


def test_full_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered of lines is bounded, and nothing depends on it."""
    monkeypatch.setattr(files_module, "_MOST_HANDLES", 3)
    monkeypatch.setattr(processes_module, "_MOST_SETTLED", 3)
    reader = assert_same(written(guest_lines(3000)), block=300)
    assert max(map(len, reader.files._harmless.values())) <= 3
    assert len(reader.processes._settled_heads) <= 3


@pytest.mark.parametrize("ending", [b"\n", b""])
def test_a_sieve(ending: bytes) -> None:
    """It gives each line of the methods once and in their order, also a log's last one without its end."""
    entries: list[Line] = [
        {"Plugin": "regmon", "Pad": "x" * pad, "Method": method, "Number": number}
        for number, (pad, method) in enumerate(
            [(90, "NtSetValueKey"), (90, "NtClose"), (0, "NtDeleteKey"), (200, "NtSetValueKeyEx")]
        )
    ]
    entries += [{"Plugin": "regmon", "Value": "NtDeleteKey" * 20, "Method": "NtDeleteKey", "Number": 9}]
    lines = written(entries)
    lines[-1] = lines[-1][:-1] + ending
    wanted = {"NtSetValueKey", "NtDeleteKey"}
    found = [line for line in Sieve(wanted).among(lines) if method_of(line).decode() in wanted]
    assert [orjson.loads(line)["Number"] for line in found] == [0, 2, 9]
    assert found[-1].endswith(b"9}" + ending)


def test_no_name_is_too_short() -> None:
    """A line of each method that is looked for is found, in both forms, and where its method comes early."""
    reader = Reader()
    several = (reader.files.methods, reader.registry.methods, reader.calls.methods)
    names = {name for methods in several for name in methods}
    assert min(map(len, names)) >= SHORTEST
    for name in names:
        for line in written([{"Pad": "x" * 90, "Method": name}] * 2) + written(
            [{"Method": name}], compact=False
        ):
            assert list(Sieve([name]).among([line])) == [line]


def test_most_lines_are_left_unparsed() -> None:
    """That is what the sieves are for."""
    parsed: Counter[str] = Counter()
    lines = written(guest_lines(6000))
    reader = Reader()
    for plugin in ("filetracer", "regmon", "apimon", "syscall"):
        sieve, _ = reader._read_along[plugin]
        own = [line for line in lines if orjson.loads(line)["Plugin"] == plugin]
        parsed[plugin] = len(list(sieve(own)))
    assert sum(parsed.values()) < len(lines) / 20


def test_a_name_hides_no_file() -> None:
    """A file that is called as a key is seen like any other."""
    head = {"Plugin": "filetracer", "TimeStamp": "1700000000.500000", "PID": 8, "PPID": 4, "TID": 1}
    opened = {"Method": "NtCreateFile", "EventUID": "0x1", "FileName": "DesiredAccess", "FileHandle": "0x4"}
    flags = {"IoStatusBlock": 2, "DesiredAccess": "FILE_WRITE_DATA", "CreateOptions": ""}
    reader = Reader()
    reader.read({"filetracer": written([{**head, "ProcessName": "x" * 60, **opened, **flags}])})
    assert [row.key for row in reader.files.table] == [("DesiredAccess",)]
