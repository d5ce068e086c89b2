"""Commands for what could not be dealt with: the quarantine of tasks and analyses.

What a command works with is imported when it runs: neither its help nor the shell's completion needs it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from drakcelery.cli.completion import quarantined
from drakcelery.cli.options import json_option, read_settings, with_settings
from drakcelery.cli.steer import asker
from drakcelery.errors import StackError, UnreadableRecord
from drakcelery.model.text import clean

if TYPE_CHECKING:
    from drakcelery.ledger import Ledger
    from drakcelery.ledger.inbox import Inbox
    from drakcelery.ledger.quarantine import Entry

_OF_TASKS = ("inbox", "line")
"""The places where items in quarantine are Karton tasks that are no analyses yet."""


@click.group()
def isolated() -> None:
    """Handle tasks and analyses that are in quarantine.

    An error that only one task or analysis causes affects no other. The item is tried again, later and later,
    and ends as CRASHED after eight tries. An item that cannot even be ended stays here until you remove it.
    """


@isolated.command(name="list")
@json_option
@with_settings
def list_command(as_json: bool, config: Path | None, data_dir: Path | None) -> None:
    """Show the items: where, how often and why they failed, and when they are tried again."""
    from drakcelery.operators import views
    from drakcelery.wiring import make_ledger

    ledger = make_ledger(read_settings(config, data_dir))
    entries = ledger.quarantine.all()
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in entries], indent=2))
    elif entries:
        views.console().print(views.quarantine_table(entries, now=ledger.now()))
    else:
        click.echo("Nothing is in quarantine.")


@isolated.command()
@click.argument("uid", shell_complete=quarantined)
@with_settings
def retry(uid: str, config: Path | None, data_dir: Path | None) -> None:
    """Try UID again now, before its time."""
    from drakcelery.wiring import make_ledger

    ledger = make_ledger(read_settings(config, data_dir))
    uid = _whole(ledger.quarantine.all(), uid)
    if not ledger.quarantine.release(uid):
        raise _not_there(uid)
    click.echo(f"{uid} is tried again now.")


def _whole(entries: Iterable[Entry], begin: str) -> str:
    """The uid in quarantine that is *begin*, or begins so. Raises :class:`StackError`: none, or several."""
    from drakcelery.model.names import SHORTEST_PREFIX

    uids = sorted({entry.uid for entry in entries})
    if begin in uids:
        return begin
    begun = [uid for uid in uids if len(begin) >= SHORTEST_PREFIX and uid.startswith(begin)]
    if len(begun) > 1:
        shown = ", ".join(clean(uid, 80) for uid in begun[:10])
        raise StackError(f"{len(begun)} in quarantine begin with {begin}: {shown}. Give more of the uid")
    if not begun:
        raise _not_there(begin)
    return begun[0]


def _not_there(uid: str) -> StackError:
    return StackError(f"{uid} is not in quarantine; `drakcelery isolated list` shows what is")


def _end(ledger: Ledger, inbox: Inbox, uid: str, *, is_task: bool) -> None:
    """Note in the ledger that *uid*, of an analysis or a task, is over, or ingress would adopt it."""
    from drakcelery.karton import reading
    from drakcelery.ledger.away import unless_odd
    from drakcelery.stages import cancellation

    reason = f"removed by {asker()}: it could not be dealt with"
    try:
        record = ledger.get(uid)
    except UnreadableRecord:
        task_uid = unless_odd(lambda: ledger.owner(uid), None)
        ledger.remove(uid, reason=reason)
        if task_uid:
            _withdraw(inbox, uid, task_uid, reason)
    else:
        if record is not None:
            cancellation.cancel_quietly(ledger, record, reason=reason)
        elif is_task:
            _withdraw(inbox, reading.own_uid(uid), uid, reason)


def _withdraw(inbox: Inbox, uid: str, task_uid: str, reason: str) -> None:
    from drakcelery.karton import reading

    inbox.drop(task_uid)
    inbox.adopt(task_uid)  # a record is written only for tasks in the inbox
    inbox.withdraw(uid, task_uid=task_uid, root_uid=reading.root_of(task_uid), reason=reason)


@isolated.command()
@click.argument("uid", shell_complete=quarantined)
@with_settings
def remove(uid: str, config: Path | None, data_dir: Path | None) -> None:
    """Drop UID permanently, from the quarantine and from the inbox or the ledger.

    Its Karton task stays as it is. Try `isolated retry` first: a removed item is not analysed.
    """
    from drakcelery.wiring import make_ledger

    ours = read_settings(config, data_dir)
    ledger = make_ledger(ours)
    entries = ledger.quarantine.all()
    uid = _whole(entries, uid)
    inbox = ledger.inbox()
    inbox.drop(uid)
    _end(ledger, inbox, uid, is_task=any(entry.where in _OF_TASKS for entry in entries if entry.uid == uid))
    ledger.quarantine.remove(uid)
    click.echo(f"{uid} is removed. Its Karton task, if there is one, is as it was.")
