"""The command that finds analyses.

What it works with is imported when it runs: neither its help nor the shell's completion needs it.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from drakcelery.cli.options import json_option, ledger_of, read_settings, with_settings
from drakcelery.model.states import State

MOST = 1000


class Moment(click.ParamType[float]):
    """A time: a date in ISO 8601, in UTC unless it says otherwise, or how long ago, such as ``2h``."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """UNIX time."""
        if isinstance(value, int | float):
            return float(value)
        from drakcelery.model.query import moment

        try:
            return moment(value, now=time.time())
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.argument("text", required=False)
@click.option("--uid", metavar="PREFIX", help="Beginning of the uid.")
@click.option("--sha256", metavar="PREFIX", help="Beginning of the sample's hash.")
@click.option("--name", metavar="TEXT", help="Part of the sample's name; capitals do not matter.")
@click.option("--reason", metavar="TEXT", help="Part of the reason why it ended so; capitals do not matter.")
@click.option("--state", type=click.Choice([one.value for one in State], case_sensitive=False), help="State.")
@click.option("--host", metavar="NAME", help="Host that ran it.")
@click.option("--profile", metavar="NAME", help="VM profile.")
@click.option("--engine", metavar="NAME", help="Engine that ran it, such as drakvuf; published ones only.")
@click.option("--since", type=Moment(), help="Ended at this time or later: a date, or 2h, 7d ago.")
@click.option("--until", type=Moment(), help="Ended at this time or before.")
@click.option("--oldest", is_flag=True, help="Oldest first; not with a text, uid, hash, name or reason.")
@click.option(
    "--limit", type=click.IntRange(1, MOST), default=20, show_default=True, help="How many to show at most."
)
@click.option("--after", metavar="PAGE", help="Show the page that follows; the page before names it.")
@json_option
@with_settings
def find(
    text: str | None,
    oldest: bool,
    limit: int,
    after: str | None,
    as_json: bool,
    config: Path | None,
    data_dir: Path | None,
    **wanted: Any,
) -> None:
    """Find analyses that have all that is asked for: live ones first, then the newest.

    TEXT is the beginning of a uid or of a sha256, or a part of the sample's name. Without anything, all
    analyses are listed that the ledger has.
    """
    from drakcelery.model.query import Query

    given = {name: value for name, value in wanted.items() if value is not None}
    if "since" in given and "until" in given and given["since"] > given["until"]:
        raise click.UsageError("--since is later than --until: nothing ended between them")
    query = Query.model_validate({**given, "text": text, "newest_first": not oldest})
    ledger = ledger_of(read_settings(config, data_dir))

    from drakcelery.operators import finding, views
    from drakcelery.operators.status_document import AnalysisStatus

    page = finding.find(ledger, query, limit=limit, after=after)
    if as_json:
        found = [AnalysisStatus.of(record).model_dump(mode="json") for record in page.records]
        click.echo(json.dumps({"analyses": found, "next": page.following}, indent=2))
    elif not page.records:
        click.echo("No analysis fits." if after is None else "No more.")
    else:
        console = views.console()
        console.print(views.records_table(page.records, now=ledger.now(), width=console.width))
    if not as_json and page.following is not None:
        click.echo(f"There may be more: add --after {page.following}")
