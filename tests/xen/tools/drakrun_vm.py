"""What ``drakrun vm-start`` and ``vm-stop`` do: the network of a VM, and xl."""

from __future__ import annotations

import os
import time

from tests.xen.tools import iptables
from tests.xen.tools.bare import dumps, loads
from tests.xen.tools.machine import CALLER, Machine

TYPE_CHECKING = False  # as in bare.py
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Log = Callable[[str, str], None]


class Failed(Exception):
    """A call of iptables was refused."""


def load(machine: Machine) -> tuple[dict[str, Any], dict[str, Any]]:
    """``config.toml`` and ``install.json``, as each command reads them first: missing is a traceback."""
    config = _toml((machine.etc / "config.toml").read_text())
    if machine.newest:
        _override(config)
    install: dict[str, Any] = loads((machine.etc / "install.json").read_bytes())
    for key in ("storage_backend", "disk_size", "vnc_passwd", "vcpus", "memory"):
        if key not in install:
            raise KeyError(key)
    return config, install


def _toml(text: str) -> dict[str, Any]:
    """What is in a TOML file; without tomllib where its values are JSON's as well, as they mostly are."""
    sections: dict[str, Any] = {}
    now = sections
    try:
        for line in text.splitlines():
            if line.startswith("["):
                name = line.strip()[1:-1]
                if not name.isidentifier():
                    raise ValueError(name)
                now = sections.setdefault(name, {})
            elif line:
                name, _, value = line.partition("=")
                now[name.strip()] = loads(value)
    except ValueError:
        import tomllib

        return tomllib.loads(text)
    return sections


def _override(config: dict[str, Any]) -> None:
    """0.21 reads the environment before the file: ``DRAKRUN__NETWORK__NET_ENABLE=1``."""
    for name, text in os.environ.items():
        parts = name.lower().split("__")
        if len(parts) == 3 and parts[0] == "drakrun" and parts[1] in config:
            yes = text.lower() in ("1", "true", "yes", "on")
            config[parts[1]][parts[2]] = yes if parts[2] == "net_enable" else text


def restore(machine: Machine, vm_id: int, log: Log) -> None:
    """Destroy what there is, then restore the snapshot. Raises RuntimeError where xl failed."""
    config, install = load(machine)
    destroy(machine, vm_id, log, "drakrun vm-start")
    if not 0 <= vm_id <= 255:
        raise ValueError(f"VM id out of range: {vm_id}")
    (machine.lib / "volumes" / f"vm-{vm_id}.img").write_bytes(b"QFI\xfb")
    bridge = start_network(machine, vm_id, config["network"], log)
    template = (machine.etc / "cfg.template").read_text()
    filled = {"VM_NAME": f"vm-{vm_id}", "MEMORY": str(install["memory"]), "BRIDGE_NAME": bridge}
    for key, value in filled.items():
        template = template.replace("{{ " + key + " }}", value)
    path = machine.lib / "configs" / f"vm-{vm_id}.cfg"
    path.write_text(template)
    log("INFO", f"Generated VM configuration for vm-{vm_id}")
    log("INFO", f"Restoring VM vm-{vm_id}")
    snapshot = machine.lib / "volumes" / "snapshot.sav"
    if _xl(machine, "drakrun vm-start", "restore", str(path), str(snapshot)):
        raise RuntimeError(f"Failed to restore VM vm-{vm_id}")


def destroy(machine: Machine, vm_id: int, log: Log, caller: str) -> None:
    """End the VM and its network; nothing there is fine. Raises RuntimeError where xl failed."""
    log("INFO", f"Destroying vm-{vm_id}")
    if machine.guest(f"vm-{vm_id}") and _xl(machine, caller, "destroy", f"vm-{vm_id}"):
        raise RuntimeError(f"Failed to pause VM vm-{vm_id}")
    stop_network(machine, vm_id, log)


def _xl(machine: Machine, caller: str, *words: str) -> int:
    environment = {**os.environ, CALLER: caller}
    xl = str(machine.bin / "xl")
    _, status = os.waitpid(os.posix_spawn(xl, [xl, *words], environment), 0)
    return os.waitstatus_to_exitcode(status)


def start_network(machine: Machine, vm_id: int, network: dict[str, Any], log: Log) -> str:
    """Make the bridge; its name. Raises RuntimeError where one is left that nobody knows of."""
    make_chains(machine)
    bridge, gateway = f"drak{vm_id}", f"10.13.{vm_id}.1"
    dns, out = network["dns_server"], network["out_interface"]
    if machine.bridge(bridge).exists():
        raise RuntimeError(f"Failed to create bridge {bridge}.")
    machine.bridge(bridge).touch()
    log("INFO", f"Created bridge {bridge}")
    for rule in _own_rules(vm_id):
        if not _is_there(machine, rule):
            _must(machine, f"-A {rule}")
    info = {
        "out_interface": "eth0" if out == "default" else out,
        "dns_server": gateway if dns == "use-gateway-address" else dns,
        "net_enable": network["net_enable"],
        "bridge_name": bridge,
        "network_address": f"10.13.{vm_id}.0/24",
        "gateway_address": gateway,
        "vm_address": f"10.13.{vm_id}.2",
        "dnsmasq_pidfile": str(machine.run / f"dnsmasq-vm{vm_id}.pid"),
    }
    (machine.run / f"vmnet-{vm_id}.json").write_text(dumps(info))
    if machine.take("iptables", vm=f"vm-{vm_id}") is not None:
        for chain, parent, table in JUMPS[:2]:
            iptables.call(machine, "-D", parent, "-j", chain, "-t", table)
    return bridge


JUMPS = (
    ("DRAKRUN_INP", "INPUT", "filter"),
    ("DRAKRUN_FWD", "FORWARD", "filter"),
    ("DRAKRUN_PRT", "POSTROUTING", "nat"),
)
"""Chain, the chain that it is linked into, and their table."""


def make_chains(machine: Machine) -> None:
    """Make the chains where there is none of them, call by call and without a lock, as there.

    Raises RuntimeError where some are missing. Where a call fails what was made goes again, in silence.
    """
    linked = [_is_there(machine, f"{parent} -j {chain} -t {table}") for chain, parent, table in JUMPS]
    if all(linked):
        return
    if any(linked):
        raise RuntimeError("Some iptables chains are missing, cleanup might be needed.")
    steps = [
        step
        for chain, parent, table in JUMPS
        for step in (f"-N {chain} -t {table}", f"-A {parent} -j {chain} -t {table}")
    ]
    if machine.newest:
        steps.append("-A DRAKRUN_FWD -i drak+ -o drak+ -j DROP")
    try:
        for step in steps:
            time.sleep(machine.iptables_seconds)
            _must(machine, step)
    except Failed:
        for chain, parent, table in JUMPS:
            iptables.call(machine, "-D", parent, "-j", chain, "-t", table)
        for chain, _, table in JUMPS:
            iptables.call(machine, "-X", chain, "-t", table)


def _is_there(machine: Machine, rule: str) -> bool:
    return iptables.call(machine, "-C", *rule.split(), quiet=True) == 0


def _must(machine: Machine, step: str) -> None:
    if status := iptables.call(machine, *step.split()):
        raise Failed(f"iptables {step}: {status}")


def _own_rules(vm_id: int) -> tuple[str, ...]:
    """What keeps a VM from the host, but for its address."""
    inside = f"DRAKRUN_INP -i drak{vm_id}"
    return f"{inside} -p udp --dport 67:68 --sport 67:68 -j ACCEPT", f"{inside} -d 0.0.0.0/0 -j DROP"


def stop_network(machine: Machine, vm_id: int, log: Log) -> None:
    """Take the bridge down; nothing there is fine."""
    info = machine.run / f"vmnet-{vm_id}.json"
    if not info.exists():
        log("INFO", f"VM network for vm-{vm_id} is not running")
        return
    machine.bridge(f"drak{vm_id}").unlink(missing_ok=True)
    log("INFO", f"Deleted drak{vm_id} bridge")
    for rule in _own_rules(vm_id):
        while _is_there(machine, rule):
            _must(machine, f"-D {rule}")
    if machine.newest and not (machine.bin / "conntrack").exists():
        raise FileNotFoundError(2, "No such file or directory: 'conntrack'")
    info.unlink(missing_ok=True)
