"""Commands for those who look at analyses.

What a command works with is imported when it runs: neither its help nor the shell's completion needs it.
"""

from __future__ import annotations

import getpass
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from drakcelery.cli.completion import uids
from drakcelery.cli.options import json_option, ledger_of, read_settings, with_settings

if TYPE_CHECKING:
    from drakcelery.ledger import Ledger
    from drakcelery.model.analysis import Value
    from drakcelery.settings import Settings


@click.command()
@click.argument("uid", required=False, shell_complete=uids)
@json_option
@with_settings
def status(uid: str | None, as_json: bool, config: Path | None, data_dir: Path | None) -> None:
    """Show analyses: all live ones and the newest finished ones, or the one with UID.

    Live analyses have a forecast of their start and end.
    """
    ours = read_settings(config, data_dir)
    ledger = ledger_of(ours)
    if uid:
        show_one(ours, ledger, uid, as_json=as_json)
    else:
        show_all(ours, ledger, as_json=as_json)


def show_one(ours: Settings, ledger: Ledger, uid: str, *, as_json: bool) -> None:
    """Show the analysis, or the sample that waits in Karton for one. Raises :class:`StackError` if there is
    neither."""
    from drakcelery.forecast.forecast import make_forecast
    from drakcelery.operators import analyses, finding, forecast_views, views
    from drakcelery.operators.status_document import OneAnalysis, OneQueued

    record = finding.record_of(ledger, uid)
    forecast = None
    if record is None or not record.state.is_over:
        forecast = make_forecast(ours, ledger, ledger.inbox())
    if record is None and forecast is not None and (queued := forecast.find(uid)) is not None:
        shown: Value = OneQueued(**dict(queued))
        view = forecast_views.queued_view(queued, forecast)
    else:
        record = record or analyses.find_record(ledger, uid)  # taken up just now, or it does not exist
        estimate = forecast.estimates.get(record.uid) if forecast else None
        shown = OneAnalysis.of(record, estimate)
        looks = ledger.records([one.uid for one in record.variants])
        view = views.record_view(record, now=ledger.now(), estimate=estimate, looks=looks)
    if as_json:
        click.echo(as_json_text(shown))
    else:
        views.console().print(view)


def show_all(ours: Settings, ledger: Ledger, *, as_json: bool) -> None:
    """Show live and finished analyses, and the forecasts."""
    from drakcelery.forecast.forecast import make_forecast
    from drakcelery.operators import analyses, forecast_views, views
    from drakcelery.operators.status_document import StatusDocument

    records = analyses.overview(ledger)
    live = [record for record in records if not record.state.is_over]
    forecast = make_forecast(ours, ledger, ledger.inbox(), live=live)
    if as_json:
        click.echo(as_json_text(StatusDocument.of(records, forecast, ledger.quarantine.all())))
        return
    if records:
        console = views.console()
        table = views.records_table(
            records, now=forecast.now, estimates=forecast.estimates, width=console.width
        )
        console.print(table)
    else:
        click.echo("No analyses. Push a sample with `drakcelery submit FILE`.")
    notices = ledger.outbox
    for line in (
        *forecast_views.forecast_lines(forecast),
        *views.quarantine_lines(ledger.quarantine.counts()),
        *views.outbox_lines(notices.counts(), notices.dead(newest=1)),
        *ledger.odd_sentences(),
    ):
        click.echo(line)


def as_json_text(shown: Value) -> str:
    """JSON for a terminal or a pipe, in ASCII."""
    return json.dumps(shown.model_dump(mode="json"), indent=2)


@click.command(epilog="\b\nExample:\n  drakcelery fetch 6f2c5a0e-9d7c-4f55-a3b1-7d0a4c1b2e90 --to ./analysis")
@click.argument("uid", shell_complete=uids)
@click.option(
    "--to",
    "to",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory, empty or not there yet.",
)
@with_settings
def fetch(uid: str, to: Path, config: Path | None, data_dir: Path | None) -> None:
    """Download the artifacts of the analysis UID, all or none."""
    from drakcelery.operators import analyses, views
    from drakcelery.wiring import make_ledger, make_storage

    ours = read_settings(config, data_dir)
    record = analyses.find_record(make_ledger(ours), uid)
    files = analyses.fetch(ours, make_storage(ours), record, to)
    views.console().print(views.files_table(files))


@click.command()
@click.argument("uid", shell_complete=uids)
@with_settings
def cancel(uid: str, config: Path | None, data_dir: Path | None) -> None:
    """End the waiting or running analysis UID; nothing will be published."""
    from drakcelery.operators import analyses
    from drakcelery.stages import cancellation
    from drakcelery.telemetry import tracing
    from drakcelery.wiring import make_ledger

    ours = read_settings(config, data_dir)
    ledger = make_ledger(ours)
    record = analyses.find_record(ledger, uid)
    with tracing.running(ours):
        cancellation.cancel(ledger, record, by=f"{getpass.getuser()}@{socket.gethostname()}")
    click.echo(f"cancelled {record.uid}")
