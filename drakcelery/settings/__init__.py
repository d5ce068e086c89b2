"""Settings: the only reader of configuration files and of the environment.

The file is INI, as Karton's own; each value may come from ``DRAKCELERY_<SECTION>_<KEY>`` instead, which
wins. What the sections hold is in :mod:`drakcelery.settings.sections`. Nothing is read when this module
is imported.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from drakcelery.errors import SettingsError
from drakcelery.settings.all_sections import Settings
from drakcelery.settings.messages import OUR_SECTIONS, explain, ini_trouble, similar_section
from drakcelery.settings.section import Section
from drakcelery.settings.sections import (
    CanarySection,
    CelerySection,
    DrakcelerySection,
    DrakmonSection,
    DrakrunSection,
    DrakvufSection,
    EmulatorSection,
    FlowerSection,
    NotificationsSection,
    ReplaySection,
    ReportSection,
    ReuseSection,
    TracingSection,
    WatchSection,
)
from drakcelery.settings.servers import RedisSection, S3Section

__all__ = [
    "CanarySection",
    "CelerySection",
    "DrakcelerySection",
    "DrakmonSection",
    "DrakrunSection",
    "DrakvufSection",
    "EmulatorSection",
    "FlowerSection",
    "NotificationsSection",
    "RedisSection",
    "ReplaySection",
    "ReportSection",
    "ReuseSection",
    "S3Section",
    "Section",
    "Settings",
    "TracingSection",
    "WatchSection",
    "default_data_dir",
    "environment_for",
    "find",
    "load",
]

ENVIRONMENT_PREFIX = "DRAKCELERY_"
CONFIG_VARIABLE = "DRAKCELERY_CONFIG"
DATA_DIR_VARIABLE = "DRAKCELERY_DATA_DIR"
FAULTS_VARIABLE = "DRAKCELERY_FAULTS"
"""The fault suite's plan; see :mod:`drakcelery.failpoints`."""
SEARCH_PATHS = (
    Path("drakcelery.ini"),
    Path("/etc/drakcelery/config.ini"),
    Path("/etc/drakrun/config.ini"),
)
OLD_S3_SECTION = "minio"
MINIO_ENVIRONMENT = Path("/etc/drakcore/minio.env")
"""Where v0.18 kept the credentials when ``[minio] access_key`` and ``secret_key`` were blank."""

FOREIGN_SECTIONS = frozenset(
    {"karton", "system", "logging", "signaling", "dashboard", "mwdb", "draktestd", "drakpdb"}
)
"""Sections of Karton's and of DRAKVUF Sandbox's own programs that may share the file with ours."""

RETIRED = {
    ("drakmon", "database"): "the records of analyses are in Karton's Redis",
    ("drakmon", "listen_host"): "drakmon's web page is gone; for Flower's set [flower] address",
    ("drakmon", "listen_port"): "drakmon's web page is gone; for Flower's set [flower] port",
}
"""Keys that v0.18 read and that have no counterpart, each with what to use instead."""


@dataclass(kw_only=True)
class _Draft:
    """The settings as text, before they become :class:`Settings`."""

    values: dict[str, dict[str, str]] = field(default_factory=dict)
    origin: dict[tuple[str, str], str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    from_minio: bool = False

    def put(self, section: str, key: str, value: str, origin: str) -> None:
        """Set a value; a later one replaces an earlier one."""
        self.values.setdefault(section, {})[key] = value
        self.origin[section, key] = origin


def default_data_dir(environment: Mapping[str, str]) -> Path:
    """Where the embedded stack of this user lives (XDG Base Directory: ``XDG_STATE_HOME``).

    Raises :class:`SettingsError` for a user without a home, as some containers have.
    """
    if given := environment.get(DATA_DIR_VARIABLE):
        return Path(given)
    if base := environment.get("XDG_STATE_HOME"):
        return Path(base) / "drakcelery"
    try:
        return Path.home() / ".local" / "state" / "drakcelery"
    except RuntimeError:
        raise SettingsError(
            f"this user has no home directory: --data-dir or {DATA_DIR_VARIABLE} names the stack's directory"
        ) from None


def user_data_dir() -> Path:
    """As :func:`default_data_dir`, for this process."""
    return default_data_dir(os.environ)


def find(
    config: Path | None = None,
    *,
    data_dir: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Path | None:
    """The configuration file to read: the first that is named or exists.

    Order: *config*, *data_dir*'s stack, ``DRAKCELERY_CONFIG``, ``drakcelery.ini`` here,
    ``/etc/drakcelery/config.ini``, ``/etc/drakrun/config.ini``, this user's embedded stack.

    Raises:
        SettingsError: a file was named but does not exist, or it cannot be found out whether one exists.
    """
    environment = os.environ if environment is None else environment
    if config is not None:
        return _must_exist(config, "--config")
    if data_dir is not None:
        return _must_exist(data_dir / "drakcelery.ini", "--data-dir: no embedded stack here;", start=data_dir)
    if named := environment.get(CONFIG_VARIABLE):
        return _must_exist(Path(named), CONFIG_VARIABLE)
    candidates = list(SEARCH_PATHS)
    with contextlib.suppress(SettingsError):  # no home, no stack
        candidates.append(default_data_dir(environment) / "drakcelery.ini")
    return next((path for path in candidates if _exists(path)), None)


def _exists(path: Path) -> bool:
    """Whether *path* exists. Raises if this user may not see that, since that file is probably the right
    one."""
    try:
        return path.is_file()
    except OSError as error:
        raise SettingsError(f"{path}: {ini_trouble(error)}") from None


def _must_exist(path: Path, source: str, *, start: Path | None = None) -> Path:
    """*start*: where a stack could be started that writes the file."""
    if not _exists(path):
        remedy = f". `drakcelery up --data-dir {shlex.quote(str(start))}` starts one" if start else ""
        raise SettingsError(f"{source} {path}: no such file{remedy}")
    return path


def load(path: Path | None = None, *, environment: Mapping[str, str] | None = None) -> Settings:
    """Read settings from *path* (as :func:`find` gives it) and the environment, which wins.

    Raises:
        SettingsError: names file, section, key, value and what was expected.
    """
    draft = _Draft()
    if path is not None:
        _read_file(path, draft)
    _read_environment(os.environ if environment is None else environment, draft)
    if draft.from_minio:
        _read_minio_environment(draft)
    try:
        return Settings.model_validate({**draft.values, "source": path, "remarks": tuple(draft.remarks)})
    except ValidationError as error:
        raise SettingsError(explain(error, draft.origin, path)) from None


def _read_file(path: Path, draft: _Draft) -> None:
    sections = _parse(path)
    for section, pairs in sections.items():
        if section in OUR_SECTIONS:
            draft.values[section] = {}
            for key, value in pairs.items():
                if advice := RETIRED.get((section, key)):
                    draft.remarks.append(f"{path}: [{section}] {key} has no effect: {advice}")
                else:
                    draft.put(section, key, value, str(path))
        elif section == OLD_S3_SECTION:
            _read_minio(path, pairs, draft, replaced="s3" in sections)
        elif section not in FOREIGN_SECTIONS:
            _judge_stranger(path, section, draft)


def _parse(path: Path) -> dict[str, dict[str, str]]:
    """All sections of *path*. Interpolation is on, as in Karton: a ``%`` is written ``%%``."""
    parser = configparser.ConfigParser()
    try:
        with path.open(encoding="utf-8") as file:
            parser.read_file(file)
        if parser.defaults():
            raise SettingsError(f"{path}: [DEFAULT]: expected each key in the section it belongs to")
        ours = (*OUR_SECTIONS, OLD_S3_SECTION)
        return {name: dict(parser[name]) if name in ours else {} for name in parser.sections()}
    except (configparser.Error, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{path}: {ini_trouble(error)}") from None


def _judge_stranger(path: Path, section: str, draft: _Draft) -> None:
    """Refuse an unknown section that looks like a misspelt one of ours; any other may belong to a Karton
    service."""
    if similar := similar_section(section):
        raise SettingsError(f"{path}: [{section}]: no such section; did you mean [{similar}]?")
    draft.remarks.append(f"{path}: [{section}] is none of drakcelery's sections and is left alone")


def _read_minio(path: Path, pairs: dict[str, str], draft: _Draft, *, replaced: bool) -> None:
    """Turn v0.18's ``[minio]`` into ``[s3]``, as Karton does, unless there is an ``[s3]``."""
    if replaced:
        draft.remarks.append(f"{path}: [minio] has no effect: [s3] is there, and replaces it")
        return
    draft.remarks.append(f"{path}: [minio] is read as [s3]; write [s3], with http:// or https:// in address")
    secure = pairs.pop("secure", "").strip().lower() or "1"
    if secure not in configparser.ConfigParser.BOOLEAN_STATES:
        raise SettingsError(
            f"{path}: [minio] secure = {secure!r}: expected true or false (1/0, yes/no, on/off)"
        )
    address = pairs.get("address", "").strip() or "localhost:9000"
    if "://" not in address:
        scheme = "https" if configparser.ConfigParser.BOOLEAN_STATES[secure] else "http"
        pairs["address"] = f"{scheme}://{address}"
    for key, value in pairs.items():
        draft.put("s3", key, value, f"{path} ([minio])")
    draft.from_minio = True


def _read_minio_environment(draft: _Draft) -> None:
    """Take the credentials of the MinIO that v0.18's drakcore installed, if none are given."""
    given = draft.values["s3"]
    if any(given.get(key, "").strip() for key in ("access_key", "secret_key")) or not _exists(
        MINIO_ENVIRONMENT
    ):
        return
    try:
        lines = MINIO_ENVIRONMENT.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise SettingsError(
            f"{MINIO_ENVIRONMENT}: {ini_trouble(error)}; it was asked for because [minio] access_key "
            "and secret_key are blank: fill them in, or let this user read the file"
        ) from None
    found = {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}
    for key in ("access_key", "secret_key"):
        draft.put("s3", key, found.get(f"MINIO_{key.upper()}", ""), str(MINIO_ENVIRONMENT))


def _read_environment(environment: Mapping[str, str], draft: _Draft) -> None:
    """Take every ``DRAKCELERY_<SECTION>_<KEY>``. Raises for a variable that names no section."""
    by_length = sorted(OUR_SECTIONS, key=len, reverse=True)
    for variable, value in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in (
            CONFIG_VARIABLE,
            DATA_DIR_VARIABLE,
            FAULTS_VARIABLE,
        ):
            continue
        rest = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        section = next((name for name in by_length if rest.startswith(f"{name}_")), None)
        if section is None:
            raise SettingsError(
                f"{variable}: names no section; expected {ENVIRONMENT_PREFIX}<SECTION>_<KEY> "
                f"with a section of {', '.join(OUR_SECTIONS)}"
            )
        draft.put(section, rest.removeprefix(f"{section}_"), value, variable)


def fault_plan() -> Path | None:
    """Where the fault suite's plan is, if this process runs under the suite."""
    named = os.environ.get(FAULTS_VARIABLE)
    return Path(named) if named else None


def environment_for(path: Path | None) -> dict[str, str]:
    """This process' environment, with the configuration file of a child process in it."""
    chosen = {CONFIG_VARIABLE: str(path.resolve())} if path is not None else {}
    return {**os.environ, **chosen}
