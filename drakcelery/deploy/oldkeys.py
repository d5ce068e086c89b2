"""The keys and the parts of DRAKVUF Sandbox, and what becomes of each. Pure data; docs/migration.md shows it.

Facts: v0.18.1's ``drakrun/config.dist.ini`` and ``drakcore/config.dist.ini`` with the code that reads them
(``main.py``, ``system.py``, ``app.py``, ``regression.py``), v0.21's ``drakrun/lib/config.py``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Handling(enum.StrEnum):
    """What becomes of an old key."""

    TAKEN = "taken over"
    DROPPED = "dropped"
    DECISION = "needs a decision"


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What becomes of a key whose value is sound."""

    handling: Handling
    target: tuple[str, str] | None = None
    """Section and key of ours; ``*`` is the key's own name."""
    why: str = ""


def _same(section: str, key: str, why: str = "same meaning") -> Fate:
    return Fate(handling=Handling.TAKEN, target=(section, key), why=why)


def _dropped(why: str) -> Fate:
    return Fate(handling=Handling.DROPPED, why=why)


def _decide(why: str) -> Fate:
    return Fate(handling=Handling.DECISION, why=why)


PARTS: Mapping[str, tuple[str, ...]] = {
    "web": ("flower",),
    "drakrun": ("ingress", "vm", "io"),
    "postprocess": ("io",),
}
"""What ``draksetup init --only`` called them (*Getting started*, before v0.19): the roles that do it here."""
NOT_HERE: Mapping[str, str] = {
    "minio": "drakcelery brings no S3 server for production; [s3] names Karton's, and drak-minio may stay it"
}
"""Parts that have no role here, and why."""

_NO_WEB_PAGE = "drakmon's web page is gone; Flower has [flower] address and port"
_OWN_JOBS = (
    "that is the Redis of drakrun's own jobs; Karton's is wanted here: name its karton.ini with --from"
)
_OWN_STORE = "that is where drakrun stores its own reports; Karton's S3 is wanted here: see --from"
_REPORTS = "drakrun's own reports are not made here; a Karton service may make them from the analysis"

INI: Mapping[tuple[str, str], Fate] = {
    ("redis", "host"): _same("redis", "host"),
    ("redis", "port"): _same("redis", "port"),
    ("minio", "address"): _same("s3", "address", "with http:// or https://, as secure says"),
    ("minio", "secure"): _same("s3", "address", "part of the address: https:// or http://"),
    ("minio", "bucket"): _same("s3", "bucket"),
    ("minio", "access_key"): _same("s3", "access_key", "blank: from /etc/drakcore/minio.env, as before"),
    ("minio", "secret_key"): _same("s3", "secret_key", "blank: from /etc/drakcore/minio.env, as before"),
    ("drakmon", "system_disable"): _same("drakmon", "system_disable"),
    ("drakmon", "database"): _dropped("the records of analyses are in Karton's Redis"),
    ("drakmon", "listen_host"): _dropped(_NO_WEB_PAGE),
    ("drakmon", "listen_port"): _dropped(_NO_WEB_PAGE),
    ("drakrun", "raw_memory_dump"): _same("drakrun", "raw_memory_dump"),
    ("drakrun", "net_enable"): _same("drakrun", "net_enable"),
    ("drakrun", "out_interface"): _same("drakrun", "out_interface"),
    ("drakrun", "dns_server"): _same("drakrun", "dns_server"),
    ("drakrun", "syscall_filter"): _same("drakrun", "syscall_filter"),
    ("drakrun", "analysis_timeout"): _same("drakrun", "analysis_timeout"),
    ("drakrun", "use_root_uid"): _same("drakrun", "use_root_uid"),
    ("drakrun", "identity"): _same("drakrun", "identity"),
    ("drakrun", "filters"): _same("drakrun", "filters"),
    ("drakrun", "headers"): _same("drakrun", "headers"),
    ("drakrun", "sample_testing"): _same("drakrun", "sample_testing"),
    ("drakrun", "test_filters"): _same("drakrun", "test_filters"),
    ("drakrun", "test_headers"): _same("drakrun", "test_headers"),
    ("drakrun", "anti_hammering_threshold"): _same("drakrun", "anti_hammering_threshold"),
    ("drakrun", "attach_profiles"): _same("drakrun", "attach_profiles"),
    ("drakrun", "attach_apiscout_profile"): _same("drakrun", "attach_apiscout_profile"),
    ("drakrun", "xen_cmdline_check"): _same("drakrun", "xen_cmdline_check"),
    ("drakvuf_plugins", "*"): _same("drakvuf_plugins", "*"),
    ("draktestd", "modules"): _dropped("the regression tester is a Karton service of its own, and stays one"),
}
"""``/etc/drakrun/config.ini`` and ``/etc/drakcore/config.ini`` of v0.18, which share their sections."""

TOML: Mapping[tuple[str, str], Fate] = {
    ("redis", "*"): _decide(_OWN_JOBS),
    ("network", "dns_server"): _same(
        "drakrun", "dns_server", "same meaning; vm-start goes on reading the old key"
    ),
    ("network", "out_interface"): _same(
        "drakrun", "out_interface", "same meaning; vm-start goes on reading the old key. default: not set"
    ),
    ("network", "net_enable"): _same(
        "drakrun", "net_enable", "same meaning; vm-start goes on reading the old key"
    ),
    ("drakrun", "plugins"): _same("drakvuf_plugins", "_all_", "the list of every quality"),
    ("drakrun", "default_timeout"): _same("drakrun", "analysis_timeout"),
    ("drakrun", "syscall_hooks_path"): _same("drakrun", "syscall_filter"),
    ("drakrun", "worker_hostname"): _same("drakcelery", "host", "this host's name in queues and tables"),
    ("drakrun", "net_enable"): _decide("a default of drakrun's own jobs; [network] net_enable counts here"),
    ("drakrun", "apimon_hooks_path"): _decide(
        "the default hook list is drakrun's; a task may bring custom_hooks"
    ),
    ("drakrun", "extra_drakvuf_args"): _decide(
        "no free options of DRAKVUF here: what each does may be a setting"
    ),
    ("drakrun", "extra_output_subdirs"): _dropped("what is stored is the contract's, in docs/karton.md"),
    ("drakrun", "job_timeout_leeway"): _dropped("no job has a limit of its own: every wait is bounded"),
    ("drakrun", "no_post_restore"): _same("drakvuf", "post_restore", "turned round: 1 there is 0 here"),
    ("drakrun", "no_screenshotter"): _same("drakvuf", "screenshots", "turned round: 1 there is 0 here"),
    ("drakrun", "no_shellexec"): _decide(
        "how a sample is started belongs to the engine: see docs/engines.md"
    ),
    ("drakrun", "result_ttl"): _dropped("a record stays for [drakcelery] record_ttl"),
    ("drakrun", "gzip_syscalls"): _dropped("consumers read logs as they are"),
    ("drakrun", "use_7zip"): _dropped("archives are unpacked by Karton services before they come here"),
    ("drakrun", "path_to_7zip"): _dropped("archives are unpacked by Karton services before they come here"),
    ("capa", "*"): _decide("name the directory of its rules in [report] capa_rules; see docs/report.md"),
    ("memdump", "max_total_dumps_size"): _same("drakcelery", "dumps_total_size"),
    ("memdump", "max_single_dump_size"): _same("drakcelery", "dumps_single_size"),
    ("memdump", "min_single_dump_size"): _dropped("small dumps are kept"),
    ("memdump", "filter_out_system_pid"): _dropped("dumps of every process are kept"),
    ("karton", "enabled"): _dropped("being in Karton is what drakcelery is for; switch it off there"),
    ("karton", "config_path"): _decide(
        "that is Karton's own file: name it with --from, or copy [redis] and [s3]"
    ),
    ("karton", "redis_ttl"): _dropped("no service's results are waited for"),
    ("karton", "poll_interval"): _dropped("no service's results are waited for"),
    ("s3", "*"): _decide(_OWN_STORE),
    ("preset", "*"): _decide(
        "no presets here: [drakvuf_plugins] has a list for each quality, a task its own timeout"
    ),
}
"""``/etc/drakrun/config.toml`` of v0.19 to v0.21, whose program is no Karton service but runs the VMs."""


def fate(table: Mapping[tuple[str, str], Fate], section: str, key: str) -> Fate | None:
    """What becomes of a key; None if the table does not know it."""
    return table.get((section, key)) or table.get((section, "*"))
