"""Commands about the bucket of the analyses: who may read it, and for how long its objects stay.

What a command works with is imported when it runs: neither its help nor the shell's completion needs it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from drakcelery.cli.options import json_option, read_settings, with_settings
from drakcelery.errors import SettingsError

if TYPE_CHECKING:
    from drakcelery.storage.bucket_policy import Document

apply_option = click.option("--apply", is_flag=True, help="Do it, instead of printing it.")


@click.group()
def bucket() -> None:
    """Set who may read the bucket of the analyses, and how long its objects stay."""
    from drakcelery.telemetry.logs import configure

    configure(level="error", style="console")


@bucket.command()
@with_settings
def policy(config: Path | None, data_dir: Path | None) -> None:
    """Print what a consumer's own policy must allow, as JSON; for MinIO, AWS IAM and Ceph users."""
    from drakcelery.storage import bucket_policy as documents

    ours = read_settings(config, data_dir)
    _print(documents.read_policy(ours.drakcelery.bucket))


@bucket.command()
@click.argument("user")
@apply_option
@json_option
@with_settings
def grant(user: str, apply: bool, as_json: bool, config: Path | None, data_dir: Path | None) -> None:
    """Let USER, a Karton service that reads analyses, read their bucket.

    USER is an ARN, or, at SeaweedFS and MinIO, a name. Without --apply the policy is printed and nothing is
    changed. --apply adds USER to the bucket's policy, leaves its other statements alone, and reads it back.
    MinIO has no such policy for users: for it the command prints the mc commands that do it.
    """
    from drakcelery.operators import bucket_rules
    from drakcelery.storage import bucket_policy as documents
    from drakcelery.wiring import make_storage

    ours = read_settings(config, data_dir)
    storage, name = make_storage(ours), ours.drakcelery.bucket
    software = storage.rights.software()
    if documents.is_minio(software):
        _grant_at_minio(name, user, apply=apply, quiet=as_json)
        return
    reader = documents.principal(user, software)
    if not apply:
        _print(documents.with_readers(None, name, frozenset({reader})))
        if not as_json:
            click.echo(f"Nothing was changed; --apply puts this into the policy of {name!r}.", err=True)
        return
    document = bucket_rules.apply_policy(storage, name, reader)
    if as_json:
        _print(document)
    else:
        click.echo(
            f"{reader} may read {name!r} at {ours.s3.address}. A server may not say that there is no such "
            "user: see that it can read."
        )


@bucket.command()
@click.option("--days", type=click.IntRange(min=1, max=36500), required=True, help="How long objects stay.")
@apply_option
@json_option
@with_settings
def lifecycle(days: int, apply: bool, as_json: bool, config: Path | None, data_dir: Path | None) -> None:
    """Make S3 remove every object of the bucket after so many days: artifacts, and samples kept for a retry.

    An analysis that is still being published is safe: S3 counts whole days since each object was written,
    and an upload takes less than that (if [drakcelery] storage_patience lets it take longer, so few days are
    refused). One that waits in a consumer's queue is not: choose more days than consumers may be away.
    Without --apply the rule is printed.
    """
    from drakcelery.operators import bucket_rules
    from drakcelery.storage import bucket_policy as documents
    from drakcelery.wiring import make_storage

    ours = read_settings(config, data_dir)
    name = ours.drakcelery.bucket
    bucket_rules.require_retention(ours, days)
    if not apply:
        _print(documents.retention(days))
        if not as_json:
            click.echo(f"Nothing was changed; --apply makes this the rule of {name!r}.", err=True)
        return
    bucket_rules.apply_retention(make_storage(ours), name, days)
    if as_json:
        _print(documents.retention(days))
    else:
        click.echo(f"{ours.s3.address} removes each object of {name!r} {days} days after it was written.")


@bucket.command()
@json_option
@with_settings
def reindex(as_json: bool, config: Path | None, data_dir: Path | None) -> None:
    """Make the records of published analyses again, after Redis has lost them, so that `find` has them.

    What the bucket does not tell, such as the VM profile, is unknown. A record that is there stays as it is,
    and one is made only if it would still be there ([drakcelery] record_ttl).
    """
    from drakcelery.operators.restoring import restore
    from drakcelery.wiring import make_ledger, make_storage

    ours = read_settings(config, data_dir)
    found = restore(ours, make_ledger(ours), make_storage(ours))
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
        return
    click.echo(
        f"{found.made} records made; {found.known} were there, {found.expired} would have expired, "
        f"{found.unreadable} cannot be read or are not complete."
    )


def _print(document: Document) -> None:
    click.echo(json.dumps(document, indent=2))


def _grant_at_minio(name: str, user: str, *, apply: bool, quiet: bool) -> None:
    from drakcelery.storage import bucket_policy as documents

    first, second = documents.minio_commands(name, user)
    how = f"save what `drakcelery bucket policy` prints as policy.json, then run: {first} && {second}"
    if apply:
        raise SettingsError(
            f"MinIO applies a bucket's policy to no user, so --apply would have no effect; {how}"
        )
    _print(documents.read_policy(name))
    if not quiet:
        click.echo(
            f"Nothing was changed. MinIO gives rights to users by policies of their own: {how}", err=True
        )
