"""``iptables``: what drakrun uses of it, on rules in a file; each call is one step, as in the kernel."""

from __future__ import annotations

import sys

from tests.xen.tools.machine import Machine, not_simulated, say

Tables = dict[str, dict[str, list[str]]]
"""Table -> chain -> its rules, as ``iptables-save`` writes them."""

BUILT_IN = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}
TARGETS = frozenset({"ACCEPT", "DROP", "MASQUERADE"})
ORDER = ("-s", "-d", "-i", "-o", "-p", "--sport", "--dport", "-j")
FILE = "iptables.json"
POLICIES = "policies.json"
"""Chain -> what becomes of what no rule decides. That of FORWARD is DROP at first, as where Docker runs:
whether the kernel of the machine that this runs on forwards makes no difference then."""


def main(machine: Machine, argv: list[str]) -> int:
    """Run iptables; the exit status."""
    return call(machine, *argv)


def tables(machine: Machine) -> Tables:
    """What there is now."""
    empty: Tables = {table: {chain: [] for chain in chains} for table, chains in BUILT_IN.items()}
    found: Tables = machine.read(FILE, empty)
    return found


def call(machine: Machine, *words: str, quiet: bool = False) -> int:
    """One command, as a process of its own would do it; the exit status. What is wrong goes to stderr.

    *quiet*: nobody reads that.
    """
    rest = list(words)
    table = "filter"
    if "-t" in rest:
        at = rest.index("-t")
        table = rest[at + 1]
        del rest[at : at + 2]
    action, chain = rest[0], rest[1] if len(rest) > 1 else None
    if action not in ("-N", "-A", "-I", "-C", "-D", "-F", "-X", "-P"):
        return not_simulated(f"iptables {' '.join(words)}")
    if action == "-P":
        with machine.locked():
            machine.write(POLICIES, {**machine.read(POLICIES, {}), chain: rest[2]})
        return 0
    with machine.locked():
        now = tables(machine)
        status, complaint = _do(now[table], table, action, chain, _canonical(rest[2:]))
        if status == 0 and action != "-C":
            machine.write(FILE, now)
    if complaint and not quiet:
        say(f"iptables: {complaint}")
    return status


def _canonical(words: list[str]) -> str:
    """A rule as ``iptables-save`` writes it."""
    pairs = dict(zip(words[::2], words[1::2], strict=True))
    if pairs.get("-d") == "0.0.0.0/0":
        del pairs["-d"]
    written = []
    for name in ORDER:
        if name in pairs:
            written.append(f"{name} {pairs.pop(name)}")
        if name == "-p" and written and written[-1] == "-p udp":
            written.append("-m udp")
    return " ".join([*written, *(f"{name} {value}" for name, value in pairs.items())])


def _do(
    chains: dict[str, list[str]], table: str, action: str, chain: str | None, rule: str
) -> tuple[int, str]:
    if chain is None:
        return _all(chains, table, action), ""
    if action == "-N":
        if chain in chains:
            return 1, "Chain already exists."
        chains[chain] = []
        return 0, ""
    if chain not in chains:
        return 1, "No chain/target/match by that name."
    target = rule.rpartition("-j ")[2]
    if rule and target not in TARGETS and target not in chains:
        return 2, f"Chain '{target}' does not exist"
    if action == "-X":
        return _delete(chains, chain)
    return _change(chains[chain], action, rule)


def _delete(chains: dict[str, list[str]], chain: str) -> tuple[int, str]:
    linked = any(rule.endswith(f"-j {chain}") for rules in chains.values() for rule in rules)
    if chains[chain] or linked:
        return 4, f"CHAIN_DEL failed (Device or resource busy): chain {chain}"
    del chains[chain]
    return 0, ""


def _change(rules: list[str], action: str, rule: str) -> tuple[int, str]:
    if action in ("-C", "-D") and rule not in rules:
        return 1, "Bad rule (does a matching rule exist in that chain?)."
    if action == "-A":
        rules.append(rule)
    elif action == "-I":
        rules.insert(0, rule)
    elif action == "-D":
        rules.remove(rule)
    elif action == "-F":
        rules.clear()
    return 0, ""


def _all(chains: dict[str, list[str]], table: str, action: str) -> int:
    """``-F`` and ``-X`` without a chain."""
    for chain in list(chains):
        if action == "-F":
            chains[chain].clear()
        elif action == "-X" and chain not in BUILT_IN[table]:
            del chains[chain]
    return 0


def save(machine: Machine) -> str:
    """What ``iptables-save`` prints."""
    lines = []
    policies = machine.read(POLICIES, {"FORWARD": "DROP"})
    for table, chains in tables(machine).items():
        lines.append(f"*{table}")
        lines += [
            f":{chain} {policies.get(chain, 'ACCEPT') if chain in BUILT_IN[table] else '-'} [0:0]"
            for chain in chains
        ]
        lines += [f"-A {chain} {rule}" for chain, rules in chains.items() for rule in rules]
        lines.append("COMMIT")
    return "\n".join(lines) + "\n"


def print_rules(machine: Machine) -> int:
    """``iptables-save``."""
    sys.stdout.write(save(machine))
    return 0
