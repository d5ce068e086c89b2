"""The command that shows a report: of a directory, in three forms, and a sentence where there is none."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from karton.core import Task

from drakcelery.cli import cli
from drakcelery.cli.completion import uids_or_directories
from drakcelery.errors import ArtifactMissing, StackError
from drakcelery.karton.analysis_task import STORED
from drakcelery.model.analysis import State
from drakcelery.operators.report import stored
from drakcelery.reading import Analysis
from drakcelery.settings import Settings
from drakcelery.testing import RECORDED
from tests import builders

UID = "0a6d79eb-8cce-4588-8100-eae9490ff37b"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """What `drakcelery fetch` downloads."""
    return Path(shutil.copytree(RECORDED, tmp_path / "analysis"))


def typed(*words: str | Path) -> tuple[int, str, str]:
    """Exit status, output and errors of `drakcelery report`; there is no server, and no configuration."""
    done = CliRunner(env={"DRAKCELERY_CONFIG": "/nowhere/drakcelery.ini"}).invoke(
        cli, ["report", *map(str, words)], prog_name="drakcelery"
    )
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def change(directory: Path, name: str, **changes: Any) -> None:
    """Change keys of a JSON file."""
    path = directory / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_directory_needs_no_server(directory: Path) -> None:
    """As text, as Markdown, and as it is."""
    status, text, said = typed(directory)
    assert (status, said) == (0, "")
    assert text.startswith("behaviour.exe\n  analysis")
    status, markdown, _ = typed(directory, "--format", "markdown")
    assert (status, markdown.splitlines()[0]) == (0, "# What `behaviour.exe` did")
    written = json.loads((directory / "report.json").read_bytes())
    for how in (["--format", "json"], ["--json"]):
        status, out, _ = typed(directory, *how)
        assert (status, json.loads(out)) == (0, written)


def test_json_is_as_it_was_written(directory: Path) -> None:
    """What a later version added is there, links are not defanged, and no letter reaches the terminal."""
    change(directory, "report.json", later=["\u202e http://evil.example/ \x9b"])
    _, out, _ = typed(directory, "--json")
    assert json.loads(out)["later"] == ["\u202e http://evil.example/ \x9b"]
    assert out.isascii()
    assert "\\u202e http://evil.example/" in out
    change(directory, "report.json", version=99)
    assert json.loads(typed(directory, "--json")[1])["version"] == 99
    assert typed(directory)[0] == 1


def test_numbers_and_names_beyond_all_bounds(directory: Path) -> None:
    """Neither a time of 400 digits, nor nesting that cannot be written, nor a name of 5000 letters."""
    run = json.loads((directory / "report.json").read_bytes())["run"]
    change(directory, "report.json", run=run | {"started": "9" * 400})
    assert typed(directory)[0] == 0
    text = (directory / "report.json").read_text().removesuffix("}")
    (directory / "report.json").write_text(f'{text}, "later": {"[" * 1000}{"]" * 1000}}}')
    status, _, said = typed(directory, "--json")
    assert (status, said) == (1, f"Error: the report of {UID} is nested too deep\n")
    status, _, said = typed("a" * 5000)
    assert (status, said) == (1, "Error: DRAKCELERY_CONFIG /nowhere/drakcelery.ini: no such file\n")


def test_what_is_no_report_says_why(directory: Path, tmp_path: Path) -> None:
    """A directory of something else, a broken file, a form of the future, one that could not be made."""

    def error(*words: str | Path) -> str:
        status, out, said = typed(*words)
        assert (status, out) == (1, "")
        return said

    (tmp_path / "empty").mkdir()
    assert "is no analysis: it has no metadata.json. `drakcelery fetch` makes one" in error(
        tmp_path / "empty"
    )
    assert "is no analysis" in error(tmp_path / "not" / "there")
    report = json.loads((directory / "report.json").read_bytes())
    (directory / "report.json").write_text(json.dumps({"processes": [], "modified_files": []}))
    assert "report.json has no version, so it is none of drakcelery's" in error(directory)
    (directory / "report.json").write_text(json.dumps(report))
    change(directory, "report.json", version=2)
    assert "report.json is of its version 2; this drakcelery reads 1" in error(directory)
    change(directory, "report.json", version=0)
    assert "report.json is wrong in 1 places, first in version: Input should be 1" in error(directory)
    change(directory, "report.json", version=1, left_out={"\x1b[31m": -1})
    said = error(directory)
    assert "first in left_out.�[31m" in said
    assert "\x1b" not in said
    (directory / "report.json").write_bytes(b"[]")
    assert "report.json is wrong in 1 places, first in the whole of it: Input should be" in error(directory)
    (directory / "report.json").write_bytes(b'{"version": 1, ')
    assert "report.json is no JSON" in error(directory)
    (directory / "report.json").unlink()
    assert f"analysis {UID} has no report.json: it was made by a version of drakcelery" in error(directory)
    change(directory, "metadata.json", report_failure="ValueError: \x1b[31m")
    assert f"analysis {UID} has no report.json: it could not be made: ValueError: �[31m\n" in error(directory)


def test_wrong_forms_are_refused(directory: Path) -> None:
    """Only what is there is offered."""
    status, _, said = typed(directory, "--format", "pdf")
    assert status == 2
    assert "'pdf' is not one of 'text', 'markdown', 'json', 'html', 'stix', 'misp'" in said
    status, text, said = typed(directory, "--json", "--format", "html")
    assert (status, text) == (2, "")
    assert "--json asks for another form than --format html" in said
    assert typed(directory, "--json", "--format", "json")[0] == 0
    status, text, said = typed(directory, "--all", "--format", "stix")
    assert (status, text) == (2, "")
    assert "--all is not for --format stix" in said


def test_stix_is_marked_by_the_header(directory: Path) -> None:
    """Where a task is stored beside the artifacts, its headers say who may see the bundle."""

    def marking() -> object:
        status, out, said = typed(directory, "--format", "stix")
        assert (status, said) == (0, "")
        return json.loads(out)["objects"][0]["definition"]

    assert marking() == {"tlp": "amber"}
    (directory / STORED).write_text(json.dumps({"headers": {"share_3rd_party": True}}))
    assert marking() == {"tlp": "green"}
    (directory / STORED).write_text(json.dumps({"headers": {"share_3rd_party": False}}))
    assert marking() == {"tlp": "red"}
    (directory / STORED).write_text(json.dumps({"headers": None}))
    status, out, said = typed(directory, "--format", "stix")
    assert (status, out) == (1, "")
    assert "analysis_task.json has no headers" in said


def test_headers_of_a_task() -> None:
    """A service reads them from the task that it got."""
    task = Task({"type": "analysis"}, payload={"metadata": {}}, headers_persistent={"share_3rd_party": False})
    assert Analysis.of(task).headers == {"type": "analysis", "share_3rd_party": False}


@pytest.mark.parametrize(("form", "library"), [("stix", "stix2"), ("misp", "pymisp")])
def test_an_extra_that_is_not_installed(
    form: str, library: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence names what to install."""
    for name in [name for name in sys.modules if name.startswith("drakcelery.operators.exchange.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    status, out, said = typed(directory, "--format", form)
    assert (status, out) == (1, "")
    wanted = f"--format {form} needs {library}; install it with: pip install 'drakcelery[{form}]'"
    assert said == f"Error: {wanted}\n"


def test_misp_is_an_event(directory: Path) -> None:
    """With the tag that the header asks for."""
    status, out, said = typed(directory, "--format", "misp")
    assert (status, said) == (0, "")
    assert json.loads(out)["Tag"] == [{"name": "tlp:amber"}]


@pytest.mark.parametrize("state", [state for state in State if state is not State.PUBLISHED])
def test_what_is_not_published_has_no_report(state: State) -> None:
    """Its state is said, and what it died of."""
    failure = builders.failure(builders.HERE).model_copy(update={"error": "no VM\x1b[31m came up"})
    record = builders.record(failure, state=state).model_copy(update={"analysis": builders.analysis()})
    with pytest.raises(StackError) as caught:
        stored.of_record(Settings(), record)
    if state.is_over:
        assert str(caught.value) == f"analysis a {state.value}, so it has no report: no VM�[31m came up"
    else:
        assert str(caught.value).startswith(f"analysis a is {state.value}, so it has no report yet.")


def test_an_analysis_of_nobody() -> None:
    """What was refused has no analysis, and so no bucket."""
    record = builders.record(state=State.FAILED).model_copy(update={"refusal": "no timeout"})
    with pytest.raises(StackError, match="analysis a FAILED, so it has no report: no timeout"):
        stored.of_record(Settings(), record)


def test_missing_reports_are_missing_artifacts(directory: Path) -> None:
    """For those who read with our library, too."""
    (directory / "report.json").unlink()
    with pytest.raises(ArtifactMissing):
        stored.read_report(Analysis.from_directory(directory))


def test_tab_offers_directories_where_no_uid_fits() -> None:
    """Without a server there are no uids; a name with a slash is none."""
    command = cli.get_command(click.Context(cli), "report")
    assert command is not None
    context = click.Context(command)
    context.params = {"config": Path("/nowhere/drakcelery.ini")}
    for begun in ("", "./ana"):
        offers = uids_or_directories(context, command.params[0], begun)
        assert [(one.value, one.type) for one in offers] == [(begun, "dir")]
