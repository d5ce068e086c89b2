"""The command for whoever sets it up, or wonders what is wrong.

What it works with is imported when it runs: neither its help nor the shell's completion needs it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from drakcelery.cli.options import json_option, read_settings, with_settings


@click.command()
@click.option(
    "--only",
    "only",
    multiple=True,
    metavar="CHECK",
    help="A check or an area such as redis, with what it depends on. May be given again.  [default: all]",
)
@json_option
@with_settings
@click.pass_context
def doctor(
    context: click.Context, only: Sequence[str], as_json: bool, config: Path | None, data_dir: Path | None
) -> None:
    """Check this installation and say how to fix problems. Exits with 1 if a check failed."""
    from drakcelery import doctor as checks
    from drakcelery.doctor.finding import Status
    from drakcelery.doctor.runner import chosen, examine
    from drakcelery.doctor.subject import Subject
    from drakcelery.doctor.view import command_lines, findings_view
    from drakcelery.operators import views
    from drakcelery.telemetry import logs

    logs.configure(level="error", style="console")
    selected = chosen(checks.CHECKS, only)
    findings = list(examine(selected, Subject(lambda: read_settings(config, data_dir))))
    if as_json:
        click.echo(json.dumps([finding.as_json() for finding in findings], indent=2))
    else:
        views.console().print(findings_view(findings))
        for line in command_lines(findings):
            click.echo(line)
    if any(finding.status is Status.FAILED for finding in findings):
        context.exit(1)
