"""Whether the settings can be used."""

from __future__ import annotations

import os
import stat

from drakcelery.doctor.commands import line
from drakcelery.doctor.finding import Check, Verdict, failed, ok, skipped, warning
from drakcelery.doctor.subject import Subject


def _load(subject: Subject) -> Verdict:
    source = subject.settings.source
    return ok(f"read from {source}" if source else "no file was found: defaults, and the environment")


def _effect(subject: Subject) -> Verdict:
    notices = subject.settings.without_effect()
    return warning("; ".join(notices)) if notices else ok("every setting has an effect")


def _private(subject: Subject) -> Verdict:
    source = subject.settings.source
    if source is None:
        return skipped("there is no file")
    found = source.stat()
    mode = stat.S_IMODE(found.st_mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH) or found.st_uid not in (0, os.geteuid()):
        verdict = failed if subject.settings.engine == "drakvuf" else warning
        return verdict(
            f"{source} (owner {found.st_uid}, mode {mode:04o}) can be changed by others, and names programs "
            "that the vm worker runs, on a Xen host as root",
            "Let root own it, and nobody but its group read it.",
            line("chown", "root", source),
            line("chmod", "g-w,o=", source),
        )
    if mode & stat.S_IRWXO:
        return warning(
            f"{source} has mode {mode:04o}: everybody on this machine can read its credentials",
            "Let only its group read it.",
            line("chmod", "o=", source),
        )
    return ok(f"{source} has mode {mode:04o}")


CHECKS = (
    Check(
        name="settings.load",
        what="the settings are complete and right",
        remedy="Correct what the sentence names; docs/settings.md has every key. A new "
        "installation is begun by the command init.",
        examine=_load,
    ),
    Check(
        name="settings.effect",
        what="every setting has an effect with this engine",
        remedy="Take the key out of the file, or choose the engine that honours it.",
        examine=_effect,
        needs=("settings.load",),
    ),
    Check(
        name="settings.private",
        what="only its users can read the file with the credentials, and only its owner can change it",
        remedy="Let root own the file and its group read it, with the services' user and those who use it in "
        "the group.",
        examine=_private,
        needs=("settings.load",),
    ),
)
"""In their order."""
