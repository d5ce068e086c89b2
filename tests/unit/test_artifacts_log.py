"""The log split: every byte ends up in exactly one file, whatever the lines are."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter, defaultdict
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakcelery.artifacts import log as log_module
from drakcelery.artifacts.lines import plugin_of
from drakcelery.artifacts.log import PARSE_ERRORS, split_log
from drakcelery.artifacts.untrusted import UntrustedFileError
from drakcelery.artifacts.validation import Validator
from drakcelery.model.manifest import Artifact
from tests.examples import examples

PLUGINS = frozenset({"filetracer", "procmon", "tlsmon"})


def line(plugin: str, **values: object) -> bytes:
    """A line as DRAKVUF writes it."""
    return json.dumps({"Plugin": plugin, "TimeStamp": "1.5", **values}).encode() + b"\n"


def lines_of(data: bytes) -> list[bytes]:
    """The lines of *data*, newlines included; only a line feed ends a line."""
    return re.findall(rb"[^\n]*\n|[^\n]+$", data)


def split(directory: Path, data: bytes) -> tuple[dict[str, bytes], log_module.LogSplit]:
    """Split *data*; the files by name, and what the split says."""
    source = directory / "drakmon.log"
    out = directory / "out"
    out.mkdir()
    source.write_bytes(data)
    result = split_log(source, out, PLUGINS)
    return {path.name: path.read_bytes() for path in out.iterdir()}, result


def test_lines_go_to_their_plugins_unchanged(tmp_path: Path) -> None:
    """Each plugin's file holds its lines byte for byte in their order; plugins without lines have none."""
    first = b'{"Plugin" : "filetracer",  "x": "\xc5\xbc\\u0000"}\r\n'
    other, second = line("procmon", pid=4), line("filetracer", path="a")
    files, result = split(tmp_path, first + other + second)
    assert files == {"filetracer.log": first + second, "procmon.log": other}
    assert result.lines == {"filetracer": 2, "procmon": 1}
    assert (result.size, result.parse_errors) == (len(first + other + second), 0)


@pytest.mark.parametrize(
    "bad",
    [
        b'{"Plugin": "filetracer", "path": "a\n',
        b'{"Plugin": "filetracer", "path": "cut {"Plugin": "filetracer", "path": "b"}\n',
        b'{"Plugin": "filetracer", "path": "\xff\xfe"}\n',
        b'{"Plugin": "filetracer"} trailing}\n',
        b'{"Plugin": "../../etc/passwd"}\n',
        b'{"Plugin": "Filetracer"}\n',
        b'{"Plugin": "nobody"}\n',
        b'{"Plugin": ["filetracer"]}\n',
        b'["Plugin", "filetracer"]\n',
        b'{"Plugin": "filetracer\\u0000"}\n',
        b'{"Plugin": "filetracer", "deep": ' + b"[" * 5000 + b"]" * 5000 + b"}\n",
        b'{"Plugin": "filetracer", "x": 1e999}\n',
        b'{"Plugin": "filetracer", "x": "\\ud800"}\n',
        b'{"Plugin": "filetracer"}{"Plugin": "filetracer"}\n',
        b'{"Plugin": "filetracer", "x":\n',
        b'{"Plugin": "filetracer", "Plugin": "nobody"}\n',
        b'{"Plugin": "filetracer", "\\u0050lugin": "nobody"}\n',
        b'\xef\xbb\xbf{"Plugin": "filetracer"}\n',
        b'{"Plugin": "filetracer"}\0\n',
        b"\n",
        b"\0\0\0",
    ],
)
def test_what_no_plugin_wrote_is_kept_as_parse_error(tmp_path: Path, bad: bytes) -> None:
    """A malformed line, or one of an unknown or unsafe plugin, goes to parse_errors.log unchanged."""
    good = line("procmon")
    files, result = split(tmp_path, good + bad)
    assert files == {"procmon.log": good, PARSE_ERRORS: bad}
    assert result.parse_errors == 1


def test_a_last_line_without_newline_is_kept(tmp_path: Path) -> None:
    """The end of the log needs no newline."""
    files, _ = split(tmp_path, line("procmon") + line("procmon")[:-1])
    assert files == {"procmon.log": line("procmon") + line("procmon")[:-1]}


def test_an_overlong_line_is_one_error_and_is_not_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line beyond the limit goes to parse_errors.log in pieces; the line after it is read as usual."""
    monkeypatch.setattr(log_module, "LINE_LIMIT", 100)
    long = line("procmon", x="y" * 950)
    files, result = split(tmp_path, long + line("procmon"))
    assert files == {PARSE_ERRORS: long, "procmon.log": line("procmon")}
    assert result.parse_errors == 1


def test_open_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plugins beyond the limit of open files write to parse_errors.log."""
    monkeypatch.setattr(log_module, "FILE_LIMIT", 2)
    files, _ = split(tmp_path, line("procmon") + line("tlsmon") + line("filetracer"))
    assert files == {
        "procmon.log": line("procmon"),
        "tlsmon.log": line("tlsmon"),
        PARSE_ERRORS: line("filetracer"),
    }


@pytest.mark.parametrize("bad", [b"\n", b"x\n", b"{}\n", b'{"Plugin": ["x"]\n'])
@pytest.mark.parametrize("number", [9, 10, 500])
def test_broken_lines_are_bounded_by_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: bytes, number: int
) -> None:
    """After so many empty or broken lines the rest of a log is left out, and it says how much (S10)."""
    monkeypatch.setattr(log_module, "BROKEN_LIMIT", 10)
    monkeypatch.setattr(log_module, "_BLOCK", 5 * len(bad))
    good = line("procmon")
    files, result = split(tmp_path, good + bad * number + good)
    kept = result.parse_errors
    assert kept == number if number <= 10 else 10 < kept <= 20  # the block that goes beyond it is the last
    assert files[PARSE_ERRORS] == bad * kept
    assert files["procmon.log"] == good * (2 if number <= 10 else 1)
    assert result.size + result.dropped == len(good + bad * number + good)


def test_a_plugin_of_another_name_is_not_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that we do not know may write as much as it likes: nothing else is left out for it."""
    monkeypatch.setattr(log_module, "BROKEN_LIMIT", 10)
    other = line("newer") * 100
    files, result = split(tmp_path, other + line("procmon"))
    assert files == {PARSE_ERRORS: other, "procmon.log": line("procmon")}
    assert (result.parse_errors, result.dropped) == (100, 0)


def test_empty_lines_are_cheap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No parser is asked about an empty line (S10)."""
    monkeypatch.setattr("drakcelery.artifacts.lines.plugin_of", lambda one: pytest.fail(f"asked: {one!r}"))
    files, result = split(tmp_path, b"\n" * 5 + line("procmon") + b"\n\n" + line("procmon"))
    assert files == {PARSE_ERRORS: b"\n" * 7, "procmon.log": line("procmon") * 2}
    assert result.parse_errors == 7


def test_a_missing_log_is_an_empty_one(tmp_path: Path) -> None:
    """No log gives no files."""
    assert split_log(tmp_path / "none", tmp_path, PLUGINS) == log_module.LogSplit()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["symlink", "hardlink", "fifo", "directory"])
def test_only_a_regular_file_is_read(tmp_path: Path, kind: str) -> None:
    """A log that is a link, a pipe or a directory is refused, at once and with its name."""
    other, log = tmp_path / "other", tmp_path / "drakmon.log"
    other.write_bytes(line("procmon"))
    if kind == "symlink":
        log.symlink_to(other)
    elif kind == "hardlink":
        log.hardlink_to(other)
    elif kind == "fifo":
        os.mkfifo(log)
    else:
        log.mkdir()
    with pytest.raises(UntrustedFileError, match=r"drakmon\.log"):
        split_log(log, tmp_path, PLUGINS)


@pytest.mark.parametrize(
    "unusual",
    [
        b'{"Plugin": "nobody", "Plugin": "filetracer"}\n',
        b'{"Plugin": ["nobody"], "Plugin": "filetracer"}\n',
        b'{"Plugin": "nobody", "\\u0050\\u006Cugin": "filetracer"}\n',
        b'{"x": {"Plugin": "nobody"}, "Plugin": "filetracer"}\n',
        b'{"x": 123456789012345678901234567890, "Plugin": "filetracer"}\n',
        b'{"x": "\\u0061\xc5\xbc\x7f", "\\u0050lugin": "\\u0066iletracer"}\r\n',
    ],
)
def test_unusual_lines_have_their_plugin(tmp_path: Path, unusual: bytes) -> None:
    """The last of equal keys counts, however it is written; the lines around are not affected."""
    good = line("procmon") * 3
    files, result = split(tmp_path, good + unusual + good)
    assert files == {"procmon.log": good * 2, "filetracer.log": unusual}
    assert result.parse_errors == 0


def test_a_plugin_that_is_a_list_hides_nothing(tmp_path: Path) -> None:
    """Lines behind one whose plugin is a list or an object, also at a block's end, are told apart."""
    bad = b'{"Plugin": ["x"]}\n{"Plugin": {"x": 1}}\n{"Plugin": 5}\n{"Plugin": null}\n{"Plugin": ["x"]}\n'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_module, "_BLOCK", len(bad))
        files, result = split(tmp_path, bad + line("procmon") + bad + line("tlsmon"))
    assert files == {"procmon.log": line("procmon"), "tlsmon.log": line("tlsmon"), PARSE_ERRORS: bad * 2}
    assert result.parse_errors == 10


def test_many_blocks_and_batches_keep_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that lie across blocks stay whole, and those of a file, errors too, in their order."""
    monkeypatch.setattr(log_module, "_BLOCK", 100)
    monkeypatch.setattr(log_module, "_BATCH", 1000)
    lines = [line("procmon", n=n) if n % 3 else b"bad %d\n" % n for n in range(500)]
    files, result = split(tmp_path, b"".join(lines))
    assert files == {
        "procmon.log": b"".join(entry for entry in lines if entry.startswith(b"{")),
        PARSE_ERRORS: b"".join(entry for entry in lines if entry.startswith(b"b")),
    }
    assert (result.lines, result.parse_errors) == ({"procmon": 333}, 167)


def test_who_waits_is_told_of_each_complete_file(tmp_path: Path) -> None:
    """Name, size and sha256 are those of the file that lies there when it is told of."""
    told = []

    def ready(artifact: Artifact) -> None:
        data = (tmp_path / artifact.name).read_bytes()
        assert (artifact.size, artifact.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        told.append(artifact.name)

    (tmp_path / "drakmon.log").write_bytes(line("procmon") + b"bad\n" + line("tlsmon"))
    split_log(tmp_path / "drakmon.log", tmp_path, PLUGINS, ready)
    assert sorted(told) == [PARSE_ERRORS, "procmon.log", "tlsmon.log"]


PIECES = [
    *(
        b'{"Plugin": "procmon"',
        b"}",
        b"\n",
        b'"Plugin"',
        b": ",
        b", ",
        b'"tlsmon"',
        b'{"x": [',
        b"]",
        b"[",
        b"{",
    ),
    *(b'"\\u0050lugin"', b'"', b"\\", b"\\ud800", b"\\udc00", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc5\xbc"),
    *(
        b"\xff",
        b"\0",
        b"\t",
        b"\r",
        b"\x1f",
        b"1",
        b"-",
        b"0",
        b".",
        b"e",
        b"999",
        b"null",
        b"NaN",
        b" ",
        b'"x": ',
    ),
]


def reference(data: bytes, limit: int) -> dict[str, bytes]:
    """What a split must give: each line parsed by orjson, alone."""
    files: defaultdict[str, bytes] = defaultdict(bytes)
    for entry in lines_of(data):
        name = PARSE_ERRORS
        if len(entry.removesuffix(b"\n")) < limit:
            try:
                parsed = orjson.loads(entry)
            except orjson.JSONDecodeError:
                parsed = None
            plugin = parsed.get("Plugin") if isinstance(parsed, dict) else None
            if isinstance(plugin, str) and plugin in PLUGINS:
                name = f"{plugin}.log"
        files[name] += entry
    return files


@examples(300)
@given(
    st.lists(
        st.one_of(
            st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join),
            st.lists(st.sampled_from(PIECES), max_size=4).map(
                lambda pieces: b'{"Plugin": "procmon", "x": ' + b"".join(pieces) + b"}\n"
            ),
            st.sampled_from([line("procmon"), line("tlsmon", x="\u017c"), line("nobody")]),
        ),
        max_size=12,
    ),
    st.integers(1, 200),
    st.integers(20, 200),
)
def test_the_fast_way_gives_what_the_slow_one_gives(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], block: int, limit: int
) -> None:
    """Whatever the lines, the blocks' size and the limit: the files are those of a parser for each line."""
    data = b"".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_module, "_BLOCK", block)
        patch.setattr(log_module, "LINE_LIMIT", limit)
        files, result = split(tmp_path_factory.mktemp("split"), data)
    assert files == reference(data, limit)
    assert result.parse_errors == len(lines_of(files.get(PARSE_ERRORS, b"")))


@pytest.mark.parametrize("depth", range(1010, 1030))
def test_nesting_is_as_deep_as_the_judge_allows(tmp_path: Path, depth: int) -> None:
    """Where orjson's depth ends, ours does."""
    data = b'{"Plugin": "procmon", "x": ' + b"[" * depth + b"]" * depth + b"}\n"
    files, _ = split(tmp_path, data)
    assert files == reference(data, log_module.LINE_LIMIT)


hostile_lines = st.one_of(
    st.binary(max_size=200),
    st.builds(line, st.sampled_from(["procmon", "filetracer", "x", "../x", ""]), text=st.text()),
    st.builds(
        lambda data, cut: data[:cut],
        st.builds(line, st.sampled_from(sorted(PLUGINS)), text=st.text()),
        st.integers(0, 60),
    ),
)


@given(st.lists(hostile_lines, max_size=30))
def test_every_byte_is_in_exactly_one_file(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    """Whatever comes in: the lines of all files together are those of the log, and a plugin's file parses."""
    data = b"".join(lines)
    files, result = split(tmp_path_factory.mktemp("split"), data)
    assert result.size == len(data)
    written = Counter(piece for content in files.values() for piece in lines_of(content))
    assert written == Counter(lines_of(data))
    assert result.parse_errors == len(lines_of(files.pop(PARSE_ERRORS, b"")))
    for name, content in files.items():
        assert content
        for entry in lines_of(content):
            assert json.loads(entry)["Plugin"] == name.removesuffix(".log")


@given(st.text())
def test_a_plugin_name_that_is_accepted_is_a_plain_file_name(name: str) -> None:
    """No accepted name has a separator, a dot, or anything but lower-case ASCII, digits and underscores."""
    plugin = plugin_of(json.dumps({"Plugin": name}).encode())
    assert plugin is None or (plugin == name and plugin.isascii() and plugin.isidentifier())


def test_lines_are_accepted_together_only_if_each_is_one_by_itself() -> None:
    """What one line leaves open and another closes, on any level, is not accepted, nor is another plugin."""
    good = line("procmon", x=[{"y": 1}])
    begin = b'{"Plugin": "procmon"'
    accepts = Validator().accepts
    assert accepts([good])
    assert accepts([good] * 500)
    for first, second in (
        (b', "x": {"y": 1}', b', "z": 1}}'),
        (b', "x": [{"y": 1}', b', "z": 1}]}'),
        (b', "x": [[[{"y": 1}', b', "z": 1}]]]}'),
        (b', "x": [1}', b', "z": 1]}'),
        (b', "x": "}', b'"}'),
        (b', "x": "\\}', b'"}'),
        (b'}, {"": 1}', b"}"),
        (b'}], [{"": 1}', b"}"),
        (b'}], {"": 1}', b', "x": [{"": 1}'),
        (b', "Plugin": 0}, {"": 1}', b"}"),
        (b', "Plugin": 0}', b"}"),
        (b', "\\u0050lugin": 0}', b"}"),
        (b"}}", b', "x": {"y": 1}'),
        (b"", b"}"),
        (b"]", b"}"),
        (b'}{"Plugin": "procmon"}', b"}"),
    ):
        assert not accepts([good, begin + first + b"\n", begin + second + b"\n", good])
        assert not accepts([begin + first + b"\n", good, begin + second + b"\n"])


def test_a_good_log_is_not_parsed_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line of DRAKVUF's is decoded, whoever else has written broken ones among them."""
    monkeypatch.setattr("drakcelery.artifacts.lines.plugin_of", lambda one: pytest.fail(f"asked: {one!r}"))
    good = line("procmon", x=[{"y": 1}]) + line("tlsmon", path="C:\\\u017c")
    broken = b'\nhalf a line"}\n{"Plugin": "procmon", "half\n'
    files, result = split(tmp_path, (good * 50 + broken) * 3)
    assert len(lines_of(files["procmon.log"])) == len(lines_of(files["tlsmon.log"])) == 150
    assert (files[PARSE_ERRORS], result.parse_errors) == (broken * 3, 9)
