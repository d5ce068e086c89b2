"""What is to be written on a machine, and what is left for its operator to do. Reads; writes nothing."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from drakcelery import settings
from drakcelery.deploy import accounts, configuration, importing, sandbox, units
from drakcelery.deploy.importing import Finding, Imported, Sections
from drakcelery.deploy.oldkeys import Verdict
from drakcelery.deploy.units import ROLES, Machine, unit_name
from drakcelery.errors import SettingsError
from drakcelery.settings import Settings
from drakcelery.settings.sections import XEN_CONTROL

CONFIG = PurePosixPath("/etc/drakcelery/config.ini")
UNITS = PurePosixPath("/etc/systemd/system")
SYSUSERS = PurePosixPath("/etc/sysusers.d/drakcelery.conf")
TMPFILES = PurePosixPath("/etc/tmpfiles.d/drakcelery.conf")

OLD_FILES = (
    PurePosixPath("/etc/drakrun/config.ini"),
    PurePosixPath("/etc/drakcore/config.ini"),
    PurePosixPath("/etc/drakrun/config.toml"),
    PurePosixPath("/etc/karton/karton.ini"),
)
"""Where settings are looked for, unless it is said where they are."""
MINIO_ENVIRONMENT = PurePosixPath("/etc/drakcore/minio.env")
INSTALL_INFO = PurePosixPath("/etc/drakrun/install.json")
"""DRAKVUF Sandbox of any release writes it once its VM is installed."""

DRAKRUN = "[drakvuf] drakrun"
"""What is to be filled in where DRAKVUF Sandbox's command was not found."""

PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/+@-]+")
PLAIN_USER = re.compile(r"[a-z_][a-z0-9_-]{0,20}")
"""Short enough for the name of the people's group, which is made of it."""


class Status(enum.StrEnum):
    """What happens to a file."""

    NEW = "new"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    REPLACED = "replaced"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A file to be there."""

    path: PurePosixPath
    """On the machine itself."""
    text: str
    mode: int
    status: Status


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the operator asked for."""

    root: Path = Path("/")
    """The machine's files are below it."""
    only: tuple[str, ...] = ()
    """Roles; none: those that make sense here."""
    sources: tuple[Path, ...] = ()
    """Files with settings to take over; none: the well-known ones."""
    user: str = "drakcelery"
    program: PurePosixPath
    drakrun: PurePosixPath | None = None
    """DRAKVUF Sandbox's command; None: look for it."""
    force: bool = False


@dataclass(kw_only=True)
class Plan:
    """What will be written, and what there is to say."""

    targets: list[Target] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    todo: list[str] = field(default_factory=list)
    """What has to be filled into the configuration file."""
    retire: list[str] = field(default_factory=list)
    """Services of DRAKVUF Sandbox that would take the same samples."""


def make(wish: Wish) -> Plan:
    """Decide everything.

    Raises:
        SettingsError: a file cannot be read, or is in the way and *force* was not given.
    """
    _check(wish)
    plan = Plan()
    services = importing.enabled(wish.root)
    kept = _below(wish.root, CONFIG) if _exists(wish.root, CONFIG) and not wish.force else None
    if kept is not None:
        ours, text = settings.load(kept, environment={}), kept.read_text(encoding="utf-8")
        config = Target(path=CONFIG, text=text, mode=0o640, status=Status.KEPT)
        plan.remarks.append(f"{CONFIG} is kept as it is, and no old settings are looked for")
        there = _exists(wish.root, UNITS / unit_name("system"))
        plan.roles = _roles(wish, ours, hosts_vms=bool(ours.slots), runs_system=there)
        named = ours.drakvuf.drakrun
        if wish.drakrun is not None and str(wish.drakrun) != named:
            plan.remarks.append(
                f"--drakrun is not taken: set {DRAKRUN} in {CONFIG}, or write it anew: --force"
            )
        if _drives_drakvuf(wish, ours, services, plan) and not sandbox.is_there(wish.root, named):
            said = sandbox.remark(sandbox.find(wish.root), sandbox.of_others(wish.root))
            plan.remarks.append(f"{DRAKRUN} = {named} is not there; {said}")
    else:
        imported = importing.read(_sources(wish), minio_environment=_below(wish.root, MINIO_ENVIRONMENT))
        hosts_vms = _complete(wish, imported, services, plan)
        ours = Settings.model_validate(imported.values)
        runs_system = imported.values["drakmon"]["system_disable"] in ("0", "false", "no", "off")
        plan.roles = _roles(wish, ours, hosts_vms=hosts_vms, runs_system=runs_system)
        plan.findings = imported.findings
        plan.todo = configuration.missing(imported.values)
        if _drives_drakvuf(wish, ours, services, plan):
            ours = _with_drakrun(wish, ours, imported.values, plan)
        text = configuration.render(imported.values, text=configuration.example())
        config = _target(wish, CONFIG, text, mode=0o640)
    _honour_system_disable(wish, ours, plan)
    machine = _machine(wish, ours, engine=_engine(wish.root, ours, services))
    plan.targets = [config, *_system_files(wish, machine, plan.roles)]
    plan.retire = _retired(services, plan.roles)
    _remark(ours, machine, plan)
    return plan


def _check(wish: Wish) -> None:
    if not PLAIN_USER.fullmatch(wish.user) or wish.user == "root":
        raise SettingsError(
            f"--user {wish.user}: expected a user name other than root: up to 21 small letters, digits, '_', "
            "'-'; the vm worker of a Xen host is root's in any case"
        )
    if not PLAIN_PATH.fullmatch(str(wish.program)):
        raise SettingsError(
            f"--program {wish.program}: expected an absolute path of letters, digits and ._/+@-"
        )
    if wish.drakrun is None:
        return
    if not PLAIN_PATH.fullmatch(str(wish.drakrun)):
        raise SettingsError(
            f"--drakrun {wish.drakrun}: expected an absolute path of letters, digits and ._/+@-"
        )
    if wish.root == Path("/") and not sandbox.is_there(wish.root, str(wish.drakrun)):
        raise SettingsError(f"--drakrun {wish.drakrun}: there is no such program, or you may not execute it")


def _below(root: Path, path: PurePosixPath) -> Path:
    return root / path.relative_to("/")


def _exists(root: Path, path: PurePosixPath) -> bool:
    try:
        return _below(root, path).exists()
    except OSError as error:
        raise SettingsError(f"{_below(root, path)}: cannot be read: {error.strerror}") from None


def _sources(wish: Wish) -> Sequence[Path]:
    """The files to take over. Our own is one where it is written anew: nothing that was set gets lost."""
    if wish.sources:
        return wish.sources
    places = (CONFIG,) if _exists(wish.root, CONFIG) else OLD_FILES
    return [_below(wish.root, path) for path in places if _exists(wish.root, path)]


def _complete(wish: Wish, imported: Imported, services: Iterable[str], plan: Plan) -> bool:
    """Add to what was imported what no file says: the slots, and who runs karton-system. Hosts it VMs?"""
    values: Sections = imported.values
    vms = dict(importing.instances(services))
    directory = _below(wish.root, UNITS)
    profile = values.get("drakcelery", {}).get("default_profile", "default")
    if "slots" not in values:
        values["slots"] = {f"vm-{number}": profile for number in sorted(vms.values())}
        imported.findings += [
            Finding(
                source=directory,
                section=service,
                key="*",
                verdict=Verdict.TAKEN,
                text=f"as [slots] vm-{number}: the service owned the VM of that name",
            )
            for service, number in vms.items()
        ]
    hosts_vms = bool(values["slots"]) or _is_xen(wish.root)
    if not values["slots"] and ("vm" in wish.only or (not wish.only and hosts_vms)):
        values["slots"] = {"vm-1": profile}
        plan.remarks.append("[slots] has one VM, vm-1: add the others of this host, and their profiles")
    drakmon = values.setdefault("drakmon", {})
    drakmon.setdefault("system_disable", "0" if "system" in wish.only else "1")
    return hosts_vms


def _is_xen(root: Path) -> bool:
    """A running Xen host, or one on which DRAKVUF Sandbox was installed."""
    return (root == Path("/") and XEN_CONTROL.exists()) or _exists(root, INSTALL_INFO)


def _engine(root: Path, ours: Settings, services: Iterable[str]) -> str:
    """The engine that this machine will use: what is set, else what it is made for."""
    if (given := str(ours.drakcelery.engine)) != "auto":
        return given
    return "drakvuf" if _is_xen(root) or dict(importing.instances(services)) else "emulator"


def _drives_drakvuf(wish: Wish, ours: Settings, services: Iterable[str], plan: Plan) -> bool:
    return "vm" in plan.roles and _engine(wish.root, ours, services) == "drakvuf"


def _roles(wish: Wish, ours: Settings, *, hosts_vms: bool, runs_system: bool) -> list[str]:
    if wish.only:
        return [role for role in ROLES if role in wish.only]
    wanted = {"ingress", "flower"}
    wanted |= {"vm", "io"} if hosts_vms and ours.slots else set()
    wanted |= {"system"} if runs_system else set()
    return [role for role in ROLES if role in wanted]


def _honour_system_disable(wish: Wish, ours: Settings, plan: Plan) -> None:
    if not ours.drakmon.system_disable:
        return
    if "system" in wish.only:
        why = "[drakmon] system_disable = 1: a karton-system runs elsewhere, and a Karton has one"
        if wish.only == ("system",):
            raise SettingsError(f"{why}; set it to 0 in {_below(wish.root, CONFIG)} if this is to be the one")
        plan.roles.remove("system")
        plan.remarks.append(f"{why}: no unit for it was written")
    elif not wish.only:
        plan.remarks.append(
            "no unit for karton-system: the Karton that is joined has one ([drakmon] system_disable = 1)"
        )


def _with_drakrun(wish: Wish, ours: Settings, values: Sections, plan: Plan) -> Settings:
    """Set where ``drakrun`` is, unless the vm worker finds what is set; or say that it is to be filled in."""
    if wish.drakrun is not None:
        named = str(wish.drakrun)
    elif sandbox.is_there(wish.root, ours.drakvuf.drakrun):
        return ours
    else:
        found = sandbox.find(wish.root)
        plan.remarks.append(sandbox.remark(found, sandbox.of_others(wish.root)))
        if not found:
            plan.todo.append(DRAKRUN)
            return ours
        named = str(found[0])
    values.setdefault("drakvuf", {})["drakrun"] = named
    return Settings.model_validate(values)


def _machine(wish: Wish, ours: Settings, *, engine: str) -> Machine:
    state_dir, writes = PurePosixPath(ours.drakcelery.state_dir), sandbox.written(wish.root, ours)
    named = [
        ("[drakcelery] state_dir", state_dir),
        *(("a directory of DRAKVUF Sandbox", one) for one in writes),
    ]
    for name, path in named:
        if not PLAIN_PATH.fullmatch(str(path)):
            raise SettingsError(f"{name} = {path}: for a unit, expected letters, digits and ._/+@- only")
    return Machine(
        program=wish.program,
        config=CONFIG,
        state_dir=state_dir,
        user=wish.user,
        engine=engine,
        stop_seconds=ours.drakcelery.stop_seconds,
        longest_run=ours.drakcelery.hard_time_limit + ours.drakvuf.grace,
        writes=tuple(writes),
        reads=tuple(sandbox.read(wish.root, ours)),
        behind=tuple(sandbox.behind(wish.root, [wish.program])),
    )


def _system_files(wish: Wish, machine: Machine, roles: Iterable[str]) -> list[Target]:
    texts = {
        SYSUSERS: accounts.sysusers(machine),
        TMPFILES: accounts.tmpfiles(machine),
        **{UNITS / unit_name(role): units.unit(ROLES[role], machine) for role in roles},
    }
    targets = [_target(wish, path, text, mode=0o644) for path, text in texts.items()]
    in_the_way = [str(_below(wish.root, one.path)) for one in targets if one.status is Status.REPLACED]
    if in_the_way and not wish.force:
        raise SettingsError(
            f"{', '.join(in_the_way)}: there already, and different. Nothing was written. --force replaces "
            "such files and keeps the old ones as *.old; your own changes belong into drop-ins "
            "(systemctl edit)"
        )
    return targets


def _target(wish: Wish, path: PurePosixPath, text: str, *, mode: int) -> Target:
    place = _below(wish.root, path)
    status = Status.NEW
    if _exists(wish.root, path):
        same = place.read_text(encoding="utf-8", errors="replace") == text
        status = Status.UNCHANGED if same else Status.REPLACED
    return Target(path=path, text=text, mode=mode, status=status)


def _retired(services: Iterable[str], roles: Sequence[str]) -> list[str]:
    """Old services that would do the same work a second time. MinIO and the web page do none of it."""
    stems = {"drakrun", "drakrun-worker", "drak-postprocess", *(["drak-system"] if "system" in roles else [])}
    return [name for name in services if name.removesuffix(".service").partition("@")[0] in stems]


def _remark(ours: Settings, machine: Machine, plan: Plan) -> None:
    if "vm" in plan.roles and not ours.slots:
        plan.remarks.append(f"[slots] in {CONFIG} is empty: the vm worker would have no VMs")
    if not {"vm", "io"} & set(plan.roles):
        plan.remarks.append("no workers: no VMs were found here; --only vm --only io writes their units")
    elif len({"vm", "io"} & set(plan.roles)) == 1:
        plan.remarks.append("a host with VMs needs both workers, vm and io, on one state_dir")
    plan.remarks += sandbox.hidden([ROLES[name] for name in plan.roles], machine)
