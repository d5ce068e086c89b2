"""What DRAKVUF Sandbox has on this host, and whether the engine can work with it."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from drakcelery.engines.drakvuf import commands, snapshot, xen_options
from drakcelery.engines.drakvuf.tools import Finished, Tools
from drakcelery.errors import EngineError, SettingsError
from drakcelery.model.analysis import StartMethod

if TYPE_CHECKING:
    from drakcelery.settings import Settings

ASK_SECONDS = 60.0
"""For what the tools say about themselves; drakrun takes seconds to begin on a slow disk."""

APISCOUT = Path("apiscout_profile") / "static_apiscout_profile.json"
"""Below ``lib_dir``; v0.18 made it, later ones do not."""

EVERY_SYSCALL = "all"
"""As ``[drakrun] syscall_filter``: no list."""

OF_THE_KERNEL = frozenset({"kernel.json", "runtime.json"})
"""What is in ``lib_dir/profiles`` beside the profiles of DLLs."""


NETWORK_PROGRAMS = {
    "brctl": "bridge-utils",
    "ip": "iproute2",
    "iptables": "iptables",
    "iptables-save": "iptables",
    "dnsmasq": "dnsmasq",
}
"""The programs with which drakrun makes a guest's network and the engine checks it, with Debian's
packages."""

NEWER_PROGRAMS = {"conntrack": "conntrack"}
"""From v0.21: without it a guest ends, and its network stays, so that no later vm-start works."""

STORAGE_PROGRAMS: Mapping[str, Mapping[str, str]] = {
    "qcow2": {"qemu-img": "qemu-utils"},
    "zfs": {"zfs": "zfsutils-linux"},
    "lvm": dict.fromkeys(("vgs", "lvcreate", "lvremove"), "lvm2"),
}
"""By ``storage_backend`` of ``install.json``: what gives each VM its disk."""


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """What the installed versions can do."""

    drakvuf: str
    """Version."""
    method: StartMethod | None
    """How a plain program is started; None: this drakrun has no option for it (before v0.21)."""
    keeps_apart: bool
    """Whether this drakrun keeps guests from each other, and forgets their connections (v0.21)."""

    @property
    def is_told(self) -> bool:
        """Whether this drakrun takes the start method as an option, and the network from its environment."""
        return self.method is not None

    def can_start(self, method: StartMethod | None) -> bool:
        """Whether a sample can be started by *method*."""
        return method in (None, "createproc") or self.method == "shellexec"


class Installation:
    """DRAKVUF Sandbox on this host. Asks each tool once."""

    def __init__(self, settings: Settings, tools: Tools) -> None:
        self._settings = settings
        self._section = settings.drakvuf
        self._tools = tools

    @functools.cached_property
    def abilities(self) -> Abilities:
        """Raises :class:`EngineError` if DRAKVUF or drakrun does not answer."""
        usage = self._ask([self._section.drakvuf, "-h"])
        version = commands.parse_version(usage.said)
        if version is None:
            raise usage.trouble("DRAKVUF does not say its version")
        options = self._ask([self._section.drakrun, "drakvuf-cmdline", "--help"])
        if options.code != 0:
            raise options.trouble("DRAKVUF Sandbox does not answer (v0.19 to v0.21 are supported)")
        # v0.21 chooses the same: ShellExecute, if DRAKVUF can, since it elevates a program that asks for it
        method: StartMethod = "shellexec" if "-V <shellexec verb>" in usage.said else "createproc"
        newest = "--method" in options.output
        return Abilities(drakvuf=version, method=method if newest else None, keeps_apart=newest)

    def check(self) -> None:
        """Refuse a host on which no analysis could succeed, or not as the settings demand.

        Raises:
            SettingsError: names what is missing, and what to do.
        """
        for key in ("drakrun", "drakvuf", "injector", "xl", "tcpdump"):
            self._must_find(key)
        drakrun = self._settings.drakrun
        if drakrun.raw_memory_dump:
            self._must_find("vmi_dump_memory")
        try:
            volumes = snapshot.directory(self._section.etc_dir, self._section.lib_dir)
        except EngineError as error:
            raise SettingsError(f"[drakvuf] etc_dir: {error}") from None
        if missing := self.missing_programs():
            raise SettingsError(f"{missing_words(missing)} (looked in {self._tools.path})")
        for path in (volumes / snapshot.MEMORY, *(self.profiles / name for name in sorted(OF_THE_KERNEL))):
            _must_be_file("[drakvuf] lib_dir", path, "finish the installation: drakrun postinstall")
        self._check_lists()
        if drakrun.attach_apiscout_profile:
            _must_be_file(
                "[drakrun] attach_apiscout_profile",
                self._section.lib_dir / APISCOUT,
                "only v0.18 makes it: put one there, or switch it off",
            )
        if drakrun.xen_cmdline_check == "fail":
            self._check_xen()

    def missing_programs(self) -> dict[str, str]:
        """What this drakrun needs and does not find, with this storage backend; Debian's package of each.

        Raises:
            EngineError: ``install.json`` cannot be read, or drakrun does not answer.
        """
        needed = {**NETWORK_PROGRAMS, **STORAGE_PROGRAMS.get(self._storage_backend(), {})}
        if self.abilities.keeps_apart:
            needed |= NEWER_PROGRAMS
        return {name: package for name, package in needed.items() if self._tools.find(name) is None}

    def _storage_backend(self) -> str:
        return str(snapshot.install_info(self._section.etc_dir).get("storage_backend"))

    def _check_lists(self) -> None:
        hooks_at = "put a hook list there, such as drakrun/data/hooks.txt of DRAKVUF Sandbox's package"
        if self.hooks is None:
            raise SettingsError(f"[drakvuf] etc_dir: {self._section.etc_dir / 'hooks.txt'}: {hooks_at}")
        if self._section.post_restore and self.post_restore is None:
            path = self._section.etc_dir / "vm-post-restore.ps1"
            raise SettingsError(f"[drakvuf] post_restore: {path}: put one there, or set post_restore = 0")
        chosen = self._settings.drakrun.syscall_filter
        if chosen and chosen != EVERY_SYSCALL:
            _must_be_file("[drakrun] syscall_filter", Path(chosen), "expected a list")

    def _check_xen(self) -> None:
        try:
            info = self._ask([self._section.xl, "info"])
        except EngineError as error:
            raise SettingsError(f"[drakrun] xen_cmdline_check: {error}") from None
        if info.code != 0:
            raise SettingsError(f"[drakrun] xen_cmdline_check: {info.trouble('Xen does not answer')}")
        if missing := xen_options.missing_options(info.output):
            raise SettingsError(
                f"[drakrun] xen_cmdline_check = fail: Xen runs without {' '.join(missing)}; add it to "
                "GRUB_CMDLINE_XEN_DEFAULT, update-grub and reboot, or set xen_cmdline_check = ignore"
            )

    @property
    def profiles(self) -> Path:
        """Where the profiles of the kernel and of DLLs are."""
        return self._section.lib_dir / "profiles"

    def dll_profiles(self) -> list[Path]:
        """The profiles of DLLs: what ``attach_profiles`` attaches."""
        return [path for path in sorted(self.profiles.glob("*.json")) if path.name not in OF_THE_KERNEL]

    @property
    def apiscout_profile(self) -> Path:
        """What ``attach_apiscout_profile`` attaches."""
        return self._section.lib_dir / APISCOUT

    @property
    def hooks(self) -> Path | None:
        """The hook list of this host, or else the one of DRAKVUF Sandbox."""
        return self._configured("hooks.txt")

    @property
    def syscalls(self) -> Path | None:
        """The system calls that the plugin syscalls reports, likewise; None: all of them."""
        chosen = self._settings.drakrun.syscall_filter
        if chosen == EVERY_SYSCALL:
            return None
        return Path(chosen) if chosen else self._configured("syscalls.txt")

    @property
    def post_restore(self) -> Path | None:
        """The script that a guest runs once it is restored, likewise."""
        return self._configured("vm-post-restore.ps1")

    def _configured(self, name: str) -> Path | None:
        data = self._package_data
        candidates = [self._section.etc_dir / name, *([data / name] if data else [])]
        return next((path for path in candidates if path.is_file()), None)

    @functools.cached_property
    def _package_data(self) -> Path | None:
        """``drakrun/data`` of the Python environment that the command ``drakrun`` is in."""
        program = self._tools.find(self._section.drakrun)
        if program is None:
            return None
        prefix = program.resolve().parent.parent
        return next(iter(sorted(prefix.glob("lib/python3*/*-packages/drakrun/data"))), None)

    def _must_find(self, key: str) -> None:
        program = getattr(self._section, key)
        if self._tools.find(program) is None:
            raise SettingsError(
                f"[drakvuf] {key} = {program}: there is no such program that this user may execute "
                f"(looked in {self._tools.path})"
            )

    def _ask(self, command: commands.Command) -> Finished:
        return self._tools.run(command, seconds=ASK_SECONDS, quiet=True)


def missing_words(missing: Mapping[str, str]) -> str:
    """What is missing, and how to get it."""
    packages = " ".join(sorted(set(missing.values())))
    return f"drakrun needs {', '.join(missing)}: apt-get install {packages}"


def _must_be_file(setting: str, path: Path, advice: str) -> None:
    if not path.is_file() or not os.access(path, os.R_OK):
        raise SettingsError(f"{setting}: {path} is not there, or cannot be read: {advice}")
