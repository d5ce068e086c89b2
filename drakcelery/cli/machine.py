"""Commands for one machine without Xen: the whole road, embedded."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from drakcelery import embedded, settings
from drakcelery.cli.options import DATA_DIR_HELP
from drakcelery.operators import views


@click.command()
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help=DATA_DIR_HELP)
def up(data_dir: Path | None) -> None:
    """Run everything on this machine until Ctrl-C: Valkey, SeaweedFS, Karton, workers, Flower."""
    sys.exit(embedded.run(data_dir or settings.user_data_dir()))


@click.command(name="demo")
@click.option(
    "--sample",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File to analyse.  [default: drakcelery's own behaviour sample]",
)
@click.option(
    "--timeout", type=click.IntRange(min=1), default=60, show_default=True, help="Seconds to watch."
)
def demo_command(sample: Path | None, timeout: int) -> None:
    """Analyse one sample with a temporary stack, show the result, and stop everything again."""
    embedded.stack_class()  # says what to install where the extra is missing
    from drakcelery.embedded import demo  # needs the extra, which production hosts do not have

    demo.run(sample, timeout=timeout, to=Path("drakcelery-demo"), console=views.console())
