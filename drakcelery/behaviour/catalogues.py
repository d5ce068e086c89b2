"""The catalogues of what malware does, as the rules of capa's name their entries. Pure."""

from __future__ import annotations

from drakcelery.model.analysis import Value


class AttackTechnique(Value):
    """A technique of MITRE ATT&CK, as a rule of capa's names it."""

    id: str
    """``T1059.003``."""
    tactic: str
    technique: str
    subtechnique: str | None = None


class MbcBehavior(Value):
    """A behavior of the Malware Behavior Catalog, as a rule of capa's names it."""

    id: str
    """``C0016``."""
    objective: str
    behavior: str
    method: str | None = None
