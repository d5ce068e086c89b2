"""Which options Xen was started with, and which of those that DRAKVUF recommends it lacks."""

from __future__ import annotations


def xen_options(info: str) -> dict[str, str]:
    """Xen's command line, out of ``xl info``. An option without value has ``1``."""
    for line in info.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "xen_commandline":
            pairs = (word.partition("=") for word in value.split())
            return {key: text if sign else "1" for key, sign, text in pairs}
    return {}


RECOMMENDED = {
    "force-ept": "1",
    "ept": "ad=0",
    "hap_1gb": "0",
    "hap_2mb": "0",
    "altp2m": "1",
    "hpet": "legacy-replacement",
}
"""What v0.18.1 asked of Xen's command line and the documentation up to v0.21 still does."""


def missing_options(info: str) -> list[str]:
    """The recommended options that Xen was not started with."""
    options = xen_options(info)
    return [f"{key}={value}" for key, value in RECOMMENDED.items() if options.get(key) != value]
