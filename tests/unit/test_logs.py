"""Logs: what is said has a name that is documented, and what comes from a sample does no harm."""

from __future__ import annotations

import ast
import errno
import io
import json
import logging
import re
import signal
import threading
from pathlib import Path
from typing import Any, Literal

import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from drakcelery.broker import routing
from drakcelery.model.analysis import Stage
from drakcelery.telemetry import logs
from drakcelery.telemetry.log_values import CHARACTERS, ENTRIES, LINE_CHARACTERS, escaped, tamed
from drakcelery.telemetry.logs import about, analysis_log
from tests import actions
from tests.modules import parsed, walk

ESC = "\x1b[31m"
FORGED = "2026-01-01T00:00:00Z [error    ] analysis_failed"


def _part(heading: str) -> str:
    """The part of docs/logs.md below *heading*."""
    text = actions.PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1]
    return text.partition("\n## ")[0]


def _documented() -> dict[str, tuple[str, ...]]:
    """The levels that docs/logs.md gives for each action."""
    rows = re.findall(r"^\| `([^`]+)` \| ([a-z, ]+) \| (.*) \| (.+) \|$", _part("Actions"), re.MULTILINE)
    assert len({name for name, *_ in rows}) == len(rows), "an action has two rows"
    assert all(len(meaning.split()) > 2 for *_, meaning in rows)
    return {name: tuple(levels.split(", ")) for name, levels, *_ in rows}


def _explained(heading: str) -> list[str]:
    """The fields that a part of docs/logs.md says the meaning of."""
    rows: list[tuple[str, str]] = re.findall(r"^\| `([^`]+)` \| (.+) \|$", _part(heading), re.MULTILINE)
    assert all(len(meaning.split()) > 1 or meaning.count("`") > 1 for _, meaning in rows)
    return [name for name, _ in rows]


# Actions


def test_every_line_has_a_stable_action() -> None:
    """What is logged is a word in snake_case that stands in the code, not a sentence that changes."""
    for said in actions.said():
        assert said.actions, f"{said.where}: write the action itself as the first argument"
        for action in said.actions:
            assert re.fullmatch(r"[a-z]+(_[a-z]+)*", action), f"{said.where}: {action!r} is no snake_case"


def test_every_action_is_documented() -> None:
    """docs/logs.md has each action with its levels, and none that is gone."""
    found: dict[str, set[str]] = {}
    for said in actions.said():
        for action in said.actions:
            found.setdefault(action, set()).update(said.levels)
    written = {action: set(levels) for action, levels in _documented().items()}
    assert written == found


def test_every_action_has_its_fields() -> None:
    """docs/logs.md says which fields each action has; `python -m tests.actions` writes them."""
    text = actions.PAGE.read_text(encoding="utf-8")
    assert text == actions.filled(text)


def test_every_field_is_explained() -> None:
    """docs/logs.md says once what a field means, of each that a line may have, and of none that is gone."""
    of_every_line = _explained("What every line has")
    assert set(of_every_line) == actions.OF_EVERY_LINE
    used = {field for said in actions.said() for field in said.fields} - {actions.REST}
    used |= {
        field
        for path in actions.PACKAGE.rglob("*.py")
        if path.name != "logs.py"  # which hands on what it is given
        for field in actions.context_fields(parsed(path))
    }
    assert sorted(_explained("Fields")) == _explained("Fields") == sorted(used - actions.OF_EVERY_LINE)


def test_a_field_that_is_not_explained_is_noticed() -> None:
    """The table of actions is written again where the code gives a field that is not in it."""
    page = "| `stage_done` | info |  | a stage is done |\n"
    assert actions.filled(page) == "| `stage_done` | info | `seconds` | a stage is done |\n"


def test_all_loggers_are_seen() -> None:
    """Every logger is a name of its module, so that the tests above find what it says."""
    for path in actions.PACKAGE.rglob("*.py"):
        tree = parsed(path)
        made = sum(actions.makes_logger(node) for node in walk(tree))
        named = sum(actions.makes_logger(node.value) for node in tree.body if isinstance(node, ast.Assign))
        assert made == named, path
        if path.name not in ("logs.py", "otlp.py"):  # which set up those of libraries
            assert "logging.getLogger" not in path.read_text(encoding="utf-8"), path
            assert list(actions.evasions(tree)) == [], path


REST_OF = {
    "disk_space": "bytes, `free` or `used`",
    "done_in_flower": "what was asked, of whom",
    "refused_in_flower": "likewise",
    "reconciled": "a field for each action of a metric",
}
"""Actions whose fields are not all known from the code; their rows say what they are."""


def test_fields_that_code_does_not_tell_are_few() -> None:
    """What is given by ``**`` would need no row: only these actions have it."""
    assert {one for said in actions.said() if actions.REST in said.fields for one in said.actions} == set(
        REST_OF
    )


@pytest.mark.parametrize(
    "text",
    [
        "from logging import getLogger",
        "from structlog import get_logger",
        "from structlog.stdlib import get_logger",
        "import structlog as s",
        "log = structlog.stdlib.get_logger()",
        "from drakcelery.host.drift import log",
        "drift.log.info('a')",
    ],
)
def test_loggers_that_would_not_be_read_are_noticed(text: str) -> None:
    """None of the ways around the reading of code stays unseen."""
    assert list(actions.evasions(ast.parse(text))) != []


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("about(uid=1, odd=2)", ["uid", "odd"]),
        ("analysis_log(path, odd=2)", ["odd"]),
        ("about(**{'odd': 1})", ["odd"]),
        ("about(**whatever)", [actions.REST]),
    ],
)
def test_fields_of_a_block_are_read(text: str, fields: list[str]) -> None:
    """What every line of a block has is read as well."""
    assert list(actions.context_fields(ast.parse(text))) == fields


def test_fields_of_a_named_dict_are_read() -> None:
    """What a block is given from a dict of the package is read where that is made."""
    text = "about(**record.log_fields | {'odd': 1})"
    made = actions._dicts()["log_fields"]
    assert list(actions.context_fields(ast.parse(text))) == [*made, "odd"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("log.info('a_b', c=1)", [(("a_b",), ("info",))]),
        ("log.exception('a')", [(("a",), ("error",))]),
        ("log.warning('a' if x else 'b')", [(("a", "b"), ("warning",))]),
        ("log.log(logging.INFO if x else logging.ERROR, 'a')", [(("a",), ("info", "error"))]),
        ("say = log.info if x else log.warning\nsay('a')", [(("a",), ("info", "warning"))]),
        ("log.bind(x=1).error('a')", [(("a",), ("error",))]),
        ("log.info(f'a {x}')", [((), ("info",))]),
        ("other.info('a')", []),
    ],
)
def test_the_reading_of_code_works(text: str, expected: list[Any]) -> None:
    """The tests above see each form in which a line can be said."""
    found = actions.said_in(ast.parse(f"log = structlog.get_logger()\n{text}"), "probe")
    assert [(said.actions, said.levels) for said in found] == expected


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("log.info('a', c=1, b=2)", ("c", "b")),
        ("log.bind(x=1).error('a', y=2)", ("y", "x")),
        ("log.info('a', **{'b': 1})", (actions.REST,)),
        ("about = {'b': 1}\nlog.info('a', **about, c=2)", ("b", "c")),
        ("log.info('a', **others)", (actions.REST,)),
    ],
)
def test_the_reading_of_fields_works(text: str, fields: tuple[str, ...]) -> None:
    """So with each form in which fields can be given."""
    [said] = actions.said_in(ast.parse(f"log = structlog.get_logger()\n{text}"), "probe")
    assert said.fields == fields


# Lines

LOG: structlog.typing.FilteringBoundLogger = structlog.get_logger("tests")


def written(style: Literal["console", "json"], monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a process on rack-1 writes from now on."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.configure(level="info", style=style, host="rack-1")
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Each line, which is JSON."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_what_is_configured_last_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logger that was used before does not keep what was configured then."""
    first = written("json", monkeypatch)
    LOG.info("said_first")
    second = written("console", monkeypatch)
    LOG.info("said_second")
    assert [line["action"] for line in lines(first)] == ["said_first"]
    assert "said_second" in second.getvalue()


def test_a_json_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time, level, action and host are in each line; what it is about is in those inside."""
    stream = written("json", monkeypatch)
    with about(uid="a", attempt=2, stage=Stage.RUN, slot=None):
        LOG.warning("something_happened", count=3, path=Path("/x"))
    LOG.info("nothing_else", host="rack-2")
    LOG.debug("too_much")
    first, second = lines(stream)
    assert list(first)[:6] == ["timestamp", "level", "action", "host", "uid", "attempt"]
    del first["timestamp"], second["timestamp"]
    ours = {"uid": "a", "attempt": 2, "stage": "run", "count": 3, "path": "/x"}
    assert first == {"level": "warning", "action": "something_happened", "host": "rack-1", **ours}
    assert second == {"level": "info", "action": "nothing_else", "host": "rack-2"}


class _FullDisk(io.StringIO):
    """What standard error is where it goes to a full disk."""

    def write(self, _: str, /) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_line_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It fails nothing, and the analysis' own log has it."""
    monkeypatch.setattr("sys.stderr", _FullDisk())
    logs.configure(level="info", style="json")
    with analysis_log(tmp_path / "drakrun.log", uid="a"):
        LOG.info("it_is_said")
    assert json.loads((tmp_path / "drakrun.log").read_bytes())["message"] == "it_is_said"


def test_a_line_of_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its action is the same for all; Celery's lines about a stage say which analysis they are about."""
    stream = written("json", monkeypatch)
    task = {"id": routing.task_id("6f-2c", 3, Stage.UPLOAD), "name": "drakcelery.upload"}
    logging.getLogger("celery.app.trace").info("Task %s", "x succeeded", extra={"data": task})  # left out
    logging.getLogger("celery.app.trace").error("Task %s", "x failed", extra={"data": task})
    logging.getLogger("somebody").warning("plain\nwords", extra={"data": {"id": "no/task/id"}})
    first, second = lines(stream)
    assert (first["action"], first["logger"], first["message"]) == (
        "library",
        "celery.app.trace",
        "Task x failed",
    )
    assert (first["uid"], first["attempt"], first["stage"], first["host"]) == ("6f-2c", 3, "upload", "rack-1")
    assert (second["message"], second["level"]) == ("plain\nwords", "warning")
    assert not {"uid", "attempt", "stage"} & set(second)


def test_an_exception_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """Type, text and frames of an exception and of its cause; no variables, which may hold secrets."""
    stream = written("json", monkeypatch)
    password = "hunter2"
    try:
        try:
            raise KeyError("cause")
        except KeyError as error:
            raise ValueError(f"text {ESC}" + "x" * 9000) from error
    except ValueError:
        LOG.exception("it_failed")
        logging.getLogger("library").exception("so it did")
    for line in lines(stream):
        outer, cause = line["exception"]
        assert (outer["exc_type"], cause["exc_type"], cause["is_cause"]) == ("ValueError", "KeyError", True)
        assert outer["exc_value"].startswith("text \\x1b[31mxxx")
        assert len(outer["exc_value"]) < CHARACTERS + 100
        assert outer["frames"][-1]["name"] == "test_an_exception_in_json"
    assert password not in stream.getvalue()


@pytest.mark.parametrize("style", ["console", "json"])
def test_what_a_sample_says_does_no_harm(
    style: Literal["console", "json"], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No line is forged, no terminal driven, no line grows without bound, whoever says it."""
    stream = written(style, monkeypatch)
    evil = f"\r\n{FORGED} {ESC}\x9b\u202e\udc80{'x' * 10**6}"
    with analysis_log(tmp_path / "drakrun.log", uid="a"):
        LOG.info("it_said", text=evil, many=[evil] * 1000, deep={"a": [{evil: evil}]}, raw=b"\x1b" * 99)
        logging.getLogger("library").info(evil)
        try:
            raise ValueError(evil)
        except ValueError:
            LOG.exception("it_failed")
    for text in (stream.getvalue(), (tmp_path / "drakrun.log").read_text()):
        assert all(char.isprintable() or char == "\n" for char in text)
        assert not any(line.startswith(FORGED) for line in text.splitlines())
        assert max(map(len, text.splitlines())) < 150_000
        assert len(text) < 300_000


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.binary(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.frozensets(st.text())
        ),
        max_leaves=30,
    )
)
def test_any_value_can_be_logged(value: object) -> None:
    """Whatever is logged becomes JSON that every reader takes, and nothing in it is unprintable."""
    text = orjson.dumps(tamed({"value": value, "cyclic": _cyclic()})).decode()
    assert json.loads(text).keys() == {"value", "cyclic"}
    assert text.isprintable()


def _cyclic() -> list[object]:
    value: list[object] = []
    value.append(value)
    return value


def test_a_number_with_a_name() -> None:
    """It is logged as its number, at once: in a range Python would look for it one by one."""
    assert orjson.dumps(tamed({"signal": signal.SIGTERM})) == b'{"signal":15}'


def test_bounds() -> None:
    """A text, a list and a line each have their bound, and what is cut says so."""
    assert tamed({"a": "x" * 5000})["a"] == f"{'x' * CHARACTERS}… (of 5000 characters)"
    assert len(tamed({"a": list(range(1000))})["a"]) == ENTRIES
    line = tamed({str(number): "x" * CHARACTERS for number in range(10)})
    assert sum(value.count("x") for value in line.values()) == LINE_CHARACTERS
    assert escaped("tab\tline\nstays é 中") == "tab\tline\nstays é 中"
    assert escaped("\x00\x7f\u200b\ud800") == "\\x00\\x7f\\u200b\\ud800"


def test_drakrun_log_keeps_its_form(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """JSON lines with v0.18's keys and ours, in both styles; a traceback is text there, whole to its end."""
    path = tmp_path / "drakrun.log"
    written("console", monkeypatch)
    with analysis_log(path, uid="a", slot=None):
        LOG.info("it_began")
        try:
            raise ValueError("x" * 3000 + "the end")
        except ValueError:
            LOG.exception("it_failed")
        logging.getLogger("library").warning("not ours")
    began, failed = [json.loads(line) for line in path.read_text().splitlines()]
    assert (began["levelname"], began["message"], began["action"]) == ("INFO", "it_began", "it_began")
    assert (began["uid"], "slot" in began, isinstance(began["created"], float)) == ("a", False, True)
    assert failed["levelname"] == "ERROR"
    assert failed["exception"].startswith("Traceback")
    assert failed["exception"].endswith("the end")


def test_a_full_disk_ends_no_stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A line that cannot be added to drakrun.log is in the process' log, which says so."""
    path = tmp_path / "drakrun.log"
    path.mkdir()  # as good as a full disk: it cannot be written
    stream = written("json", monkeypatch)
    with analysis_log(path, uid="a"):
        LOG.info("it_began")
    (line,) = lines(stream)
    assert line["analysis_log"] == "cannot be written: Is a directory"


def test_crashes_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends a process or a thread, and Python's warnings, are in the log like everything else."""
    for name in ("sys.excepthook", "threading.excepthook", "warnings.showwarning"):
        module, _, hook = name.partition(".")
        monkeypatch.setattr(name, getattr(__import__(module), hook))
    stream = written("json", monkeypatch)
    logs.report_crashes()
    thread = threading.Thread(target=lambda: [][1], name="probe")
    thread.start()
    thread.join()
    try:
        raise RuntimeError("the end")
    except RuntimeError as error:
        logs._process_crashed(type(error), error, error.__traceback__)
    logging.captureWarnings(False)
    first, second = lines(stream)
    assert (first["action"], first["thread"], first["exception"][0]["exc_type"]) == (
        "thread_crashed",
        "probe",
        "IndexError",
    )
    assert (second["action"], second["level"]) == ("process_crashed", "critical")
