"""The names of DRAKVUF's plugins, and the names under which they write into its log."""

from __future__ import annotations

DEFAULT_PLUGINS = (
    "apimon",
    "clipboardmon",
    "exmon",
    "filetracer",
    "memdump",
    "procmon",
    "regmon",
    "socketmon",
    "tlsmon",
)
"""What runs where no list is set and no task asks for others: the default of DRAKVUF Sandbox v0.19 to v0.21
(``drakrun/data/config.toml``)."""

OFFERED_PLUGINS = (
    "apimon",
    "bsodmon",
    "clipboardmon",
    "cpuidmon",
    "crashmon",
    "debugmon",
    "delaymon",
    "exmon",
    "filedelete",
    "filetracer",
    "librarymon",
    "memdump",
    "procdump",
    "procmon",
    "regmon",
    "rpcmon",
    "socketmon",
    "ssdtmon",
    "syscalls",
    "tlsmon",
    "windowmon",
    "wmimon",
)
"""What a task may ask for where no list is set: v0.18's default, and socketmon. All at once are heavy."""

KNOWN_PLUGINS = frozenset(OFFERED_PLUGINS) | {
    "callbackmon",
    "codemon",
    "dkommon",
    "ebpfmon",
    "envmon",
    "etwmon",
    "exploitmon",
    "fileextractor",
    "hidevm",
    "hidsim",
    "ipt",
    "libhooktest",
    "linkmon",
    "memaccessmon",
    "objmon",
    "poolmon",
    "procdump2",
    "ptracemon",
    "rebootmon",
    "rootkitmon",
    "spraymon",
    "unixsocketmon",
}
"""Every plugin a task or a setting may name: DRAKVUF's own table, ``src/plugins/plugins.h`` of March 2026."""

LOG_NAMES = frozenset(
    {
        *("inject", "syscall", "sysret", "procdump_fail", "procdump_skip"),
        *("fileextractor_close", "fileextractor_fail", "fileextractor_skip"),
    }
)
"""Names in DRAKVUF's log that are no plugin's: its injector, and what plugins write beside their own name.

``syscalls`` writes as ``syscall`` and ``sysret`` only (``src/plugins/syscalls``, ``procdump2`` and
``fileextractor`` of DRAKVUF v1.1).
"""

WRITES_AS = {
    "syscalls": ("syscall", "sysret"),
    "procdump2": ("procdump", "procdump_fail", "procdump_skip"),
    "filedelete": ("fileextractor", "fileextractor_fail"),
    "fileextractor": ("fileextractor_close", "fileextractor_fail", "fileextractor_skip"),
}
"""Other names than its own that a plugin writes under."""
