"""The systemd units, as text. Pure.

One unit for each role, ``drakcelery-<role>.service``, all from the template below, and no instances
(``drakcelery@vm``): the roles differ in user, capabilities, system calls and stop timeout, which an instance
could only get from drop-ins, and a host runs one process of each role (the workers hold a lock).

Facts (systemd.exec(5), systemd.kill(5), tmpfiles.d(5), systemd 252; Celery 5.7, read):

* Only a worker's main process may get SIGTERM: it lets its pool processes finish, whereas a pool process or a
  DRAKVUF that got the signal itself would die in mid-run. That is ``KillMode=mixed``, which kills whatever is
  left of the unit once the main process has ended: no guest's helper stays behind.
* ``StateDirectory=`` would hand the directory over to the user of whichever unit starts, again and again, and
  ``DynamicUser=`` would hide it from root's worker. So the user is a real one, and the directory is made by
  tmpfiles.d.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

STOP_SPARE = 300
"""Seconds a vm worker has beyond its guests' time, to destroy them and to hand their analyses on."""
IO_STOP = 900
"""Seconds an io worker has to pack and upload what it is at; the next one does again what is not done."""

CONFINING = "capset landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp"
"""System calls by which the emulator gives up its rights; systemd 252 has them in no group for services."""

CAPABILITIES = {
    "CAP_CHOWN": "QEMU's sockets, LVM's and ZFS' device nodes",
    "CAP_DAC_OVERRIDE": "files of programs that gave up root",
    "CAP_FOWNER": "the same files' modes",
    "CAP_IPC_LOCK": "memory that is shared with the hypervisor is locked",
    "CAP_KILL": "ending programs that gave up root: dnsmasq, tcpdump",
    "CAP_NET_ADMIN": "bridges, guest interfaces and firewall rules",
    "CAP_NET_BIND_SERVICE": "dnsmasq serves DHCP and DNS to the guest",
    "CAP_NET_RAW": "tcpdump and DHCP",
    "CAP_SETGID": "dnsmasq, tcpdump and QEMU give up root",
    "CAP_SETUID": "the same",
    "CAP_SYS_ADMIN": "the guests' disks: snapshots of LVM, ZFS and qcow2",
    "CAP_SYS_RESOURCE": "limits of QEMU",
}
"""What the Xen tools need of root, each with its reason; a unit with root has these and no others."""

HOMES = ("/home", "/root", "/run/user")
"""What ``ProtectHome`` is about."""
TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - named, not written to
"""What a unit has of its own (``PrivateTmp``)."""

XEN_PATHS = ("/run", "/var/lib/xen", "/var/log/xen", "/etc/lvm")
"""Where xl and its helpers write; those that are missing are skipped."""


@dataclass(frozen=True, kw_only=True)
class Role:
    """A process of drakcelery, as a service."""

    name: str
    description: str
    command: str
    """What follows ``drakcelery``."""
    stop_seconds: int
    """How long it may take to stop; a vm worker's comes from the settings."""
    keeps_state: bool = False
    """Writes to the state directory."""


ROLES = {
    role.name: role
    for role in (
        Role(name="ingress", description="samples from Karton", command="ingress", stop_seconds=60),
        Role(
            name="vm",
            description="this host's VM slots",
            command="worker vm",
            stop_seconds=STOP_SPARE,
            keeps_state=True,
        ),
        Role(
            name="io",
            description="collect, upload, publish",
            command="worker io",
            stop_seconds=IO_STOP,
            keeps_state=True,
        ),
        Role(name="flower", description="Flower, Celery's web page", command="flower", stop_seconds=30),
        Role(name="system", description="karton-system", command="system", stop_seconds=60),
    )
}
"""Every role, in the order in which they are listed."""

_OUT_OF_MEMORY = dict.fromkeys(
    ("vm", "io"),
    (
        "# A process that the kernel kills for its memory is one sample's; the others' go on",
        "OOMPolicy=continue",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the units of a machine have in common.

    Paths are those on the machine itself, and plain: no character that systemd or a shell would read.
    """

    program: PurePosixPath
    """The ``drakcelery`` command."""
    config: PurePosixPath
    state_dir: PurePosixPath
    user: str
    """Name of the user, and of its group, which is the services' alone."""
    engine: str
    """``drakvuf`` needs root for its vm worker; the others run as *user*."""
    writes: tuple[PurePosixPath, ...]
    """Where the tools of a Xen host's engine write: the guests' disks and profiles."""
    stop_seconds: int
    """``[drakcelery] stop_seconds``: how long running guests may go on after SIGTERM."""
    longest_run: int
    """Seconds that the longest analysis may run, grace included."""
    reads: tuple[PurePosixPath, ...] = ()
    """What else a Xen host's engine needs to see: its tools, if they are named by a path."""
    behind: tuple[PurePosixPath, ...] = ()
    """What :attr:`program` really is, and the Python that runs it."""

    @property
    def operators(self) -> str:
        """The group of the people who use the command line: it may read the configuration file."""
        return operators(self.user)

    @property
    def is_roots(self) -> bool:
        """Whether the vm worker is root."""
        return self.engine == "drakvuf"


def operators(user: str) -> str:
    """Name of the people's group, beside the services' user."""
    return f"{user}-operators"


def unit_name(role: str) -> str:
    """``drakcelery-vm.service``."""
    return f"drakcelery-{role}.service"


def stop_timeout(role: Role, machine: Machine) -> int:
    """Seconds between SIGTERM and SIGKILL. A vm worker's outlasts the longest analysis there can be."""
    if role.name != "vm":
        return role.stop_seconds
    return max(machine.stop_seconds, machine.longest_run) + STOP_SPARE


def is_below(path: PurePosixPath, tops: Iterable[str]) -> bool:
    """Whether *path* lies in one of the directories *tops*."""
    return any(path.is_relative_to(top) for top in tops)


def needed(role: Role, machine: Machine) -> list[PurePosixPath]:
    """Every path that the role's unit must see and that may lie anywhere."""
    paths = [machine.program, *machine.behind, *([machine.state_dir] if role.keeps_state else [])]
    return [*paths, *machine.writes, *machine.reads] if is_roots(role, machine) else paths


def is_roots(role: Role, machine: Machine) -> bool:
    """Whether the role's process is root."""
    return role.name == "vm" and machine.is_roots


def unit(role: Role, machine: Machine) -> str:
    """The text of a role's unit."""
    as_root = is_roots(role, machine)
    sections = {
        "Unit": [
            f"Description=drakcelery {role.name}: {role.description}",
            "Wants=network-online.target",
            f"After=network-online.target{' xencommons.service xenconsoled.service' if as_root else ''}",
            "# Fails once, and not every five seconds, where the program is gone and this file stayed",
            f"AssertFileIsExecutable={machine.program}",
            "# Redis may be away for hours: try forever",
            "StartLimitIntervalSec=0",
        ],
        "Service": [
            "Type=exec",
            f"ExecStart={machine.program} {role.command} --config {machine.config}",
            *_identity(machine, as_root=as_root),
            "Restart=on-failure",
            "RestartSec=5",
            "# SIGTERM to the main process only: it lets its pool processes finish",
            "KillMode=mixed",
            *_OUT_OF_MEMORY.get(role.name, ()),
            f"TimeoutStopSec={stop_timeout(role, machine)}",
            "",
            *(_xen_confinement() if as_root else _confinement(role, machine)),
            *_common_confinement(role, machine, as_root=as_root),
        ],
        "Install": ["WantedBy=multi-user.target"],
    }
    parts = [f"[{name}]\n" + "\n".join(lines) for name, lines in sections.items()]
    head = "# Written by drakcelery init. Changes belong into a drop-in: systemctl edit "
    return f"{head}{unit_name(role.name)}\n\n" + "\n\n".join(parts) + "\n"


def _identity(machine: Machine, *, as_root: bool) -> list[str]:
    return [
        *(["# The hypervisor is root's"] if as_root else []),
        f"User={'root' if as_root else machine.user}",
        f"Group={machine.user}",
        "# What the io worker is given when a run is over it reads and removes through the group",
        "UMask=0007",
    ]


def _common_confinement(role: Role, machine: Machine, *, as_root: bool) -> list[str]:
    writable = [str(machine.state_dir)] if role.keeps_state else []
    if as_root:
        writable += [f"-{path}" for path in dict.fromkeys([*map(str, machine.writes), *XEN_PATHS])]
    at_home = any(is_below(path, HOMES) for path in needed(role, machine))
    return [
        "NoNewPrivileges=yes",
        "PrivateTmp=yes",
        "ProtectSystem=strict",
        *([f"ReadWritePaths={' '.join(writable)}"] if writable else []),
        f"ProtectHome={'read-only' if at_home else 'yes'}",
        "ProtectControlGroups=yes",
        "ProtectHostname=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelModules=yes",
        "KeyringMode=private",
        "LockPersonality=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "SystemCallArchitectures=native",
    ]


def _confinement(role: Role, machine: Machine) -> list[str]:
    """Of a process that needs the network, its files, and no privilege."""
    emulates = role.name == "vm" and machine.engine == "emulator"
    return [
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "DevicePolicy=closed",
        "PrivateDevices=yes",
        "PrivateUsers=yes",
        "ProtectClock=yes",
        "ProtectKernelTunables=yes",
        "ProtectProc=invisible",
        "RemoveIPC=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        *(
            ["# The emulator translates code, and shuts itself into an empty network"]
            if emulates
            else ["MemoryDenyWriteExecute=yes"]
        ),
        f"RestrictNamespaces={'user net' if emulates else 'yes'}",
        "SystemCallErrorNumber=EPERM",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
        *([f"SystemCallFilter={CONFINING}"] if emulates else []),
    ]


def _xen_confinement() -> list[str]:
    """Of the vm worker of a Xen host: root, but for what neither Xen nor its tools need.

    No ProtectClock, PrivateDevices or device list: each would hide ``/dev/xen`` or the guests' disks.
    """
    return [
        f"CapabilityBoundingSet={' '.join(CAPABILITIES)}",
        "AmbientCapabilities=",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET",
        "RestrictNamespaces=mnt ipc net",
        "SystemCallErrorNumber=EPERM",
        "SystemCallFilter=~@clock @cpu-emulation @debug @module @obsolete @reboot @swap",
    ]
