"""Which of the firewall's rules keep a guest in: drakrun's chains of iptables, and what of them is missing.

Facts: ``drakrun/lib/networking.py`` of v0.19.0 to v0.21.0, and ``iptables-save(8)``, which takes no lock."""

from __future__ import annotations

import enum
import ipaddress
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drakcelery.engines.drakvuf.tools import Tools
from drakcelery.errors import Blame, EngineError

UNTOLD = "nobody can tell what keeps guests in"
SAVE = "iptables-save"
SAVE_SECONDS = 10.0
SAVE_TRIES = 3
SAVE_PAUSE = 0.2
"""Seconds before the next try: the kernel refuses a listing that another program's change interrupts."""


@dataclass(frozen=True, kw_only=True)
class Jump:
    """A chain of drakrun's, and the chain of iptables from which it is reached."""

    table: str
    parent: str
    chain: str

    @property
    def rule(self) -> str:
        """As iptables-save writes it."""
        return f"-A {self.parent} -j {self.chain}"

    def mend(self, rules: Rules) -> list[str]:
        """The commands that add it again."""
        iptables = "iptables" if self.table == "filter" else f"iptables -t {self.table}"
        there = any(line.startswith(f":{self.chain} ") for line in rules.of(self.table))
        make = [] if there else [f"{iptables} -N {self.chain}"]
        return [*make, f"{iptables} -I {self.parent} -j {self.chain}"]


JUMPS = (
    Jump(table="filter", parent="INPUT", chain="DRAKRUN_INP"),
    Jump(table="filter", parent="FORWARD", chain="DRAKRUN_FWD"),
    Jump(table="nat", parent="POSTROUTING", chain="DRAKRUN_PRT"),
)
BETWEEN = "DRAKRUN_FWD -i drak+ -o drak+ -j DROP"
"""What keeps guests from each other, from v0.21 on; it never comes into chains that v0.20 has made."""
SHUT = "FORWARD -i drak+ -j DROP"
"""What keeps a guest without network from sending where the kernel forwards: drakrun has no rule for it, and
lets the kernel forward from the first guest with network on."""
ANY_BRIDGE = "drak+"
"""The bridges of all guests."""

GUESTS = "10.13.0.0/16"
"""The guests' addresses: that of ``vm-N`` is in 10.13.N.0/24."""
SHUT_OTHERWISE = (":FORWARD DROP ", f"-A {SHUT}", "-A FORWARD -j DROP", "-A FORWARD -j REJECT")
"""Beginnings of other lines that have the same effect."""
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
"""Whether the kernel forwards: 1."""


class Standing(enum.Enum):
    """Whether drakrun's chains are there."""

    STANDS = "stands"
    UNMADE = "unmade"
    """No chain is linked: the next vm-start makes them."""
    BROKEN = "broken"
    """Some are linked: no vm-start completes them."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What iptables-save printed: table -> its lines."""

    tables: Mapping[str, tuple[str, ...]]

    @classmethod
    def parse(cls, text: str) -> Rules:
        """Chains (``:INPUT ACCEPT [0:0]``) and rules (``-A INPUT -j DRAKRUN_INP``) of each table."""
        tables: dict[str, list[str]] = {}
        lines: list[str] = []
        for line in text.splitlines():
            if line.startswith("*"):
                lines = tables.setdefault(line[1:].strip(), [])
            elif line.startswith((":", "-A ")):
                lines.append(line.strip())
        return cls(tables={table: tuple(lines) for table, lines in tables.items()})

    def of(self, table: str) -> tuple[str, ...]:
        """The lines of a table; none if it was never used."""
        return self.tables.get(table, ())

    def reaches(self, jump: Jump) -> bool:
        """Whether packets in the jump's parent chain come to drakrun's chain, and are not let in before."""
        return self._holds(jump.table, jump.rule)

    def _holds(self, table: str, rule: str, *, bridge: str = ANY_BRIDGE) -> bool:
        """Whether *rule* is there, and no rule before it in its chain lets through packets from *bridge*."""
        lines, chain = self.of(table), rule.split()[1]
        return rule in lines and not any(
            lets_through(line, chain, bridge, among=lines) for line in lines[: lines.index(rule)]
        )

    def standing(self, *, between: bool, shut: bool = False) -> Standing:
        """*between*: this drakrun has the rule :data:`BETWEEN`; *shut*: one like :data:`SHUT` is needed."""
        if not any(jump.rule in self.of(jump.table) for jump in JUMPS):
            return Standing.UNMADE
        return Standing.BROKEN if self.missing(between=between, shut=shut) else Standing.STANDS

    def missing(self, *, between: bool, shut: bool = False) -> list[str]:
        """The rules that are missing."""
        missing = [jump.rule.removeprefix("-A ") for jump in JUMPS if not self.reaches(jump)]
        if between and not self._keeps_apart:
            missing.append(BETWEEN)
        if shut and not self.is_shut:
            missing.append(SHUT)
        return missing

    def mend(self, *, between: bool, shut: bool = False) -> str:
        """The command line that adds what is missing."""
        commands = [word for jump in JUMPS if not self.reaches(jump) for word in jump.mend(self)]
        if between and not self._keeps_apart:
            commands.append(f"iptables -I {BETWEEN}")
        if shut and not self.is_shut:
            commands += self._shutting()
        return " && ".join(commands)

    def _shutting(self) -> list[str]:
        """The command that shuts in guests without network: at the end, or before the rule that lets them
        through."""
        lines = self.of("filter")
        if not any(_forwards_guests(line, lines) for line in lines):
            return [f"iptables -A {SHUT}"]
        return [f"iptables -I {SHUT}", f"iptables -I {JUMPS[1].parent} -j {JUMPS[1].chain}"]

    @property
    def is_shut(self) -> bool:
        """Whether nothing is forwarded that a guest without network sends."""
        lines = self.of("filter")
        rules = [line for line in lines if not line.startswith(":")]
        ends = [line for line in lines if line.startswith(":")]  # what happens if no rule fits
        for line in [*rules, *ends]:
            if line.startswith(SHUT_OTHERWISE):
                return True
            if _forwards_guests(line, lines):
                return False
        return False

    @property
    def _keeps_apart(self) -> bool:
        return self._holds("filter", f"-A {BETWEEN}")

    def keeps(self, bridge: str) -> bool:
        """Whether packets from a guest's bridge are kept from this host."""
        return self._holds("filter", f"-A DRAKRUN_INP -i {bridge} -j DROP", bridge=bridge)


_COMMENT = re.compile(r'-m comment --comment (?:"(?:[^"\\]|\\.)*"|\S+)')


def lets_through(
    line: str, chain: str, bridge: str, *, anywhere: bool = True, among: Sequence[str] = (), top: bool = True
) -> bool:
    """Whether *line* is a rule of *chain* that lets through all that comes from *bridge*, or its TCP or UDP.

    Args:
        line: as iptables-save writes it.
        chain: its chain.
        bridge: a guest's, or :data:`ANY_BRIDGE`.
        anywhere: only if it may go out by any interface.
        among: the lines of its table, in which a chain is looked up that it jumps to.
        top: *chain* is one at whose end its policy counts.
    """
    words = _COMMENT.sub("", line).split()
    if words[:2] != ["-A", chain] or "-j" not in words:
        return False
    at = words.index("-j")
    target = words[at + 1]
    if not _is_all(words[2:at], bridge, anywhere=anywhere):
        return False
    if target == "ACCEPT" or (target == "RETURN" and top):
        return True
    return not target.startswith("DRAKRUN_") and any(
        lets_through(one, target, bridge, anywhere=anywhere, among=among, top=False) for one in among
    )


def _is_all(matches: list[str], bridge: str, *, anywhere: bool) -> bool:
    """Whether the *matches* of a rule fit all that comes from a guest's *bridge*, or all of TCP or UDP."""
    left = list(matches)
    while left:
        is_inverse = left[0] == "!"
        del left[:is_inverse]
        option, value, *left = [*left, ""] if len(left) == 1 else left
        if option == "-i":
            is_met = _fits(value, bridge)
        elif option == "-s":
            is_met = _is_from(value, bridge)
        elif option == "-p":
            is_met = value in ("tcp", "udp")
        elif (option, left[:1]) in (("-m", ["--ctstate"]), ("-m", ["--state"])):
            is_met, left = "NEW" in left[1].split(","), left[2:]
        else:
            is_met = option == "-o" and not anywhere
            is_inverse = False
        if is_met == is_inverse:
            return False
    return True


def _is_from(source: str, bridge: str) -> bool:
    """Whether *source*, as a rule has it, holds addresses of guests."""
    number = bridge.removeprefix("drak")
    guests = GUESTS if not number.isdecimal() else f"10.13.{number}.0/24"
    try:
        return ipaddress.IPv4Network(source).overlaps(ipaddress.IPv4Network(guests))
    except ValueError:
        return True


def _fits(interface: str, bridge: str) -> bool:
    """Whether *interface*, as a rule has it, may be *bridge*; a ``+`` at the end of either is anything."""
    stem, other = interface.removesuffix("+"), bridge.removesuffix("+")
    if interface == stem and bridge == other:
        return interface == bridge
    return (interface != stem and other.startswith(stem)) or (bridge != other and stem.startswith(other))


def _forwards_guests(line: str, among: Sequence[str]) -> bool:
    return lets_through(line, "FORWARD", ANY_BRIDGE, anywhere=False, among=among)


def forwards() -> bool:
    """Whether the kernel forwards packets that are not for this host."""
    try:
        return FORWARDING.read_text().strip() != "0"
    except OSError:
        return True


def lacking(rules: Rules, *, between: bool, shut: bool) -> str:
    """Why no sample runs, in a sentence that ends with the fix."""
    missing = ", ".join(rules.missing(between=between, shut=shut))
    return (
        f"no sample runs on this host, since nothing would keep its guest in: iptables has no {missing}; "
        f"fix it: {rules.mend(between=between, shut=shut)}"
    )


def read_rules(tools: Tools) -> Rules:
    """The present rules. Raises :class:`EngineError` if iptables does not list them."""
    for _ in range(SAVE_TRIES):
        try:
            done = tools.ask([SAVE], seconds=SAVE_SECONDS)
        except EngineError as error:
            raise EngineError(f"{UNTOLD}: {error}", blames=Blame.HOST) from None
        if done.code == 0:
            return Rules.parse(done.output)
        time.sleep(SAVE_PAUSE)
    raise EngineError(str(done.trouble(UNTOLD)), blames=Blame.HOST)
