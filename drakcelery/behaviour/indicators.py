"""What a search elsewhere could begin with, picked from a report. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from drakcelery.behaviour.report import Indicators, Report, Seen

MOST = 1000


def indicators(report: Report, own: Collection[int]) -> Indicators:
    """Hosts, addresses, URLs and hashes; *own* are the processes that belong to the sample.

    The recorded traffic tells no process: what is only in there counts as the sample's.
    """

    def is_own(one: Seen) -> bool:
        return not one.processes or any(number in own for number in one.processes)

    network = report.network
    hosts = [one.name for one in network.names if is_own(one)] + [one.name for one in network.tls]
    return Indicators(
        hosts=_each(hosts),
        addresses=_each(one.address for one in network.connections if is_own(one)),
        urls=_each(one.url for one in network.http),
        sha256=_each([report.sample.sha256, *(one.sha256 for one in report.files if is_own(one))]),
    )


def _each(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))[:MOST]
