"""Commands for one machine without Xen: the whole road, embedded.

What a command works with is imported when it runs: neither its help nor the shell's completion needs it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from drakcelery.cli.options import DATA_DIR_HELP, require_yes, yes_option

MOST_SLOTS = 64
"""More than one machine has cores for."""


data_dir_option = click.option(
    "--data-dir", type=click.Path(file_okay=False, path_type=Path), help=DATA_DIR_HELP
)


@click.command()
@data_dir_option
@click.option(
    "--slots",
    "many",
    metavar="N",
    type=click.IntRange(1, MOST_SLOTS),
    help="Samples that run at the same time.  [default: one for each core, as far as memory goes, 8 at most]",
)
@click.option(
    "--engine",
    type=click.Choice(["emulator", "replay", "drakvuf"]),
    help="What runs them.  [default: emulator; drakvuf on a Xen host]",
)
@click.option("--verbose", "-v", is_flag=True, help="Show all that the processes log.")
@click.option("--detach", "-d", is_flag=True, help="Return when all is ready; `drakcelery down` stops it.")
@click.option("--reset", is_flag=True, help="Remove all samples and analyses of the data directory first.")
@yes_option
def up(
    data_dir: Path | None,
    many: int | None,
    engine: str | None,
    verbose: bool,
    detach: bool,
    reset: bool,
    yes: bool,
) -> None:
    """Run everything on this machine until Ctrl-C: Valkey, SeaweedFS, Karton, workers, Flower.

    It shows where everything is, each analysis as it goes, and problems.
    """
    if verbose and detach:
        raise click.UsageError("--verbose shows all on this terminal, --detach leaves it: choose one")
    from drakcelery import embedded

    where = _where(data_dir)
    embedded.stack_class()  # says what to install where the extra is missing
    from drakcelery.embedded import size  # needs the extra

    if reset:
        _reset(where, is_sure=yes)
    slots = size.slots(many or size.default_slots())
    overrides = {"drakcelery": {"engine": engine}} if engine else {}
    if detach:
        embedded.start(where, slots=slots, overrides=overrides)
    else:
        sys.exit(embedded.run(where, slots=slots, overrides=overrides, verbose=verbose))


@click.command()
@data_dir_option
def down(data_dir: Path | None) -> None:
    """Stop what `drakcelery up` has started, here or in another terminal. Its data stay."""
    from drakcelery import embedded

    embedded.stack_class()
    from drakcelery.embedded import stopping  # needs the extra

    where = _where(data_dir)
    click.echo("drakcelery is down." if stopping.stop(where) else f"Nothing runs in {where}.")


def _where(data_dir: Path | None) -> Path:
    from drakcelery import settings

    return (data_dir or settings.user_data_dir()).absolute()


def _reset(where: Path, *, is_sure: bool) -> None:
    from rich.filesize import decimal

    from drakcelery.embedded import directory

    if not where.exists():
        return
    directory.require_ours(where)
    if not is_sure:
        question = f"Remove all samples, analyses and logs in {where} ({decimal(directory.size(where))})?"
        require_yes(question)
    directory.empty(where)


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
    from drakcelery import embedded
    from drakcelery.operators import views

    embedded.stack_class()  # says what to install where the extra is missing
    from drakcelery.embedded import demo  # needs the extra, which production hosts do not have

    demo.run(sample, timeout=timeout, to=Path("drakcelery-demo"), console=views.console())
