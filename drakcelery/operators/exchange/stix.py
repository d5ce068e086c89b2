"""A report as a bundle of STIX 2.1, with stix2. Pure: the same report makes the same bundle.

The objects are a ``malware-analysis`` with what was observed (:mod:`.observables`), a ``note`` that says how
the analysis ended and what is missing, and a ``grouping`` around them. There is no ``indicator``, and the
analysis' ``result`` is ``unknown``: a sandbox sees what a program does, not whether that is malicious.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stix2 import v21
from stix2.v21.common import TLP_AMBER, TLP_GREEN, TLP_RED

from drakcelery.behaviour.report import Report
from drakcelery.operators.exchange import values
from drakcelery.operators.exchange.observables import Observables, identifier
from drakcelery.operators.exchange.selection import Selection
from drakcelery.operators.exchange.sharing import Level
from drakcelery.operators.exchange.techniques import techniques

_MARKINGS = {"green": TLP_GREEN, "amber": TLP_AMBER, "red": TLP_RED}


def stix(report: Report, level: Level) -> str:
    """The bundle as JSON, in ASCII; *level* is its marking."""
    return str(bundle(report, level).serialize(pretty=False, indent=2, ensure_ascii=True)) + "\n"


def bundle(report: Report, level: Level) -> v21.Bundle:
    """The bundle."""
    marking = _MARKINGS[level]
    return v21.Bundle(
        id=identifier("bundle", report.analysis_uid),
        objects=[marking, *_Maker(report, marking.id).objects()],
    )


class _Maker:
    """Makes the objects of a bundle."""

    def __init__(self, report: Report, marking: str) -> None:
        self._report, self._marking = report, marking
        self._told = values.moment(report.run.finished) or values.EPOCH

    def objects(self) -> Iterator[Any]:
        """All but the marking."""
        observed = Observables(self._report, self._marking)
        chosen = Selection(self._report)
        observed.collect(chosen)
        author = _author()
        windows = v21.Software(name="Windows", vendor="Microsoft", object_marking_refs=[self._marking])
        analysis = self._analysis(author.id, windows.id, observed)
        note = self._object(
            v21.Note,
            created_by_ref=author.id,
            abstract="How the analysis ended",
            content="\n".join(chosen.sentences()),
            object_refs=[analysis.id],
        )
        found = list(self._techniques(author.id, analysis.id))
        made = [author, windows, analysis, note, *observed.objects.values(), *found]
        yield self._object(
            v21.Grouping,
            created_by_ref=author.id,
            name=f"Analysis of {values.text(self._report.sample.name) or 'a sample'}",
            context="malware-analysis",
            object_refs=[one.id for one in made],
        )
        yield from made

    def _techniques(self, author: str, analysis: str) -> Iterator[Any]:
        for one in techniques(self._report):
            where = v21.ExternalReference(source_name="mitre-attack", external_id=one.id)
            pattern = self._object(
                v21.AttackPattern,
                one.id,
                created_by_ref=author,
                name=one.name,
                description=f"By these rules of capa: {', '.join(one.rules)}.",
                external_references=[where],
            )
            yield pattern
            yield self._object(
                v21.Relationship,
                one.id,
                created_by_ref=author,
                source_ref=analysis,
                relationship_type="related-to",
                target_ref=pattern.id,
            )

    def _object(self, kind: Any, key: str = "", **fields: Any) -> Any:
        """An object that the analysis has one of, or one of for each *key*."""
        name = identifier(kind._type, self._report.analysis_uid, key)  # noqa: SLF001 where stix2 has its name
        marked = {"id": name, "object_marking_refs": [self._marking]}
        return kind(created=self._told, modified=self._told, **marked, **fields)

    def _analysis(self, author: str, windows: str, observed: Observables) -> Any:
        run = self._report.run
        product, version = values.engine(run.engine)
        started, ended = values.moment(run.started), values.moment(run.finished)
        optional: dict[str, Any] = {
            "version": version,
            "modules": [name for name in map(values.text, run.plugins) if name] or None,
            "analysis_started": started,
            "analysis_ended": None if started and ended and ended < started else ended,
        }
        seen = [name for name, one in observed.objects.items() if one.type != "relationship"]
        return self._object(
            v21.MalwareAnalysis,
            created_by_ref=author,
            product=product,
            operating_system_ref=windows,
            result="unknown",
            sample_ref=observed.sample,
            analysis_sco_refs=[one for one in seen if one != observed.sample] or None,
            **{name: value for name, value in optional.items() if value is not None},
        )


def _author() -> Any:
    """Who says all this: the same object in each bundle, to the time."""
    return v21.Identity(
        id=identifier("identity"),
        created=values.EPOCH,
        modified=values.EPOCH,
        name="drakcelery",
        identity_class="system",
    )
