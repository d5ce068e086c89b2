"""``python -m distribution constraints`` and ``python -m distribution deb``: what make runs."""

from __future__ import annotations

from pathlib import Path

import click

from distribution import LOCK, ROOT, constraints
from drakcelery import __version__


@click.group()
def main() -> None:
    """Make what is released beside the wheel."""


@main.command("constraints")
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
def write_constraints(path: Path) -> None:
    """Write the tested versions of every dependency to PATH."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        constraints.plain(LOCK.read_text(encoding="utf-8"), version=__version__), encoding="utf-8"
    )
    click.echo(path)


@main.command()
@click.option("--output", default=ROOT / "dist", type=click.Path(file_okay=False, path_type=Path))
@click.option("--cache", default=ROOT / "build" / "deb", type=click.Path(file_okay=False, path_type=Path))
@click.option("--version", help="Of the package, in Debian's form.  [default: the code's]")
def deb(output: Path, cache: Path, version: str | None) -> None:
    """Make the Debian package; print its path."""
    from distribution import deb as package

    click.echo(package.make(output.resolve(), cache.resolve(), version=version))


if __name__ == "__main__":
    main(prog_name="python -m distribution")
