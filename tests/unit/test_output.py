"""What commands print to terminals of any width, and to pipes."""

from __future__ import annotations

import ast
import io
import sys

import pytest
from rich.console import Console

from drakcelery.model.analysis import ObjectRef, State
from drakcelery.model.records import Record
from drakcelery.operators import views
from drakcelery.operators.output import PIPE_WIDTH
from tests.reference import ROOT


def record(uid: str = "6f2c5a0e-9d7c-4f55-a3b1-7d0a4c1b2e90", name: str = "invoice.exe") -> Record:
    """One that was refused."""
    return Record(
        uid=uid,
        task_uid="t",
        root_uid="r[/bold]\x1b[2J",
        state=State.FAILED,
        attempt=1,
        first_attempt=1,
        received=1.0,
        updated=2.0,
        finished=3.0,
        refusal="no",
        refused_sample=ObjectRef(bucket="b", key="k", name=name),
        updated_text="2.0",
    )


def drawn(width: int) -> list[str]:
    """The list of analyses on a terminal of that width."""
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    with console.capture() as captured:
        console.print(views.records_table([record()], now=4.0, width=width))
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [200, 120, 80, 72, 60])
def test_no_column_is_lost_in_silence(width: int) -> None:
    """Each column is whole, or named as left out; uid and state are always there."""
    head, row, *rest = drawn(width)
    assert "6f2c5a0e-9d7c-4f55-a3b1-7d0a4c1b2e90" in row
    assert "FAILED" in row
    said = " ".join(line.strip() for line in rest)
    for column in ("UID", "STATE", *views.SPARE, "SAMPLE"):
        assert (column in head) != (column in said), column
    assert bool(said) == (width < 110)
    assert all(len(line) <= width for line in (head, row))


def test_a_name_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither as markup nor as an emoji, of which rich has names."""
    target = io.StringIO()
    monkeypatch.setattr(sys, "stdout", target)
    name = "[bold]:bomb:.exe"
    console = views.console()
    console.print(views.records_table([record(name=name)], now=4.0, width=console.width))
    assert name in target.getvalue()


def test_no_console_knows_emojis() -> None:
    """They are on by default, also where markup is off."""
    made = [
        call
        for path in sorted((ROOT / "drakcelery").rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Console"
    ]
    assert made
    assert [ast.unparse(call) for call in made if "emoji=False" not in ast.unparse(call)] == []


def test_a_pipe_gets_all_and_no_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long names are neither cut off nor wrapped, and no line ends with a blank."""
    target = io.StringIO()
    monkeypatch.setattr(sys, "stdout", target)
    console = views.console()
    name = "n" * 58
    console.print(views.records_table([record(name=name), record(name="a")], now=4.0, width=console.width))
    console.print(views.record_view(record()))
    printed = target.getvalue()
    assert console.width == PIPE_WIDTH
    assert name in printed
    assert [line for line in printed.splitlines() if line != line.rstrip()] == []


def test_a_root_uid_with_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    """What others have chosen is shown as it is: no markup, no escape sequence."""
    target = io.StringIO()
    monkeypatch.setattr(sys, "stdout", target)
    views.console().print(views.record_view(record()))
    printed = target.getvalue()
    assert "r[/bold]�[2J" in printed
    assert "\x1b" not in printed


def test_an_encoding_that_lacks_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich draws what the encoding of the output has, through the trimming too."""
    written = io.BytesIO()
    target = io.TextIOWrapper(written, encoding="ascii", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", target)
    views.console().print(views.records_table([record(name="Ж.exe")], now=4.0))
    target.flush()
    assert b"\\u0416.exe" in written.getvalue()
