"""Hosts that Windows asks for by itself, with no sample in it. Pure.

From Microsoft's lists of connection endpoints of Windows 10 and 11, which it took of machines that nobody
used for a week (*Manage connection endpoints*, Enterprise and other editions), with the names that Windows 7
asks for, and those of name resolution itself.
"""

from __future__ import annotations

from collections.abc import Iterator

_WHOLE = frozenset(
    {
        *("wpad", "isatap", "localhost"),
        *("www.microsoft.com", "go.microsoft.com", "crl.microsoft.com", "mscrl.microsoft.com"),
        *("ocsp.msocsp.com", "oneocsp.microsoft.com", "ocsp.digicert.com", "crl3.digicert.com"),
        *("crl4.digicert.com", "login.live.com", "g.live.com", "oneclient.sfx.ms", "edge.microsoft.com"),
        *(
            "www.bing.com",
            "www.msn.com",
            "arc.msn.com",
            "config.edge.skype.com",
            "checkappexec.microsoft.com",
        ),
        *("teredo.ipv6.microsoft.com", "dmd.metaservices.microsoft.com", "ris.api.iris.microsoft.com"),
        *("tile-service.weather.microsoft.com", "maps.windows.com", "time.windows.com", "wdcp.microsoft.com"),
    }
)
_WITH_ALL_BELOW = frozenset(
    {
        *("windowsupdate.com", "update.microsoft.com", "mp.microsoft.com", "sls.microsoft.com"),
        *("data.microsoft.com", "telemetry.microsoft.com", "aria.microsoft.com", "smartscreen.microsoft.com"),
        *("msftncsi.com", "msftconnecttest.com", "wns.windows.com", "cdp.microsoft.com", "wd.microsoft.com"),
        *("definitionupdates.microsoft.com", "msedge.net", "in-addr.arpa", "ip6.arpa", "local"),
    }
)


def is_of_windows(host: str) -> bool:
    """Whether Windows asks for *host*, a name, by itself; a sample may do it as well."""
    name = host.rstrip(".").lower()
    return name in _WHOLE or any(place in _WITH_ALL_BELOW for place in _places(name))


def _places(name: str) -> Iterator[str]:
    """The name, and each that it is below."""
    labels = name.split(".")
    return (".".join(labels[number:]) for number in range(len(labels)))
