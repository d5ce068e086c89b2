"""The command that puts drakcelery on a machine.

What it works with is imported when it runs: neither its help nor the shell's completion needs it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from drakcelery.deploy.oldkeys import NOT_HERE, PARTS
from drakcelery.deploy.units import ROLES, operators, unit_name

if TYPE_CHECKING:
    from drakcelery.deploy.plan import Plan
    from drakcelery.deploy.wish import Wish


class _RoleName(click.Choice[str]):
    """A role of ours, or a part of DRAKVUF Sandbox, whose documentation has them for the same option."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As click does. A part that is not here fails with the reason."""
        if value in NOT_HERE:
            self.fail(f"{value}: {NOT_HERE[value]}", param, ctx)
        return value if value in PARTS else super().convert(value, param, ctx)


@click.command()
@click.option(
    "--only",
    multiple=True,
    type=_RoleName(list(ROLES)),
    help="Role of this machine; may be given again.  [default: those that fit this machine]",
)
@click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Settings to import: karton.ini, or DRAKVUF Sandbox's config.ini or config.toml; may be given "
    "again, the first counts.  [default: those in /etc, and where Karton looks]",
)
@click.option(
    "--root",
    metavar="DIR",
    default="/",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write below DIR, for a package or an image.",
)
@click.option(
    "--program", metavar="PATH", help="The drakcelery command that the units start.  [default: this one]"
)
@click.option(
    "--drakrun",
    metavar="PATH",
    help="The drakrun command of DRAKVUF Sandbox.  [default: found on this machine, else asked for]",
)
@click.option("--user", default="drakcelery", show_default=True, help="User and group of the services.")
@click.option("--force", is_flag=True, help="Replace existing files; the old ones stay as *.old.")
@click.option("--enable", is_flag=True, help="Create the user and the directory, and enable the units.")
@click.option("--dry-run", is_flag=True, help="Write nothing; print the files, without secrets.")
def init(
    only: Sequence[str],
    sources: Sequence[Path],
    root: Path,
    program: str | None,
    drakrun: str | None,
    user: str,
    force: bool,
    enable: bool,
    dry_run: bool,
) -> None:
    """Join an existing Karton: write this machine's configuration and systemd units."""
    from drakcelery.deploy import plan, writing
    from drakcelery.deploy.wish import Wish

    root = root.resolve()
    wish = Wish(
        root=root,
        only=tuple(dict.fromkeys(role for name in only for role in PARTS.get(name, (name,)))),
        sources=tuple(sources),
        user=user,
        program=PurePosixPath(program or Path(sys.executable).with_name("drakcelery")),
        drakrun=PurePosixPath(drakrun) if drakrun else None,
        force=force,
    )
    made = plan.make(wish)
    if plan.DRAKRUN in made.todo and sys.stdin.isatty():
        made = _ask(wish, made)
    if not dry_run:
        writing.write(made, root, group=operators(user))
    click.echo(
        "".join(f"{name} is {', '.join(PARTS[name])} here\n" for name in only if name in PARTS), nl=False
    )
    click.echo("\n".join(_report(made, dry_run=dry_run)))
    if dry_run:
        _print_files(made)
        return
    if enable:
        _enable(made, root)
    click.echo("\n".join(["", *_next(made, root, enabled=enable)]))


def _enable(made: Plan, root: Path) -> None:
    """Run the commands that have the services started, and show what they say."""
    from drakcelery.deploy import writing

    for command in (*writing.preparing(made, root), writing.enabling(made.roles, root)):
        said = writing.run(command)
        click.echo(f"\n$ {shlex.join(command)}" + (f"\n{said}" if said else ""))


def _print_files(made: Plan) -> None:
    """What would be written, without secrets."""
    from drakcelery.deploy import configuration
    from drakcelery.deploy.targets import Status

    for target in (one for one in made.targets if one.status in (Status.NEW, Status.REPLACED)):
        click.echo(f"\n# ---- {target.path}\n{configuration.masked(target.text)}", nl=False)


def _ask(wish: Wish, made: Plan) -> Plan:
    """Ask where ``drakrun`` is; returns the plan with the answer, or unchanged if there is none."""
    from drakcelery.deploy import plan

    where = click.prompt("drakrun of DRAKVUF Sandbox (a path; empty: later)", default="", show_default=False)
    return plan.make(replace(wish, drakrun=PurePosixPath(where))) if where else made


def _report(made: Plan, *, dry_run: bool) -> Iterator[str]:
    for source, findings in groupby(made.findings, key=lambda one: one.source):
        yield f"{source}:"
        for one in findings:
            name = f"[{one.section}] {one.key}" if one.key != "*" else one.section
            joint = " " if one.text.startswith("as ") else ": "
            yield f"  {name}: {one.handling}{joint}{one.text}"
        yield ""
    yield "Would write:" if dry_run else "Files:"
    yield from (f"  {one.status:<9}  {one.mode:04o}  {one.path}" for one in made.targets)
    if made.remarks:
        yield ""
        yield "Note:"
        yield from (f"  {remark}" for remark in made.remarks)


def _next(made: Plan, root: Path, *, enabled: bool) -> Iterator[str]:
    """What is left to do, in order."""
    from drakcelery.deploy import writing
    from drakcelery.deploy.targets import Status
    from drakcelery.deploy.wish import CONFIG

    yield "Next:" if root == Path("/") else f"Next, on the machine that gets {root}:"
    kept = any(one.path == CONFIG and one.status is Status.KEPT for one in made.targets)
    if made.todo:
        yield f"  fill in {', '.join(made.todo)} in {CONFIG}"
    elif not kept:
        yield f"  look through {CONFIG}"
    if made.retire:
        yield f"  systemctl disable --now {' '.join(made.retire)}"
    if not enabled or root != Path("/"):
        yield from (f"  {shlex.join(command)}" for command in writing.preparing(made, Path("/")))
    units = " ".join(unit_name(role) for role in made.roles)
    yield f"  systemctl {'start' if enabled else 'enable --now'} {units}"
