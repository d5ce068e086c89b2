"""What a search elsewhere could begin with, picked from a report. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from urllib.parse import urlsplit

from drakcelery.behaviour.report import HostName, HttpRequest, Indicators, Report, Seen, TlsName
from drakcelery.behaviour.windows_hosts import is_of_windows

MOST = 1000
NAME = "indicators"


class Picker:
    """Tells what of a report's network is the sample's.

    The recorded traffic tells no process. What is only in there is the sample's, unless the connection to its
    address and port was Windows' alone, or Windows asks for the host by itself.
    """

    def __init__(self, report: Report, own: Collection[int]) -> None:
        """*own* are the processes that belong to the sample."""
        self._report, self._own = report, own
        self._users: dict[tuple[str, int], set[int]] = {}
        """The processes that used an address and port."""
        for one in report.network.connections:
            self._users.setdefault((one.address, one.port), set()).update(one.processes)

    def _is_own(self, one: Seen) -> bool:
        return not one.processes or any(number in self._own for number in one.processes)

    def names(self) -> Iterator[HostName]:
        """Those that were looked up."""
        for one in self._report.network.names:
            if self._is_own(one) and (one.processes or not is_of_windows(one.name)):
                yield one

    def tls(self) -> Iterator[TlsName]:
        """Servers, by what TLS' greeting says."""
        for one in self._report.network.tls:
            if self._in_traffic(one.address, one.port, one.name):
                yield one

    def requests(self) -> Iterator[HttpRequest]:
        """Requests without TLS."""
        for one in self._report.network.http:
            if self._in_traffic(one.address, one.port, _host(one)):
                yield one

    def _in_traffic(self, address: str, port: int, host: str) -> bool:
        users = self._users.get((address, port), set())
        own = users.intersection(self._own)
        if users and own in (set(), users):
            return bool(own)
        return not is_of_windows(host)

    def has_traffic(self) -> bool:
        """Whether the traffic has something that is the sample's by that, and that no process did."""
        names = any(not one.processes for one in self.names())
        return names or next(self.tls(), None) is not None or next(self.requests(), None) is not None

    def indicators(self, left_out: Counter[str]) -> Indicators:
        """Hosts, addresses, URLs and hashes; *left_out* counts what a full list did not take."""
        report = self._report
        hosts = [one.name for one in self.names()] + [one.name for one in self.tls()]
        addresses = (one.address for one in report.network.connections if self._is_own(one))
        hashes = [report.sample.sha256, *(one.sha256 for one in report.files if self._is_own(one))]
        return Indicators(
            hosts=_each(hosts, left_out),
            addresses=_each(addresses, left_out),
            urls=_each((one.url for one in self.requests()), left_out),
            sha256=_each(hashes, left_out),
        )


def _host(request: HttpRequest) -> str:
    """Its name alone: the header may have a port behind it."""
    try:
        return urlsplit(f"//{request.host}").hostname or ""
    except ValueError:
        return ""


def _each(values: Iterable[str | None], left_out: Counter[str]) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(value for value in values if value))
    if len(found) > MOST:
        left_out[NAME] += len(found) - MOST
    return found[:MOST]
