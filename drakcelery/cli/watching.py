"""The command that says what watching buys.

What it works with is imported when it runs: neither its help nor the shell's completion needs it.
"""

from __future__ import annotations

import math
from pathlib import Path

import click

from drakcelery.cli.completion import watched_profiles, watched_qualities
from drakcelery.cli.options import json_option, ledger_of, read_settings, with_settings


def _finite(_context: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    """``nan`` is a number to Click, within every range."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is no number.")
    return value


@click.command(
    epilog="\b\nExamples:\n  drakcelery watch-report\n"
    "  drakcelery watch-report --profile win10-22h2 --keep 99"
)
@click.option("--profile", metavar="NAME", shell_complete=watched_profiles, help="Only this VM profile.")
@click.option("--quality", metavar="NAME", shell_complete=watched_qualities, help="Only this quality.")
@click.option(
    "--keep",
    metavar="PERCENT",
    type=click.FloatRange(50, 99.5),
    callback=_finite,
    help="Of the facts, how much settings are to keep.  [default: as [watch] max_loss says]",
)
@json_option
@with_settings
def watch_report(
    profile: str | None,
    quality: str | None,
    keep: float | None,
    as_json: bool,
    config: Path | None,
    data_dir: Path | None,
) -> None:
    """Show what quiet stops would save in slot time and lose in facts.

    It tries rules on the runs that were watched to their end, by profile and quality, and recommends the ones
    that save most of those that surely lose no more than they may.
    """
    ours = read_settings(config, data_dir)
    ledger = ledger_of(ours)

    from drakcelery.operators import views
    from drakcelery.operators.watch_report import HOW_TO_START, asked_of, watch_report
    from drakcelery.operators.watch_table import lines, watch_table

    asked = asked_of(ours.watch, profile=profile, quality=quality, keep=keep and keep / 100)
    with ledger.named():
        report = watch_report(ledger, asked)
    if as_json:
        click.echo(report.model_dump_json(indent=2))
    elif not report.curves:
        click.echo(
            HOW_TO_START if (profile, quality) == (None, None) else "No such run was watched for news."
        )
    else:
        console = views.console()
        console.print(watch_table(report, console.width))
        click.echo()
        for line in lines(report):
            click.echo(line)
