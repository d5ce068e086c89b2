"""A Xen host with DRAKVUF Sandbox: its tools, its hypervisor, and the options of the hypervisor."""

from __future__ import annotations

import os
import re

from drakcelery.doctor.commands import line
from drakcelery.doctor.finding import Check, Status, Verdict, failed, ok, skipped, warning
from drakcelery.doctor.subject import Subject
from drakcelery.engines import create
from drakcelery.engines.drakvuf import commands, ipv6, xen_options
from drakcelery.engines.drakvuf.firewall import (
    Rules,
    Standing,
    forwards,
    read_rules,
)
from drakcelery.engines.drakvuf.installation import Installation, missing_words
from drakcelery.engines.drakvuf.residence import NoLibrary, Residence
from drakcelery.engines.drakvuf.tools import Tools, search_path

ENGINE = "drakvuf"
TOOL_SECONDS = 10.0
"""Seconds that DRAKVUF Sandbox gives ``xl list``, too (``drakrun/cli/sanity_check.py``)."""
OLDEST_DRAKVUF = (1, 1)
"""``MINIMUM_SUPPORTED_DRAKVUF_VERSION`` of DRAKVUF Sandbox v0.21."""
GUIDE = "the guide of DRAKVUF Sandbox (drakvuf-sandbox.readthedocs.io)"


def _not_here(subject: Subject) -> Verdict | None:
    engine = subject.settings.engine
    return None if engine == ENGINE else skipped(f"the engine here is {engine}")


def _toolbox(subject: Subject) -> Tools:
    """The tools as the engine starts them: where the named ones lie, the others are looked for as well."""
    return Tools(path=search_path(subject.settings.drakvuf))


def _tools(subject: Subject) -> Verdict:
    if (skip := _not_here(subject)) is not None:
        return skip
    tools, section = _toolbox(subject), subject.settings.drakvuf
    programs = (section.drakrun, section.drakvuf, section.xl, section.tcpdump)
    missing = [program for program in programs if tools.find(program) is None]
    if missing:
        return failed(f"not there, or not to be executed: {', '.join(missing)} (looked in {tools.path})")
    if "--vm-id" not in _says(tools, section.drakrun, "vm-start", "--help"):
        return failed(
            f"{section.drakrun} has no command vm-start: it is older than v0.19, or does not start",
            f"Update DRAKVUF Sandbox to v0.19 or newer, by {GUIDE}.",
        )
    version = commands.parse_version(_says(tools, section.drakvuf, "-h"))
    if version is None:
        return failed("drakvuf -h does not begin with a version: it does not start, or is something else")
    if not is_recent(version):
        return warning(f"DRAKVUF {version}, and DRAKVUF Sandbox supports 1.1 and newer", "Update DRAKVUF.")
    sandbox = sandbox_version(_says(tools, section.drakrun, "version")) or "0.19 or 0.20"
    recorder = _says(tools, section.tcpdump, "--version").partition("\n")[0]
    return ok(f"DRAKVUF Sandbox {sandbox}, DRAKVUF {version}, {recorder}")


def _says(tools: Tools, program: str, *arguments: str) -> str:
    """What a tool prints, to either stream. Raises :class:`~drakcelery.errors.EngineError` if it hangs."""
    ended = tools.run([program, *arguments], seconds=TOOL_SECONDS, quiet=True)
    return "\n".join((*ended.output.splitlines(), *ended.errors))


def is_recent(version: str) -> bool:
    """Whether ``1.1-8107f11`` is a DRAKVUF that DRAKVUF Sandbox supports."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", version.partition("-")[0])[:2])
    return numbers >= OLDEST_DRAKVUF


def sandbox_version(text: str) -> str | None:
    """What ``drakrun version`` logs; None of v0.19 and v0.20, which have no such command."""
    match = re.search(r"DRAKVUF Sandbox version: (\S+)", text)
    return match[1] if match else None


def _installation(subject: Subject) -> Verdict:
    """What the vm worker checks at its start, except for Xen's command line, which has a check of its own."""
    drakrun = subject.settings.drakrun.model_copy(update={"xen_cmdline_check": "ignore"})
    engine = create(ENGINE, subject.settings.model_copy(update={"drakrun": drakrun}))
    return ok(f"{engine.version()} has a snapshot, its profiles and a hook list")


def _programs(subject: Subject) -> Verdict:
    if (skip := _not_here(subject)) is not None:
        return skip
    missing = Installation(subject.settings, _toolbox(subject)).missing_programs()
    if missing:
        packages = sorted(set(missing.values()))
        return failed(missing_words(missing), "Install them.", line("apt-get", "install", *packages))
    return ok("what makes a guest's network and its disk is there")


def _network(subject: Subject) -> Verdict:
    tools = _toolbox(subject)
    between = Installation(subject.settings, tools).abilities.keeps_apart
    closed = not subject.settings.drakrun.net_enable
    found = network_verdict(read_rules(tools), between=between, shut=closed and forwards())
    if found.status is Status.OK and (bridges := ipv6.speaking()):
        return warning(
            f"{found.said}; but by IPv6, for which drakrun has no rule, they may reach it from "
            f"{', '.join(bridges)}, where somebody else has started a guest",
            "As root, switch it off there:",
            ipv6.mend(*bridges),
        )
    return found


def network_verdict(rules: Rules, *, between: bool, shut: bool = False) -> Verdict:
    """What keeps guests in; *between*: whether this drakrun keeps them from each other.

    *shut*: guests have no network, and the kernel forwards.
    """
    standing = rules.standing(between=between, shut=shut)
    if standing is Standing.BROKEN:
        missing = ", ".join(rules.missing(between=between, shut=shut))
        return failed(
            f"no sample runs here: iptables has no {missing}",
            "As root, add what is missing:",
            rules.mend(between=between, shut=shut),
        )
    if standing is Standing.UNMADE:
        return ok("no guest was started since the boot: the first vm-start makes what keeps guests in")
    apart = (
        "from this host and from each other" if between else "from this host (v0.21: from each other, too)"
    )
    return ok(f"guests are kept {apart}")


def _library(subject: Subject) -> Verdict:
    if (skip := _not_here(subject)) is not None:
        return skip
    if not subject.settings.drakvuf.library:
        return skipped("[drakvuf] library = 0: drakrun is started for each call")
    residence = Residence(subject.settings.drakvuf, _toolbox(subject))
    try:
        hello = residence.check()
    except NoLibrary as error:
        return warning(f"drakrun is started for each call, which takes a second of processor time: {error}")
    if hello.lacks:
        return warning(f"drakrun {hello.version}; there will be no screenshots: {hello.lacks}")
    return ok(f"drakrun {hello.version}, imported in {hello.seconds:.1f} s")


def _hypervisor(subject: Subject) -> Verdict:
    xl = subject.settings.drakvuf.xl
    for word in ("info", "list"):
        ended = _toolbox(subject).run([xl, word], seconds=TOOL_SECONDS, quiet=True)
        if ended.code != 0:
            who = "" if os.geteuid() == 0 else "; it needs root, so run doctor as root"
            return failed(f"{ended.trouble('Xen does not answer')}{who}")
    return ok("xl info and xl list answer")


def _commandline(subject: Subject) -> Verdict:
    xl = subject.settings.drakvuf.xl
    info = _toolbox(subject).run([xl, "info"], seconds=TOOL_SECONDS, quiet=True).output
    return commandline_verdict(info, check=subject.settings.drakrun.xen_cmdline_check)


def commandline_verdict(info: str, *, check: str) -> Verdict:
    """How Xen was started, by ``xl info``; *check* is ``[drakrun] xen_cmdline_check``.

    ``sched=credit`` was asked for by v0.18.1 only: the guides of v0.19 and later leave Xen its own scheduler.
    """
    missing = xen_options.missing_options(info)
    if missing:
        says = f"Xen was started without {', '.join(missing)}"
        options = " ".join(missing)
        remedy = f"In /etc/default/grub add {options} to GRUB_CMDLINE_XEN_DEFAULT; then, as root:"
        if check == "fail":
            return failed(says, remedy, "update-grub && reboot")
        return warning(f"{says}; xen_cmdline_check=ignore", remedy, "update-grub && reboot")
    scheduler = xen_options.xen_options(info).get("sched", "Xen's own")
    return ok(
        f"{', '.join(f'{key}={value}' for key, value in xen_options.RECOMMENDED.items())}; scheduler: "
        f"{scheduler}"
    )


CHECKS = (
    Check(
        name="xen.tools",
        what="drakrun (v0.19 or newer), drakvuf, xl and tcpdump are there and start",
        remedy=f"Install DRAKVUF Sandbox with its bundle of DRAKVUF and Xen, by {GUIDE}, and tcpdump.",
        examine=_tools,
        needs=("engine.choice",),
        seconds=60,
    ),
    Check(
        name="xen.installation",
        what="DRAKVUF Sandbox has a snapshot, its profiles and a hook list, and [slots] are its VMs",
        remedy="Finish the installation that the sentence names (drakrun install, drakrun postinstall), or "
        "correct [drakvuf].",
        examine=_installation,
        needs=("xen.tools",),
        seconds=90,
    ),
    Check(
        name="xen.programs",
        what="the programs with which drakrun makes a guest's network and disk are there",
        remedy="Install the packages that the sentence names.",
        examine=_programs,
        needs=("xen.tools",),
        seconds=60,
    ),
    Check(
        name="xen.network",
        what="drakrun's chains of iptables keep guests from this host, and from v0.21 from each other",
        remedy="See, as root, that iptables answers.",
        examine=_network,
        needs=("xen.programs",),
        seconds=60,
    ),
    Check(
        name="xen.library",
        what="drakrun's library can be used without starting drakrun again for each call",
        remedy="Let [drakvuf] drakrun name the script that pip installed, of a version from 0.19 to 0.21; or "
        "set [drakvuf] library = 0, and the commands are used without asking.",
        examine=_library,
        needs=("xen.tools",),
        seconds=90,
    ),
    Check(
        name="xen.hypervisor",
        what="xl info and xl list answer",
        remedy="Boot into Xen, and see that xenstored and xenconsoled run.",
        examine=_hypervisor,
        needs=("xen.tools",),
        seconds=30,
    ),
    Check(
        name="xen.commandline",
        what="Xen was started with the options that DRAKVUF needs",
        remedy="Add them to GRUB_CMDLINE_XEN_DEFAULT in /etc/default/grub, and boot again. Or set [drakrun] "
        "xen_cmdline_check = ignore.",
        examine=_commandline,
        needs=("xen.hypervisor",),
    ),
)
"""In their order."""
