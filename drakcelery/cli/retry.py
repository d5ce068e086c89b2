"""The command that asks again for an analysis.

What it works with is imported when it runs: neither its help nor the shell's completion needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from drakcelery.cli.completion import uids
from drakcelery.cli.options import read_settings, with_settings
from drakcelery.cli.steer import asker
from drakcelery.cli.waiting import watch
from drakcelery.cli.wishes import with_wishes
from drakcelery.model.states import Priority

AS_BEFORE = "as before"


@click.command(
    epilog="\b\nExamples:\n"
    "  drakcelery retry 6f2c5a0e-9d7c-4f55-a3b1-7d0a4c1b2e90\n"
    "  drakcelery retry 6f2c5a0e-9d7c-4f55-a3b1-7d0a4c1b2e90 --profile win7-x64 --timeout 300 --wait"
)
@click.argument("uid", shell_complete=uids)
@click.option(
    "--platform", type=click.Choice(["win32", "win64"]), help=f"Windows to run on.  [default: {AS_BEFORE}]"
)
@with_wishes(AS_BEFORE)
@click.option(
    "--priority",
    type=click.Choice([one.value for one in Priority]),
    help=f"Karton's priority.  [default: {AS_BEFORE}]",
)
@click.option("--wait", is_flag=True, help="Show progress until the analysis is over; fail if it fails.")
@with_settings
def retry(
    uid: str,
    plugins: Sequence[str],
    priority: str | None,
    wait: bool,
    config: Path | None,
    data_dir: Path | None,
    **wishes: Any,
) -> None:
    """Analyse the sample of UID again, in a new analysis; print the uid of that one.

    The analysis UID is over, and stays as it is: published, failed, refused or cancelled. It works for as
    long as its sample is kept beside the artifacts, or Karton still has it.
    """
    from drakcelery.karton.kept import Wishes
    from drakcelery.operators.retry import retry as ask_again
    from drakcelery.telemetry.logs import configure
    from drakcelery.wiring import make_ledger, make_storage

    ours = read_settings(config, data_dir)
    configure(level="error", style="console")
    urgency = Priority(priority) if priority else None
    wanted = Wishes(plugins=tuple(plugins), priority=urgency, **wishes)
    again = ask_again(ours, make_ledger(ours), make_storage(ours), uid, wishes=wanted, by=asker())
    click.echo(again)
    if wait:
        watch(ours, [again])
