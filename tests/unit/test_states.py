"""The states of slots and of analyses: each word stands once in Python, and what else writes one agrees."""

from __future__ import annotations

import ast
import re

from drakcelery.model.analysis import State
from drakcelery.model.slot_state import OUT_OF_USE, ReportedState
from tests.modules import MODULES, walk
from tests.reference import ROOT

STATIC = ROOT / "drakcelery" / "flower" / "static"
LUA = ROOT / "drakcelery" / "ledger" / "lua"
STATE_IN_LUA = re.compile(r"(?:state [=~]= |'state', |end_analysis\([^,]+, |'at:(?=[A-Z]))'?([A-Z]+)'")
"""What is compared with a state, is written as one, or has the time at which one was entered."""


def compared(tree: ast.AST) -> set[str]:
    """The texts with which a module compares something."""
    return {
        one.value
        for node in walk(tree)
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
        for one in ast.walk(side)
        if isinstance(one, ast.Constant) and isinstance(one.value, str)
    }


def test_no_state_is_compared_with_a_text() -> None:
    """A mistyped word would never be equal; a mistyped name is an error."""
    words = {*ReportedState, *State}
    found = {
        f"{module.name}: {word}"
        for module in MODULES
        if not module.name.startswith("engines.")  # their words are their own
        for word in compared(module.tree) & words
    }
    assert found == set()
    assert compared(ast.parse("a.state == 'free' or 'RUNNING' in (b, c)")) == {"free", "RUNNING"}


def test_the_fleet_page_knows_the_states_of_slots() -> None:
    """Those out of use are the fleet's own, and each that has a colour exists."""
    script = (STATIC / "fleet.js").read_text(encoding="utf-8")
    out = re.search(r"const OUT = \[(.+?)\];", script)
    assert out is not None
    assert set(re.findall(r'"([a-z]+)"', out[1])) == OUT_OF_USE
    coloured = set(re.findall(r'data-state="([a-z]+)"', (STATIC / "fleet.css").read_text(encoding="utf-8")))
    assert coloured == set(ReportedState)


def test_scripts_know_the_states_of_analyses() -> None:
    """What a script compares with a state, or writes as one, is one; and it ends with those that we mean."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in LUA.rglob("*.lua")}
    written = {word for text in texts.values() for word in STATE_IN_LUA.findall(text)}
    assert written <= set(State)
    assert {State.QUEUED, State.FAILED, State.PUBLISHED, State.CANCELLED} <= written
    is_over = re.search(r"function is_over\(state\)\n(.+?)\nend", texts["common"], re.DOTALL)
    assert is_over is not None
    assert set(re.findall(r"'([A-Z]+)'", is_over[1])) == {state for state in State if state.is_over}
