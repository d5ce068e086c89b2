"""The command that shows what a sample did.

What it works with is imported when it runs: neither its help nor the shell's completion needs it.
"""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from drakcelery.cli.completion import uids_or_directories
from drakcelery.cli.options import chosen_form, read_settings, with_settings
from drakcelery.errors import ArtifactUnreadable

if TYPE_CHECKING:
    from drakcelery.behaviour.report import Report
    from drakcelery.reading import Analysis

FORMATS = ("text", "markdown", "json", "html", "stix", "misp")
EXCHANGED = ("stix", "misp")
"""Forms that :mod:`drakcelery.operators.exchange` has, each in a module and by an extra of its name."""


@click.command(
    epilog="\b\nExamples:\n"
    "  drakcelery report 6f2c5a0e-9d7c-4f55-a3b1-7d0a4c1b2e90\n"
    "  drakcelery report ./analysis --all | less\n"
    "  drakcelery report ./analysis --format markdown > report.md\n"
    "  drakcelery report ./analysis --format html > report.html\n"
    "  drakcelery report ./analysis --format stix > bundle.json\n"
    "  drakcelery report ./analysis --format misp > event.json"
)
@click.argument("analysis", metavar="UID_OR_DIRECTORY", shell_complete=uids_or_directories)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="json is report.json as it is; stix and misp need the extra of their name; the others are defanged.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--all", "everything", is_flag=True, help="Also what only Windows did, and long lists in full.")
@with_settings
def report(
    analysis: str, form: str, as_json: bool, everything: bool, config: Path | None, data_dir: Path | None
) -> None:
    """Show what the sample of an analysis did: how it ended, processes, files, registry, network, indicators.

    The directory is one that `drakcelery fetch` made: a name with a slash, or of one that is there.
    """
    from drakcelery.operators import views
    from drakcelery.operators.report.html import html
    from drakcelery.operators.report.markdown import markdown
    from drakcelery.operators.report.sections import document
    from drakcelery.operators.report.stored import read_report, require_report
    from drakcelery.operators.report.text import print_page

    form = chosen_form(form, as_json=as_json)
    if everything and form in EXCHANGED:
        raise click.UsageError(
            f"--all is not for --format {form}, which has at most 1000 entries of each list"
        )
    found = find(analysis, config, data_dir)
    if form == "json":
        require_report(found)
        click.echo(_written(found))
        return
    said = read_report(found)
    if form in EXCHANGED:
        click.echo(_exchanged(found, said, form), nl=False)
    elif form == "html":
        click.echo(html(document(said, everything=everything)), nl=False)
    elif form == "markdown":
        click.echo(markdown(document(said, everything=everything)), nl=False)
    else:
        print_page(views.console(), document(said, everything=everything))
        if not _is_directory(analysis):
            _tell_of_second_looks(found.uid, config, data_dir)


def _tell_of_second_looks(uid: str, config: Path | None, data_dir: Path | None) -> None:
    """What the ledger knows, and a report cannot, which is made before them."""
    from drakcelery.operators import views
    from drakcelery.operators.result_lines import looked_again
    from drakcelery.wiring import make_ledger

    record = make_ledger(read_settings(config, data_dir)).get(uid)
    for sentence in looked_again(record) if record is not None else ():
        views.console().print(sentence, markup=False, highlight=False)


def _written(found: Analysis) -> str:
    """``report.json`` without a letter that a terminal could take for something else."""
    try:
        return json.dumps(found.report_json, indent=2)
    except RecursionError:
        raise ArtifactUnreadable(f"the report of {found.uid} is nested too deep") from None


def _exchanged(found: Analysis, said: Report, form: str) -> str:
    """What others read. Raises :class:`click.ClickException` where the extra is missing that makes it."""
    from drakcelery.operators.exchange import sharing

    try:
        module = importlib.import_module(f"drakcelery.operators.exchange.{form}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("drakcelery"):
            raise
        raise click.ClickException(
            f"--format {form} needs {error.name}; install it with: pip install 'drakcelery[{form}]'"
        ) from None
    made: str = getattr(module, form)(said, sharing.level(found.headers))
    return made


def _is_directory(analysis: str) -> bool:
    return "/" in analysis or os.path.isdir(analysis)  # noqa: PTH112 it takes any name


def find(analysis: str, config: Path | None, data_dir: Path | None) -> Analysis:
    """The analysis of that uid, or in that directory, which needs neither settings nor servers."""
    if _is_directory(analysis):
        from drakcelery.reading import Analysis

        return Analysis.from_directory(analysis)
    from drakcelery.operators.report.stored import find_analysis
    from drakcelery.wiring import make_ledger

    ours = read_settings(config, data_dir)
    return find_analysis(ours, make_ledger(ours), analysis)
