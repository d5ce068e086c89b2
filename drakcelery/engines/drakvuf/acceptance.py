"""Whether this host's DRAKVUF Sandbox can run a sample as its task asks."""

from __future__ import annotations

from collections.abc import Callable

from drakcelery.engines import Detonation
from drakcelery.engines.drakvuf import commands
from drakcelery.engines.drakvuf.installation import Abilities
from drakcelery.errors import UnsupportedSample
from drakcelery.settings import DrakrunSection


def check(job: Detonation, drakrun: DrakrunSection, abilities_of: Callable[[], Abilities]) -> None:
    """Refuse what cannot be passed on. The tools are asked for their abilities only if that matters.

    Raises:
        UnsupportedSample: a sentence that says what cannot be done.
        EngineError: the tools do not answer.
    """
    if not job.start_command.isprintable():
        raise UnsupportedSample("Start command: there are characters in it that are not printable.")
    if not commands.is_startable(job.start_command):
        raise UnsupportedSample("Start command: with the sample's path in it it is too long for Windows.")
    if job.start_method is None and job.net_enable is None:
        return
    abilities = abilities_of()
    if not abilities.can_start(job.start_method):
        raise UnsupportedSample(
            f"Start method: {job.start_method} needs DRAKVUF Sandbox v0.21 or newer and a DRAKVUF that "
            f"knows verbs (-V); this host has DRAKVUF {abilities.drakvuf}"
        )
    if job.net_enable and not drakrun.net_enable:
        raise UnsupportedSample(
            "Network: net_enable is asked for, and [drakrun] net_enable = 0 keeps this host's guests off "
            "the Internet"
        )
    if job.net_enable is False and drakrun.net_enable and not abilities.is_told:
        raise UnsupportedSample(
            "Network: to switch it off for one sample needs DRAKVUF Sandbox v0.21 or newer"
        )
