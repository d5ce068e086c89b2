"""Commands that become one of drakcelery's processes."""

from __future__ import annotations

from pathlib import Path

import click

from drakcelery import processes
from drakcelery.cli.options import read_settings, with_settings


@click.command()
@with_settings
def ingress(config: Path | None, data_dir: Path | None) -> None:
    """Take recognized samples from Karton and start their analyses."""
    processes.run_ingress(read_settings(config, data_dir))


@click.group()
def worker() -> None:
    """Start a Celery worker of this host."""


@worker.command(name="vm")
@with_settings
def worker_vm(config: Path | None, data_dir: Path | None) -> None:
    """The worker that owns this host's VM slots: prepare and run."""
    processes.become_celery("vm", read_settings(config, data_dir))


@worker.command(name="io")
@with_settings
def worker_io(config: Path | None, data_dir: Path | None) -> None:
    """The worker that needs files only: collect, upload and publish."""
    processes.become_celery("io", read_settings(config, data_dir))


@click.command()
@with_settings
def beat(config: Path | None, data_dir: Path | None) -> None:
    """Send reconcile every ten seconds."""
    processes.become_celery("beat", read_settings(config, data_dir))


@click.command()
@with_settings
def flower(config: Path | None, data_dir: Path | None) -> None:
    """Serve Flower, where [flower] says."""
    processes.become_celery("flower", read_settings(config, data_dir))


@click.command()
@with_settings
def system(config: Path | None, data_dir: Path | None) -> None:
    """Run karton-system, for a machine that has no Karton yet."""
    processes.run_system(read_settings(config, data_dir))
