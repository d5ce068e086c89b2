"""Matches capa's rules against calls. Imports capa, so only its own process imports this."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from capa.capabilities.dynamic import find_dynamic_capabilities
from capa.features.address import Address, DynamicCallAddress, ProcessAddress, ThreadAddress
from capa.features.extractors.base_extractor import CallHandle, ProcessHandle, ThreadHandle
from capa.features.extractors.drakvuf.extractor import DrakvufExtractor
from capa.features.extractors.drakvuf.models import DrakvufReport
from capa.render.result_document import RuleMetadata
from capa.rules import InvalidRule, InvalidRuleSet, Rule, RuleSet, collect_rule_file_paths, get_rules

from drakcelery.behaviour.catalogues import AttackTechnique, MbcBehavior
from drakcelery.behaviour.events import seconds
from drakcelery.behaviour.report import Capability
from drakcelery.behaviour.tables import MOST_PROCESSES_OF_A_ROW
from drakcelery.capabilities.calls import Calls
from drakcelery.capabilities.job import Found, Job
from drakcelery.capabilities.own import Owners
from drakcelery.model.metadata import CapaRun

SHARE = 0.7
"""How much of the time is for single calls. What follows cannot be broken off: rules about whole threads and
processes, which take a part of that time."""
MOST = 1000
"""Capabilities."""
CACHES = 3
"""Versions of the rules that are kept."""
_INTERNAL = "internal/"
"""Namespace of rules about capa's own limits."""


class RulesError(Exception):
    """The rules cannot be read."""


def match_rules(job: Job, *, deadline: float, clock: Callable[[], float] = time.monotonic) -> Found:
    """Find what the calls match until *deadline*, by the monotonic clock."""
    try:
        rules = load(job.limits.rules, job.limits.cache)
    except RulesError as error:
        return Found(run=CapaRun(version="", failure=f"capa's rules cannot be read: {error}"))
    calls = Calls(Owners(job.logs.lives))
    extractor = _Extractor(DrakvufReport.from_raw_report(calls.entries(job.logs.paths)), deadline, clock)
    matches = find_dynamic_capabilities(rules, extractor, disable_progress=True).matches
    capabilities = [
        _capability(RuleMetadata.from_capa(rules[name]), [place for place, _ in found], extractor)
        for name, found in matches.items()
        if is_shown(rules[name])
    ]
    limit = "time" if extractor.is_late else "calls" if calls.is_cut else None
    return Found(
        run=CapaRun(version="", rules=count(rules), calls=extractor.calls, limit=limit),
        capabilities=tuple(sorted(capabilities, key=lambda one: (one.namespace or "~", one.rule)))[:MOST],
    )


def load(directory: Path, cache: Path) -> RuleSet:
    """The rules in *directory*, from *cache* if they are there, read by capa.

    A cache that another process is writing, or did not finish, is made anew.

    Raises:
        RulesError: they cannot be read; the sentence names the file, if it is one file's fault.
    """
    try:
        if not directory.is_dir():
            raise NotADirectoryError("it is no directory")
        try:
            rules = get_rules([directory], cache)
        except (OSError, UnicodeDecodeError, InvalidRule, InvalidRuleSet):
            raise
        except Exception:  # noqa: BLE001 what unpickling of half a file may raise
            _keep(cache, 0)
            rules = get_rules([directory], cache)
    except (OSError, UnicodeDecodeError, InvalidRule, InvalidRuleSet) as error:
        raise RulesError(f"{_blamed(directory)}: {error}"[:500]) from error
    _keep(cache, CACHES)
    return rules


def _blamed(directory: Path) -> Path:
    """The first file that is no rule; *directory* if it is none's fault."""
    for path in collect_rule_file_paths([directory]) if directory.is_dir() else ():
        try:
            Rule.from_yaml(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, InvalidRule):
            return Path(path)
    return directory


def _keep(cache: Path, newest: int) -> None:
    found = sorted(cache.glob("*.cache"), key=lambda one: one.stat().st_mtime, reverse=True)
    for old in found[newest:]:
        old.unlink(missing_ok=True)


def count(rules: RuleSet) -> int:
    """How many there are, those not counted that capa makes of parts of others."""
    return sum(not rule.is_subscope_rule() for rule in rules.rules.values())


def is_shown(rule: Rule) -> bool:
    """Whether it says something by itself, and not only as a part of others."""
    namespace = rule.meta.get("namespace") or ""
    return not (rule.is_subscope_rule() or rule.meta.get("lib") or namespace.startswith(_INTERNAL))


class _Extractor(DrakvufExtractor):  # type: ignore[misc] # capa has no types
    """Stops to give calls when the time is over; each thread may use its share of what is left.

    Attributes:
        calls: how many it gave.
        is_late: whether it gave less than there are.
    """

    def __init__(self, report: DrakvufReport, deadline: float, clock: Callable[[], float]) -> None:
        super().__init__(report)
        self.calls = 0
        self.is_late = False
        self._deadline = deadline
        self._clock = clock
        self._threads = sum(map(len, self.sorted_calls.values()))

    def get_calls(self, ph: ProcessHandle, th: ThreadHandle) -> Iterator[CallHandle]:
        now = self._clock()
        until = now + (self._deadline - now) / max(self._threads, 1)
        self._threads -= 1
        for call in super().get_calls(ph, th):
            if self._clock() > until:
                self.is_late = True
                return
            self.calls += 1
            yield call


def _capability(rule: RuleMetadata, places: list[Address], extractor: _Extractor) -> Capability:
    times = [time for place in places if (time := _time(place, extractor)) is not None]
    processes = dict.fromkeys(pid - 1 for place in places if (pid := _process(place)) is not None)
    return Capability(
        rule=rule.name,
        namespace=rule.namespace,
        attack=tuple(
            AttackTechnique(
                id=one.id,
                tactic=one.tactic,
                technique=one.technique,
                subtechnique=one.subtechnique or None,
            )
            for one in rule.attack
        ),
        mbc=tuple(
            MbcBehavior(id=one.id, objective=one.objective, behavior=one.behavior, method=one.method or None)
            for one in rule.mbc
        ),
        count=len(places),
        first=min(times, default=None),
        last=max(times, default=None),
        processes=tuple(processes)[:MOST_PROCESSES_OF_A_ROW],
    )


def _process(place: Address) -> int | None:
    match place:
        case DynamicCallAddress():
            return int(place.thread.process.pid)
        case ThreadAddress():
            return int(place.process.pid)
        case ProcessAddress():
            return int(place.pid)
    return None


def _time(place: Address, extractor: _Extractor) -> float | None:
    """When the call was made; of a match of a thread or process it is not known."""
    if not isinstance(place, DynamicCallAddress):
        return None
    calls = extractor.sorted_calls[place.thread.process][place.thread]
    return seconds(calls[place.id].timestamp)
