"""Plans what to write on a machine, and what its operator still has to do. Reads; writes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from drakcelery import settings
from drakcelery.deploy import configuration, importing, sandbox
from drakcelery.deploy.importing import Finding, Imported, Sections
from drakcelery.deploy.oldkeys import Handling
from drakcelery.deploy.targets import Status, Target, system_files, target
from drakcelery.deploy.units import ROLES, Machine, unit_name
from drakcelery.deploy.wish import CONFIG, PLAIN_PATH, UNITS, Wish, below, check, exists
from drakcelery.errors import SettingsError
from drakcelery.settings import Settings, karton_places
from drakcelery.settings.all_sections import XEN_CONTROL

OLD_FILES = (
    PurePosixPath("/etc/drakrun/config.ini"),
    PurePosixPath("/etc/drakcore/config.ini"),
    PurePosixPath("/etc/drakrun/config.toml"),
)
"""Where settings are looked for, unless their files are given; after them come Karton's own."""
KARTON_FILE = PurePosixPath("/etc/karton/karton.ini")
MINIO_ENVIRONMENT = PurePosixPath("/etc/drakcore/minio.env")
INSTALL_INFO = PurePosixPath("/etc/drakrun/install.json")
"""DRAKVUF Sandbox of any release writes it once its VM is installed."""

DRAKRUN = "[drakvuf] drakrun"
"""The setting to fill in if DRAKVUF Sandbox's command was not found."""


@dataclass(kw_only=True)
class Plan:
    """What will be written, and what to tell the operator."""

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
    check(wish)
    plan = Plan()
    services = importing.enabled(wish.root)
    kept = below(wish.root, CONFIG) if _says_something(wish) and not wish.force else None
    if kept is not None:
        ours, config = _as_it_is(wish, kept, services, plan)
    else:
        ours, config = _made_anew(wish, services, plan)
    _honour_system_disable(wish, ours, plan)
    machine = _machine(wish, ours, engine=_engine(wish.root, ours, services))
    plan.targets = [config, *system_files(wish, machine, plan.roles)]
    plan.retire = _retired(services, replaced=ours.drakmon.system_disable or "system" in plan.roles)
    _remark(ours, machine, plan)
    plan.remarks += _variables(wish)
    return plan


def _as_it_is(wish: Wish, kept: Path, services: Sequence[str], plan: Plan) -> tuple[Settings, Target]:
    """The settings of a configuration file that stays."""
    ours, text = settings.load(kept, environment={}), kept.read_text(encoding="utf-8")
    plan.remarks.append(f"{CONFIG} is kept as it is, and no old settings are looked for")
    there = exists(wish.root, UNITS / unit_name("system"))
    plan.roles = _roles(wish, ours, hosts_vms=bool(ours.slots), runs_system=there)
    named = ours.drakvuf.drakrun
    if wish.drakrun is not None and str(wish.drakrun) != named:
        plan.remarks.append(f"--drakrun is not taken: set {DRAKRUN} in {CONFIG}, or write it again: --force")
    if _drives_drakvuf(wish, ours, services, plan) and not sandbox.is_there(wish.root, named):
        said = sandbox.remark(sandbox.find(wish.root), sandbox.of_others(wish.root))
        plan.remarks.append(f"{DRAKRUN} = {named} is not there; {said}")
    return ours, Target(path=CONFIG, text=text, mode=0o640, status=Status.KEPT)


def _made_anew(wish: Wish, services: Sequence[str], plan: Plan) -> tuple[Settings, Target]:
    """The settings of a new configuration file, from those that are taken over."""
    imported = importing.read(_sources(wish), minio_environment=below(wish.root, MINIO_ENVIRONMENT))
    hosts_vms = _complete(wish, imported, services, plan)
    ours = Settings.model_validate(imported.values)
    plan.roles = _roles(wish, ours, hosts_vms=hosts_vms, runs_system=not ours.drakmon.system_disable)
    plan.findings = imported.findings
    plan.todo = configuration.missing(imported.values)
    if _drives_drakvuf(wish, ours, services, plan):
        ours = _with_drakrun(wish, ours, imported.values, plan)
    text = configuration.render(imported.values, text=configuration.example())
    return ours, target(wish, CONFIG, text, mode=0o640)


def _says_something(wish: Wish) -> bool:
    """Whether there is a configuration file, and not as a package brings it."""
    if not exists(wish.root, CONFIG):
        return False
    text = below(wish.root, CONFIG).read_text(encoding="utf-8", errors="replace")
    return text != configuration.blank()


def _sources(wish: Wish) -> Sequence[Path]:
    """The files to take over. Our own is one of them if it is written again, so that no setting gets lost."""
    if wish.sources:
        return wish.sources
    if _says_something(wish):
        return [below(wish.root, CONFIG)]
    found = [below(wish.root, path) for path in OLD_FILES if exists(wish.root, path)]
    own = karton_places.karton_files() if wish.root == Path("/") else []
    everywhere = [below(wish.root, KARTON_FILE)] if exists(wish.root, KARTON_FILE) else []
    return [*found, *own, *everywhere]


def _complete(wish: Wish, imported: Imported, services: Iterable[str], plan: Plan) -> bool:
    """Add what no file says: the slots, and who runs karton-system. Returns whether the host has VMs."""
    values: Sections = imported.values
    vms = dict(importing.instances(services))
    directory = below(wish.root, UNITS)
    profile = values.get("drakcelery", {}).get("default_profile", "default")
    if "slots" not in values:
        values["slots"] = {f"vm-{number}": profile for number in sorted(vms.values())}
        imported.findings += [
            Finding(
                source=directory,
                section=service,
                key="*",
                handling=Handling.TAKEN,
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
    return (root == Path("/") and XEN_CONTROL.exists()) or exists(root, INSTALL_INFO)


def _engine(root: Path, ours: Settings, services: Iterable[str]) -> str:
    """The engine that this machine will use: as set, or else the one that suits the machine."""
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
            raise SettingsError(f"{why}; set it to 0 in {below(wish.root, CONFIG)} if this is to be the one")
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


def _retired(services: Iterable[str], *, replaced: bool) -> list[str]:
    """Old services that would do the same work again. MinIO and the web page do not.

    drak-system is one if it is *replaced*: ours does it, or ``system_disable`` forbids it.
    """
    stems = {"drakrun", "drakrun-worker", "drak-postprocess", *(["drak-system"] if replaced else [])}
    return [name for name in services if name.removesuffix(".service").partition("@")[0] in stems]


def _variables(wish: Wish) -> list[str]:
    """What of the environment Karton reads and drakcelery does not."""
    found = karton_places.karton_variables() if wish.root == Path("/") else []
    if not found:
        return []
    said = f"{', '.join(found)}: Karton's programs read this from the environment, drakcelery does not"
    return [f"{said}; write it into {CONFIG}, or set DRAKCELERY_… instead of KARTON_…"]


def _remark(ours: Settings, machine: Machine, plan: Plan) -> None:
    if "vm" in plan.roles and not ours.slots:
        plan.remarks.append(f"[slots] in {CONFIG} is empty: the vm worker would have no VMs")
    if not {"vm", "io"} & set(plan.roles):
        plan.remarks.append("no workers: no VMs were found here; --only vm --only io writes their units")
    elif len({"vm", "io"} & set(plan.roles)) == 1:
        plan.remarks.append("a host with VMs needs both workers, vm and io, on one state_dir")
    plan.remarks += sandbox.hidden([ROLES[name] for name in plan.roles], machine)
