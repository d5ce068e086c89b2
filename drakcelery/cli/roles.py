"""Commands that become a ``celery`` process.

What a command works with is imported when it runs: neither its help nor the shell's completion needs it.
"""

from __future__ import annotations

from pathlib import Path

import click

from drakcelery.cli.options import read_settings, with_settings


@click.group()
def worker() -> None:
    """Start a Celery worker of this host."""


@worker.command(name="vm")
@with_settings
def worker_vm(config: Path | None, data_dir: Path | None) -> None:
    """The worker that owns this host's VM slots: prepare and run."""
    _become("vm", config, data_dir)


@worker.command(name="io")
@with_settings
def worker_io(config: Path | None, data_dir: Path | None) -> None:
    """The worker for stages that need only files: collect, upload and publish."""
    _become("io", config, data_dir)


@click.command()
@click.option(
    "--url-prefix", metavar="PATH", help="Path below which a reverse proxy shows Flower: /flower, say."
)
@with_settings
def flower(url_prefix: str | None, config: Path | None, data_dir: Path | None) -> None:
    """Serve Flower on the address in [flower]."""
    more = () if url_prefix is None else (f"--url-prefix={url_prefix}",)
    _become("flower", config, data_dir, *more)


def _become(role: str, config: Path | None, data_dir: Path | None, *more: str) -> None:
    """Replace this process."""
    from drakcelery.worker import commands

    commands.become_celery(role, read_settings(config, data_dir), *more)
