"""What the report needs beside the log: whether capa is there, and takes its rules."""

from __future__ import annotations

import tempfile
from pathlib import Path

from drakcelery import capabilities
from drakcelery.capabilities.job import Limits
from drakcelery.doctor.finding import Check, Verdict, failed, ok, skipped
from drakcelery.doctor.subject import Subject

TRIAL_SECONDS = 80
"""How long capa may read its rules; a thousand take 6 s."""


def _capa(subject: Subject) -> Verdict:
    ours = subject.settings.report
    if ours.capa_rules is None:
        return skipped("[report] capa_rules is not set: reports have no ATT&CK")
    if not subject.runs_guests:
        return skipped("[slots] is empty: no report is made on this machine")
    with tempfile.TemporaryDirectory(prefix="drakcelery-doctor-") as directory:
        run = capabilities.try_rules(
            Limits(
                rules=ours.capa_rules,
                cache=Path(directory) / "capa",
                seconds=TRIAL_SECONDS,
                memory=ours.capa_memory_limit,
            )
        )
    if run.failure is not None:
        return failed(run.failure)
    return ok(f"capa {run.version} takes the {run.rules} rules in {ours.capa_rules}")


CHECKS = (
    Check(
        name="report.capa",
        what="capa is installed, and takes the rules in [report] capa_rules",
        remedy="pip install drakcelery[capa]; let [report] capa_rules name a directory with rules of capa's, "
        "which the io worker may read.",
        examine=_capa,
        needs=("settings.load",),
        seconds=90,
    ),
)
"""In their order."""
