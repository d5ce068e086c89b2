"""What the report needs beside the log: whether capa is there, and takes its rules."""

from __future__ import annotations

import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from drakcelery import capabilities
from drakcelery.capabilities.job import Limits
from drakcelery.doctor.commands import line
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
        wanted = line(sys.executable, "-m", "pip", "install", "drakcelery[capa]")
        missing = find_spec("capa") is None
        return failed(run.failure).mended_by(wanted) if missing else failed(run.failure)
    return ok(f"capa {run.version} takes the {run.rules} rules in {ours.capa_rules}")


CHECKS = (
    Check(
        name="report.capa",
        what="capa is installed, and takes the rules in [report] capa_rules",
        remedy="Install the extra [capa] of drakcelery; let [report] capa_rules name a directory with capa's "
        "rules, which the io worker may read.",
        examine=_capa,
        needs=("settings.load",),
        seconds=90,
    ),
)
"""In their order."""
