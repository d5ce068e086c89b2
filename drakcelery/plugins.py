"""The names of DRAKVUF's plugins, and the names under which they write into its log."""

from __future__ import annotations

DEFAULT_PLUGINS = (
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
"""What runs where no list is set: v0.18's default, and socketmon."""

KNOWN_PLUGINS = frozenset(DEFAULT_PLUGINS) | {
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
