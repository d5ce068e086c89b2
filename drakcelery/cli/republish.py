"""The command that sends a stored analysis again.

What it works with is imported when it runs: neither its help nor the shell's completion needs it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from drakcelery.cli.completion import consumers, uids
from drakcelery.cli.options import json_option, read_settings, with_settings
from drakcelery.cli.steer import asker


@click.command(
    epilog="\b\nExamples:\n"
    "  drakcelery republish 6f2c5a0e-9d7c-4f55-a3b1-7d0a4c1b2e90\n"
    "  drakcelery republish 6f2c5a0e-9d7c-4f55-a3b1-7d0a4c1b2e90 --to karton.config-extractor"
)
@click.argument("uid", shell_complete=uids)
@click.option(
    "--to", metavar="IDENTITY", shell_complete=consumers, help="Only to this consumer.  [default: to all]"
)
@click.option(
    "--sample",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    help="The sample, if Karton has collected it.",
)
@json_option
@with_settings
def republish(
    uid: str,
    to: str | None,
    sample: Path | None,
    as_json: bool,
    config: Path | None,
    data_dir: Path | None,
) -> None:
    """Send the published analysis UID to its consumers again, without running the sample."""
    from drakcelery.model.text import clean
    from drakcelery.operators.republish import republish as send_again
    from drakcelery.telemetry.logs import configure
    from drakcelery.wiring import make_ledger, make_storage

    ours = read_settings(config, data_dir)
    configure(level="error", style="console")
    sent = send_again(ours, make_ledger(ours), make_storage(ours), uid, to=to, sample=sample, by=asker())
    if as_json:
        click.echo(json.dumps(asdict(sent), indent=2))
    else:
        to = ", ".join(map(clean, sent.to))
        click.echo(f"sent {sent.uid} with {sent.artifacts} artifacts to {to}: task {sent.task}")
