"""Commands that become a process beside Karton's own: ingress, and karton-system.

What a command works with is imported when it runs: neither its help nor the shell's completion needs it.
"""

from __future__ import annotations

from pathlib import Path

import click

from drakcelery.cli.options import read_settings, with_settings


@click.command()
@with_settings
def ingress(config: Path | None, data_dir: Path | None) -> None:
    """Take recognized samples from Karton and start their analyses."""
    from drakcelery.cli.services import run_ingress

    run_ingress(read_settings(config, data_dir))


@click.command()
@with_settings
def system(config: Path | None, data_dir: Path | None) -> None:
    """Run karton-system, for a machine that has no Karton yet."""
    from drakcelery.cli.karton_system import run_system

    run_system(read_settings(config, data_dir))
