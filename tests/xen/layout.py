"""Makes the files of a simulated host: the programs, and what DRAKVUF Sandbox keeps below /etc and /var."""

from __future__ import annotations

import json
import sys
from pathlib import Path

PROGRAMS = (
    *("brctl", "conntrack", "dnsmasq", "drakrun", "drakvuf", "injector", "iptables", "iptables-save"),
    *("qemu-img", "tcpdump", "vmi-dump-memory", "xen-detect", "xl"),
)
REPOSITORY = Path(__file__).parent.parent.parent

ENVIRONMENT = "environment"
"""Python's, below the root: the package ``drakrun`` is in it, and the script runs in it."""
LIBRARY = Path(__file__).parent / "library"

_SCRIPT = """\
#!{python}
import sys
sys.path.insert(0, {repository!r})
from tests.xen.tools.launch import run
run({tool!r}, {root!r})
"""
_INSTALL = {
    "storage_backend": "qcow2",
    "disk_size": "100G",
    "vnc_passwd": "simulated",
    "vcpus": 2,
    "memory": 2048,
    "reboot_vm0_action": "restart",
    "reboot_vmn_action": "destroy",
    "lvm_snapshot_size": "1G",
    "zfs_tank_name": None,
    "lvm_volume_group": None,
}
_CONFIG = """\
[redis]
host = "localhost"
port = 6379

[network]
dns_server = "use-gateway-address"
out_interface = "default"
net_enable = false

[drakrun]
default_timeout = 300
plugins = ["apimon", "filetracer", "memdump", "procmon"]
"""
_TEMPLATE = """\
name = "{{ VM_NAME }}"
memory = {{ MEMORY }}
type = "hvm"
on_crash = "destroy"
vif = [ 'type=ioemu,model=e1000,bridge={{ BRIDGE_NAME }}' ]
"""
XEN_COMMAND_LINE = (
    "placeholder dom0_mem=4096M,max:4096M dom0_max_vcpus=2 dom0_vcpus_pin=1 force-ept=1 ept=ad=0 hap_1gb=0 "
    "hap_2mb=0 altp2m=1 hpet=legacy-replacement smt=0"
)
"""What DRAKVUF Sandbox's documentation recommends."""
_OFFSETS = {
    "win_ntoskrnl": "0x2a0a000",
    "win_ntoskrnl_va": "0xfffff80002a0a000",
    "win_tasks": "0x188",
    "win_pdbase": "0x28",
    "win_pid": "0x180",
    "win_pname": "0x2e0",
    "win_kdvb": "0xfffff80002bfb0a0",
    "win_sysproc": "0xfffff80002bfb9a0",
    "win_kpcr": "0xfffff80002bfcd00",
    "win_kdbg": "0x1f10a0",
    "kpgd": "0x187000",
}
_PROFILES = (
    "native_ntdll_profile",
    "wow64_ntdll_profile",
    "native_win32k_profile",
    "native_kernel32_profile",
    "wow64_kernel32_profile",
    "native_tcpip_profile",
    "native_clr_profile_64",
)


def build(root: Path, *, slots: int, version: str, **settings: float) -> None:
    """Make the host below *root*, which must not exist; *settings* are those of :class:`Machine`."""
    for name in ("guests", "processes", "bridges", "monitors", "recordings"):
        (root / "state" / name).mkdir(parents=True)
    (root / "state" / "lock").touch()
    host = {"slots": slots, "version": version, **settings}
    (root / "state" / "host.json").write_text(json.dumps(host))
    (root / "state" / "xen_commandline.json").write_text(json.dumps(XEN_COMMAND_LINE))
    _programs(root)
    _files(root)


def _programs(root: Path) -> None:
    directory, python = root / "bin", _environment(root)
    directory.mkdir()
    for tool in PROGRAMS:
        script = directory / tool
        script.write_text(
            _SCRIPT.format(
                python=f"{python} -I" if tool == "drakrun" else f"{sys.executable} -IS",
                repository=str(REPOSITORY),
                tool=tool,
                root=str(root),
            )
        )
        script.chmod(0o755)


def _environment(root: Path) -> Path:
    """Make the Python environment of DRAKVUF Sandbox; its interpreter."""
    home = Path(sys._base_executable).resolve()  # type: ignore[attr-defined] # what venv itself uses
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    environment = root / ENVIRONMENT
    packages = environment / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    (environment / "bin").mkdir()
    (environment / "pyvenv.cfg").write_text(f"home = {home.parent}\ninclude-system-site-packages = false\n")
    (packages / "simulated.pth").write_text(f"{REPOSITORY}\n{LIBRARY}\n")
    (packages / "drakrun_host.py").write_text(f"ROOT = {str(root)!r}\n")
    python = environment / "bin" / "python3"
    python.symlink_to(home)
    return python


def _files(root: Path) -> None:
    etc, lib, run = (root / path / "drakrun" for path in ("etc", "var/lib", "var/run"))
    for directory in (etc, run, *(lib / name for name in ("configs", "profiles", "volumes"))):
        directory.mkdir(parents=True)
    install = {**_INSTALL, "xl_cfg_template": str(etc / "cfg.template"), "snapshot_dir": str(lib / "volumes")}
    (etc / "install.json").write_text(json.dumps(install, indent=4))
    (etc / "config.toml").write_text(_CONFIG)
    (etc / "cfg.template").write_text(_TEMPLATE)
    (etc / "hooks.txt").write_text("ntdll.dll,RtlExitUserProcess,log+stack,DWORD,DWORD\n")
    (etc / "syscalls.txt").write_text("NtClose\nNtCreateFile\n")
    (etc / "vm-post-restore.ps1").write_text("if ( $DRAKVUF_NET_ENABLE ) { ipconfig /renew }\n")
    (lib / "volumes" / "snapshot.sav").write_bytes(b"Xen saved domain, xl format\n \0 \r" + bytes(4096))
    (lib / "volumes" / "vm-0.img").write_bytes(b"QFI\xfb" + bytes(4092))
    profiles = lib / "profiles"
    (profiles / "kernel.json").write_text('{"$METADATA": {"Type": "Profile"}}')
    runtime = {"vmi_offsets": _OFFSETS, "inject_pid": 1820, "inject_tid": 2044}
    (profiles / "runtime.json").write_text(json.dumps(runtime, indent=4))
    for name in _PROFILES:
        (profiles / f"{name}.json").write_text("{}")
