"""DRAKVUF Sandbox on the machine that init writes for: where ``drakrun`` is, and what the units must see."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from drakcelery.deploy import units
from drakcelery.deploy.units import Machine, Role
from drakcelery.engines.drakvuf import snapshot
from drakcelery.engines.drakvuf.residence import NoLibrary, interpreter
from drakcelery.engines.drakvuf.tools import STANDARD_PATH
from drakcelery.errors import EngineError, SettingsError
from drakcelery.settings import Settings

DRAKRUN = "drakrun"
TOOLS = ("drakrun", "drakvuf", "injector", "xl", "tcpdump", "vmi_dump_memory")
"""Settings of ``[drakvuf]`` that name a program."""

VENVS = (
    *("opt/*/bin", "opt/*/venv/bin", "opt/*/.venv/bin", "srv/*/bin", "srv/*/venv/bin", "usr/local/*/bin"),
    *("root/*/bin", "root/*/venv/bin", "root/*/.venv/bin", "root/.local/bin"),
    *("home/*/*/bin", "home/*/*/venv/bin", "home/*/*/.venv/bin", "home/*/.local/bin"),
)
"""Where virtual environments are; its guide has ``/opt/venv``."""

WORKER_UNITS = ("drakrun-worker@.service", "drakrun-worker.service", "drakrun@.service")
"""Units of its own that name the program; the guide has the first."""

_STARTED = re.compile(r"^ExecStart=\W*(/\S*/drakrun)\s", re.MULTILINE)


def is_there(root: Path, program: str) -> bool:
    """Whether the vm worker finds *program*, a path or a name."""
    places = ["/"] if program.startswith("/") else STANDARD_PATH.split(":")
    return any(_runs(root, PurePosixPath(place) / program) for place in places)


def find(root: Path) -> list[PurePosixPath]:
    """Every ``drakrun`` in a place where one may be, the likeliest first.

    On the machine itself the caller's search path is one, which an activated virtual environment begins. Root
    will run it, so one that others may change is left out, unless a unit names it.
    """
    named = [*(PurePosixPath(place) / DRAKRUN for place in STANDARD_PATH.split(":")), *_of_units(root)]
    seen = [one for one in _seen(root) if not _is_anothers(root, one)]
    return list(dict.fromkeys(one for one in [*named, *seen] if _runs(root, one)))


def of_others(root: Path) -> list[PurePosixPath]:
    """Those that are left out, since users other than root and the caller may change them."""
    return list(dict.fromkeys(one for one in _seen(root) if _runs(root, one) and _is_anothers(root, one)))


def _seen(root: Path) -> Iterator[PurePosixPath]:
    if root == Path("/") and (mine := shutil.which(DRAKRUN)):
        yield PurePosixPath(os.path.abspath(mine))  # noqa: PTH100 links are to stay
    for pattern in VENVS:
        for place in sorted(root.glob(f"{pattern}/{DRAKRUN}")):
            yield PurePosixPath("/") / place.relative_to(root)


def _is_anothers(root: Path, program: PurePosixPath) -> bool:
    """Whether another user may replace or change it."""
    place = root / program.relative_to("/")
    places = [place, *([Path(os.path.realpath(place))] if root == Path("/") else [])]
    within = {one for path in places for one in (path, *path.parents) if one.is_relative_to(root)}
    return any(_may_others_change(one) for one in within)


def _may_others_change(path: Path) -> bool:
    try:
        found = [path.lstat(), path.stat()]
    except OSError:  # another user's directory
        return True
    return any(
        one.st_uid not in (0, os.geteuid())
        or (not stat.S_ISLNK(one.st_mode) and not one.st_mode & stat.S_ISVTX and _is_open(one))
        for one in found
    )


def _is_open(found: os.stat_result) -> bool:
    of_group = found.st_mode & stat.S_IWGRP and found.st_gid not in (0, os.getegid())
    return bool(found.st_mode & stat.S_IWOTH or of_group)


def _of_units(root: Path) -> Iterator[PurePosixPath]:
    for name in WORKER_UNITS:
        try:
            text = (root / "etc/systemd/system" / name).read_text(encoding="utf-8", errors="replace")
        except OSError:  # there is no such unit, or it is none of ours to read
            continue
        yield from (PurePosixPath(program) for program in _STARTED.findall(text))


def _runs(root: Path, program: PurePosixPath) -> bool:
    place = root / program.relative_to("/")
    try:
        return place.is_file() and os.access(place, os.X_OK)
    except OSError:  # another user's directory
        return False


def remark(found: Sequence[PurePosixPath], others: Sequence[PurePosixPath] = ()) -> str:
    """A remark for people about the results of :func:`find` and :func:`of_others`."""
    if not found:
        unsafe = f" (not {', '.join(map(str, others))}: others than root may change it)" if others else ""
        return (
            f"no drakrun was found{unsafe}: [drakvuf] drakrun is the one in DRAKVUF Sandbox's virtual "
            "environment, such as /opt/venv/bin/drakrun; --drakrun PATH names it"
        )
    more = f" (there are others: {', '.join(map(str, found[1:]))})" if found[1:] else ""
    return f"drakrun of DRAKVUF Sandbox was found: {found[0]}{more}"


def hidden(roles: Sequence[Role], machine: Machine) -> Iterator[str]:
    """What a unit needs and would not see, or sees in a place that may be closed to its user."""
    paths = dict.fromkeys(path for role in roles for path in units.needed(role, machine))
    of_the_user = {
        path for role in roles if not units.is_roots(role, machine) for path in units.needed(role, machine)
    }
    for path in paths:
        if units.is_below(path, units.TEMPORARY):
            yield f"{path}: each unit has a /tmp of its own and does not see it; it must lie elsewhere"
        elif units.is_below(path, units.HOMES):
            reader = f"the user {machine.user}" if path in of_the_user else "root"
            yield f"{path} must be readable by {reader}; units that need it may look into home directories"


def written(root: Path, ours: Settings) -> list[PurePosixPath]:
    """The directories that its tools write to: its own, and those of the guests' disks.

    Raises:
        SettingsError: ``install.json`` cannot be read.
    """
    section = ours.drakvuf
    paths = [section.lib_dir]
    etc_dir = root / section.etc_dir.relative_to("/")
    if (etc_dir / "install.json").exists():
        try:
            paths.append(snapshot.directory(etc_dir, section.lib_dir))
        except EngineError as error:
            raise SettingsError(str(error)) from None
    paths.append(section.run_dir)
    return [PurePosixPath(path) for path in dict.fromkeys(paths)]


def read(root: Path, ours: Settings) -> list[PurePosixPath]:
    """What else the vm worker must see: tools that are named by a path, and what runs them."""
    named = [PurePosixPath(getattr(ours.drakvuf, key)) for key in TOOLS]
    programs = [program for program in named if program.is_absolute()]
    return [PurePosixPath(ours.drakvuf.etc_dir), *behind(root, programs)]


def behind(root: Path, programs: Iterable[PurePosixPath]) -> Iterator[PurePosixPath]:
    """*programs*, and what they really are: a virtual environment's Python often lies elsewhere."""
    for program in programs:
        yield program
        if root != Path("/"):  # the links of an image lead into this machine
            continue
        place = Path(program)
        yield PurePosixPath(os.path.realpath(place))
        with contextlib.suppress(NoLibrary):  # no script of Python's
            yield PurePosixPath(os.path.realpath(interpreter(place)[0]))
