"""What a newcomer reads about the code is true of it: the decisions, the tour, the words, the folders."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.reference import DOCS, PACKAGE, ROOT

DECISIONS = sorted(path for path in (DOCS / "decisions").glob("*.md") if path.name != "index.md")
MOST_LINES = 40
"""Of a page about a decision."""
CELERY_TASKS = ("prepare", "run", "collect", "upload", "publish")


def module(name: str) -> Path | None:
    """The file of the module or package of that dotted name."""
    path = ROOT / name.replace(".", "/")
    found = (path.with_suffix(".py"), path / "__init__.py")
    return next((one for one in found if one.is_file()), None)


def missing(text: str) -> list[str]:
    """The modules and files of the package that *text* names, as code, and that are not there."""
    dotted = re.findall(r"`(drakcelery(?:\.[a-z_]+)+)`", text)
    paths = re.findall(r"(?<![\w./-])(drakcelery/[\w./-]*\w/?)", text)
    tasks = {f"drakcelery.{name}" for name in CELERY_TASKS} | {"drakcelery.ini"}
    return [one for one in dotted if one not in tasks and module(one) is None] + [
        one for one in paths if not (ROOT / one).exists()
    ]


@pytest.mark.parametrize(
    "page", [*DECISIONS, DOCS / "architecture.md", DOCS / "development.md"], ids=lambda one: one.stem
)
def test_named_modules_exist(page: Path) -> None:
    """A module, file or folder of the package that a page names is there."""
    assert missing(page.read_text(encoding="utf-8")) == []


def test_a_missing_module_is_noticed() -> None:
    """The check above tells what is there from what is not."""
    there = "`drakcelery.ledger.watch`, `drakcelery.run`, drakcelery/ledger/lua/"
    text = f"{there}, `drakcelery.nobody`, drakcelery/nothing.py"
    assert missing(text) == ["drakcelery.nobody", "drakcelery/nothing.py"]


def test_decisions_are_short_and_listed() -> None:
    """Each page is at most forty lines, and stands once in the table and once in the menu of the index."""
    index = (DOCS / "decisions" / "index.md").read_text(encoding="utf-8")
    linked = re.findall(r"\(([\w-]+)\.md\)", index)
    menu = index.partition("```{toctree}")[2].split("```")[0].split()[1:]
    assert linked == menu
    assert sorted(menu) == [page.stem for page in DECISIONS]
    for page in DECISIONS:
        assert len(page.read_text(encoding="utf-8").splitlines()) <= MOST_LINES, page.name


TOUR = re.findall(
    r"^\| `(drakcelery[.\w]+)` \| `([\w.]+)` \|", (DOCS / "development.md").read_text(), re.MULTILINE
)
"""(module, function) of each stop."""
ROOMS = re.findall(
    r"^\| [^|`]+ \| `(drakcelery[.\w]+)` \| `([\w.]+)` \|$",
    (DOCS / "development.md").read_text(),
    re.MULTILINE,
)
"""(module, function) that answers a question."""


def defined(path: Path) -> set[str]:
    """The functions, classes and methods that a module defines."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            found |= {f"{node.name}.{one.name}" for one in ast.walk(node) if isinstance(one, ast.FunctionDef)}
    return found


def test_the_tour_goes_all_the_way() -> None:
    """It has a stop in each stage, and begins and ends where a sample does."""
    functions = [function for _, function in TOUR]
    stages = ["Ingress.accept_tasks", "prepare", "run", "collect", "upload", "Endings.publish"]
    assert [one for one in functions if one in stages] == stages


def test_questions_are_answered() -> None:
    """There are rooms to begin in; the check below runs over them."""
    assert len(ROOMS) > 10


@pytest.mark.parametrize(("where", "function"), [*TOUR, *ROOMS])
def test_each_stop_of_the_tour_exists(where: str, function: str) -> None:
    """docs/development.md names a function that is in the module that it names."""
    path = module(where)
    assert path is not None, f"there is no module {where}"
    assert function in defined(path), f"{where} defines no {function}: docs/development.md is wrong"


def test_the_scripts_of_the_tour_exist() -> None:
    """So are the Lua scripts that it names."""
    named = set(re.findall(r"`(\w+\.lua)`", (DOCS / "development.md").read_text(encoding="utf-8")))
    assert len(named) > 5
    assert named <= {path.name for path in PACKAGE.rglob("*.lua")}


WORDS = (
    "admission",
    "analysis",
    "aside",
    "astray",
    "attempt",
    "avoidance",
    "away",
    "blame",
    "bootstrap",
    "canary",
    "capacity",
    "cell",
    "charge",
    "checkup",
    "claim",
    "closed",
    "clue",
    "delivery",
    "doubt",
    "drain",
    "drift",
    "duty",
    "early upload",
    "engine",
    "evidence",
    "failpoint",
    "fault",
    "forecast",
    "gate",
    "halt",
    "heartbeat",
    "host",
    "host context",
    "host runtime",
    "inbox",
    "index",
    "isolation",
    "janitor",
    "judgement",
    "lack",
    "lease",
    "ledger",
    "line",
    "measured run",
    "misfit",
    "news",
    "notice",
    "orphan",
    "outbox",
    "place",
    "placement",
    "poison",
    "prefetch",
    "presence",
    "profile",
    "quarantine",
    "quiet stop",
    "readiness",
    "reconcile",
    "reroute",
    "residence",
    "retry",
    "reuse",
    "sample task, analysis task",
    "score",
    "sight",
    "silence",
    "slot",
    "spool",
    "stage",
    "stale",
    "step",
    "stretch",
    "suspicion",
    "takeover",
    "timeouts",
    "triage",
    "turn",
    "twin",
    "verdict",
    "wakeup",
    "watch",
    "workspace",
)
"""The words of this house, and those of the field that mean something narrower here."""


def glossary() -> list[tuple[str, str]]:
    """(word, meaning) of each row of docs/architecture.md, from top to bottom."""
    part = (
        (DOCS / "architecture.md").read_text(encoding="utf-8").partition("\n## Words\n")[2].partition("\n## ")
    )
    rows = [line.strip("| ").split(" | ") for line in part[0].splitlines() if line.startswith("| ")]
    return [(word, meaning) for word, meaning in rows[1:] if not word.startswith("---")]


def test_every_word_stands_in_the_glossary_once() -> None:
    """It has the words of this list, none twice, in the order of the alphabet, each with a meaning."""
    words = [word for word, _ in glossary()]
    assert words == sorted(set(words))
    assert words == list(WORDS)
    assert all(len(meaning.split()) > 3 for _, meaning in glossary())


HEART = (
    *("broker", "forecast", "host", "ingress", "ledger", "model", "notifications", "recovery", "stages"),
    "worker",
)
ORDINARY = frozenset(
    {
        *("alive", "alone", "backlog", "behaviour", "bind", "cancellation", "certificate", "clock"),
        *("command", "configuration", "connection", "control", "curve", "death", "deployment", "dir", "disk"),
        "dispatch",
        *(
            "duration",
            "emulated",
            "ending",
            "extension",
            "failure",
            "file",
            "fleet",
            "foreignkey",
            "guest",
            "health",
            "hello",
            "history",
        ),
        *(
            "identity",
            "indexkey",
            "karton",
            "kept",
            "key",
            "keytable",
            "keytype",
            "learning",
            "life",
            "listening",
            "lock",
        ),
        *(
            "machine",
            "mailbox",
            "main",
            "manifest",
            "metadata",
            "metric",
            "name",
            "newskey",
            "reusekey",
            "stored",
            "waiting",
            "origin",
            "perform",
            "plugin",
            "program",
            "query",
            "record",
        ),
        *("redis", "remote", "removal"),
        *("report", "result", "routing", "script", "shutdown", "side", "simulated", "simulation"),
        "space",
        *("look", "second", "variantkey"),
        *("start", "state", "table", "text", "transport", "value", "webhook", "word"),
    }
)
"""Words of modules' names that mean in this house what they mean anywhere."""


def words_of_modules() -> set[str]:
    """The words of the names of the modules that the glossary is for, in the singular."""
    names = {path.stem for folder in HEART for path in (PACKAGE / folder).glob("*.py")}
    words = {word for name in names for word in name.split("_") if word != "init" and word}
    return {re.sub(r"ies$", "y", word) if word.endswith("ies") else _singular(word) for word in words}


def _singular(word: str) -> str:
    return word.removesuffix("s") if not word.endswith(("ss", "is")) else word


def test_a_new_word_is_explained_or_ordinary() -> None:
    """A module whose name has a word of its own brings a row of the glossary, or says that it needs none."""
    explained = {_singular(part) for word, _ in glossary() for part in re.findall(r"[a-z]+", word)}
    found = words_of_modules()
    assert found - explained == ORDINARY
    assert len(found & explained) > 20


def folders(package: Path) -> set[str]:
    """The folders directly below *package* that have a module, as its README writes them."""
    return {f"{path.name}/" for path in package.iterdir() if path.is_dir() and any(path.rglob("*.py"))}


def test_the_readme_of_the_package_has_a_line_for_each_folder() -> None:
    """drakcelery/README.md lists each folder once, in the order of the alphabet, and no other."""
    text = (PACKAGE / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+/)` \| \S.* \|$", text, re.MULTILINE)
    assert listed == sorted(folders(PACKAGE))
    assert missing(text) == []
