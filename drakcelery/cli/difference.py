"""The command that compares two analyses.

What it works with is imported when it runs: neither its help nor the shell's completion needs it.
"""

from __future__ import annotations

from pathlib import Path

import click

from drakcelery.cli.completion import uids_or_directories
from drakcelery.cli.options import chosen_form, with_settings
from drakcelery.cli.report import find

FORMATS = ("text", "html", "json")
DIFFERENT = 1
"""Exit status, as diff(1) has it; 2 is an error."""


@click.command(
    epilog="\b\nExamples:\n"
    "  drakcelery diff ./yesterday ./today\n"
    "  drakcelery diff 6f2c5a0e-9d7c-4f55-a3b1-7d0a4c1b2e90 ./analysis --json\n"
    "  drakcelery diff ./yesterday ./today --format html > difference.html"
)
@click.argument("first", metavar="UID_OR_DIRECTORY", shell_complete=uids_or_directories)
@click.argument("second", metavar="UID_OR_DIRECTORY", shell_complete=uids_or_directories)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="text and html are defanged; html is one file, without scripts.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--all", "everything", is_flag=True, help="Long lists in full, and longer values.")
@with_settings
def diff(
    first: str,
    second: str,
    form: str,
    as_json: bool,
    everything: bool,
    config: Path | None,
    data_dir: Path | None,
) -> None:
    """Show what the sample of one analysis did and that of another did not.

    A directory is one that `drakcelery fetch` made: a name with a slash, or of one that is there.

    What a run chooses by chance is no difference (pids, temporary names, times), nor is what Windows does by
    itself. The exit status is 0 if both did the same, 1 if not, and 2 if they cannot be compared.
    """
    from drakcelery.behaviour.difference import difference
    from drakcelery.operators import views
    from drakcelery.operators.report.comparison import document
    from drakcelery.operators.report.html import html
    from drakcelery.operators.report.stored import read_report
    from drakcelery.operators.report.text import print_page

    form = chosen_form(form, as_json=as_json)
    found = difference(*(read_report(find(one, config, data_dir)) for one in (first, second)))
    if form == "json":
        click.echo(found.model_dump_json(indent=2, ensure_ascii=True))
    elif form == "html":
        click.echo(html(document(found, everything=everything)), nl=False)
    else:
        print_page(views.console(), document(found, everything=everything))
    if not found.is_same:
        click.get_current_context().exit(DIFFERENT)
