"""Settings: the only reader of configuration files and of the environment.

The file is INI, as Karton's own. ``[redis]`` and ``[s3]`` are Karton's sections and mean what they mean
there (``karton.core.config.Config``); ``[drakrun]`` and ``[drakvuf_plugins]`` keep the meaning they had in
DRAKVUF Sandbox v0.18. Nothing is read when this module is imported.
"""

from __future__ import annotations

import configparser
import difflib
import json
import os
import re
import socket
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from drakcelery.analysis import Name
from drakcelery.errors import SettingsError
from drakcelery.plugins import DEFAULT_PLUGINS, KNOWN_PLUGINS

ENVIRONMENT_PREFIX = "DRAKCELERY_"
CONFIG_VARIABLE = "DRAKCELERY_CONFIG"
DATA_DIR_VARIABLE = "DRAKCELERY_DATA_DIR"
SEARCH_PATHS = (
    Path("drakcelery.ini"),
    Path("/etc/drakcelery/config.ini"),
    Path("/etc/drakrun/config.ini"),
)
MINIO_ENVIRONMENT = Path("/etc/drakcore/minio.env")
"""Where v0.18 kept the credentials when ``[minio] access_key`` was blank."""


def _json(value: object) -> object:
    """Decode a JSON string, as the ``filters`` and ``headers`` of v0.18 are written."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"JSON ({error.msg} at column {error.colno})") from None


def _blank_is_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _comma_list(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Headers = Annotated[dict[str, Any], BeforeValidator(_json)]
Filters = Annotated[tuple[dict[str, Any], ...], BeforeValidator(_json)]
OptionalText = Annotated[str | None, BeforeValidator(_blank_is_none)]
Secret = Annotated[SecretStr | None, BeforeValidator(_blank_is_none)]


class Section(BaseModel):
    """One section of the file. Unknown keys are errors: a setting is honoured or refused (I8)."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class RedisSection(Section):
    """``[redis]``, as Karton's own."""

    host: str = "localhost"
    port: int = Field(default=6379, ge=1, le=65535)
    db: int = Field(default=0, ge=0)
    username: OptionalText = None
    password: Secret = None
    ssl: bool = False
    url: Secret = Field(default=None, description="replaces host, port, db and ssl")
    socket_timeout: int = Field(default=30, ge=0, description="seconds; 0: none")

    def address(self, *, db_offset: int = 0) -> str:
        """The Redis URL, credentials included: never to be logged."""
        if self.url is not None:
            parts = urllib.parse.urlsplit(self.url.get_secret_value())
            db = int(parts.path.strip("/") or 0) + db_offset
            return urllib.parse.urlunsplit(parts._replace(path=f"/{db}"))
        quote = urllib.parse.quote
        password = self.password.get_secret_value() if self.password else ""
        credentials = f"{quote(self.username or '', safe='')}:{quote(password, safe='')}@"
        scheme = "rediss" if self.ssl else "redis"
        auth = credentials if self.username or password else ""
        return f"{scheme}://{auth}{self.host}:{self.port}/{self.db + db_offset}"


class S3Section(Section):
    """``[s3]``, as Karton's own; ``bucket`` is Karton's bucket, not the one of the analyses."""

    address: str = Field(default="http://localhost:9000", pattern=r"^https?://[^/\s]+/?$")
    access_key: OptionalText = None
    secret_key: Secret = None
    bucket: str = "karton"
    iam_auth: bool = False


class CelerySection(Section):
    """``[celery]``: the transport between the stages."""

    broker_url: Secret = Field(
        default=None, description="default: Karton's Redis, the database after Karton's"
    )


class DrakmonSection(Section):
    """``[drakmon]``, from v0.18."""

    system_disable: bool = Field(
        default=False, description="1: a karton-system runs elsewhere, start none"
    )


class DrakrunSection(Section):
    """``[drakrun]``, with the meaning of v0.18."""

    identity: str = Field(default="karton.drakrun-prod", pattern=r"^[^\s?]+$")
    filters: Filters = (
        {"type": "sample", "stage": "recognized", "platform": "win32"},
        {"type": "sample", "stage": "recognized", "platform": "win64"},
    )
    headers: Headers = {"type": "analysis", "kind": "drakrun"}
    analysis_timeout: int = Field(default=600, ge=1, description="seconds")
    use_root_uid: bool = False
    sample_testing: bool = False
    test_filters: Filters = (
        {"type": "sample-test", "platform": "win32"},
        {"type": "sample-test", "platform": "win64"},
    )
    test_headers: Headers = {"type": "analysis-test", "kind": "drakrun"}
    net_enable: bool = False
    out_interface: OptionalText = None
    dns_server: str = "8.8.8.8"
    syscall_filter: OptionalText = None
    raw_memory_dump: bool = False
    anti_hammering_threshold: int = Field(default=0, ge=0)
    attach_profiles: bool = False
    attach_apiscout_profile: bool = False
    xen_cmdline_check: Literal["fail", "ignore"] = "fail"

    @field_validator("headers", "test_headers", mode="before")
    @classmethod
    def _one_dict(cls, value: object) -> object:
        """v0.18's example file shows a list that holds one dict; both forms are understood."""
        value = _json(value)
        return value[0] if isinstance(value, list) and len(value) == 1 else value

    @field_validator("filters", "test_filters")
    @classmethod
    def _some(cls, value: Sequence[object]) -> Sequence[object]:
        if not value:
            raise ValueError("at least one filter")
        return value


class DrakcelerySection(Section):
    """``[drakcelery]``: what is ours."""

    host: Name = Field(default_factory=lambda: socket.gethostname().split(".")[0] or "localhost")
    state_dir: Path = Path("/var/lib/drakcelery")
    bucket: str = Field(default="drakrun", description="where artifacts go")
    engine: Literal["auto", "emulator", "replay"] = "auto"
    default_profile: Name = "default"
    look_ahead: int = Field(default=2, ge=0, description="analyses in flight beyond the slots")
    max_attempts: int = Field(default=3, ge=1)
    hard_time_limit: int = Field(default=1200, ge=1, description="largest timeout of a task, seconds")
    max_sample_size: int = Field(default=256 * 1024**2, ge=1, description="bytes")
    dumps_total_size: int = Field(default=500 * 1024**2, ge=1, description="bytes, before packing")
    dumps_single_size: int = Field(default=32 * 1024**2, ge=1, description="bytes")
    upload_threads: int = Field(default=4, ge=1, le=32)
    record_ttl: int = Field(default=7 * 24 * 3600, ge=60, description="seconds a finished record stays")
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class EmulatorSection(Section):
    """``[emulator]``: limits of the emulator engine's subprocess."""

    memory_limit: int = Field(default=2 * 1024**3, ge=256 * 1024**2, description="bytes")
    file_limit: int = Field(default=512 * 1024**2, ge=1024**2, description="bytes a written file may have")
    max_instructions: int = Field(default=-1, description="-1: only the timeout ends a run")


class ReplaySection(Section):
    """``[replay]``: the engine that plays a recorded run."""

    run_dir: Path | None = None
    restore_seconds: float = Field(default=0.0, ge=0)
    run_seconds: float = Field(default=0.0, ge=0)
    log_factor: int = Field(default=1, ge=0, description="how often the recorded log is repeated")
    dumps_factor: int = Field(default=1, ge=0, description="how many copies of each dump")


class FlowerSection(Section):
    """``[flower]``: where ``drakcelery up`` serves Flower."""

    address: str = "127.0.0.1"
    port: int = Field(default=5555, ge=1, le=65535)


class Settings(Section):
    """All settings. Build with :func:`load`; tests may call the constructor."""

    redis: RedisSection = RedisSection()
    s3: S3Section = S3Section()
    celery: CelerySection = CelerySection()
    drakmon: DrakmonSection = DrakmonSection()
    drakrun: DrakrunSection = DrakrunSection()
    drakvuf_plugins: dict[str, Annotated[tuple[str, ...], BeforeValidator(_comma_list)]] = {}
    drakcelery: DrakcelerySection = Field(default_factory=DrakcelerySection)
    slots: dict[Name, Name] = Field(default={"vm-1": "default"}, description="slot name = profile")
    emulator: EmulatorSection = EmulatorSection()
    replay: ReplaySection = ReplaySection()
    flower: FlowerSection = FlowerSection()
    source: Path | None = Field(default=None, description="the file these settings came from")

    @field_validator("drakvuf_plugins")
    @classmethod
    def _known(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for names in value.values():
            unknown = sorted(set(names) - KNOWN_PLUGINS)
            if unknown:
                raise ValueError(f"DRAKVUF plugin names; {', '.join(unknown)} is none")
        return value

    @model_validator(mode="after")
    def _timeouts_agree(self) -> Self:
        if self.drakrun.analysis_timeout > self.drakcelery.hard_time_limit:
            raise ValueError(
                "[drakrun] analysis_timeout at most [drakcelery] hard_time_limit "
                f"({self.drakcelery.hard_time_limit} s)"
            )
        return self

    @property
    def engine(self) -> str:
        """The engine's name, ``auto`` resolved. Raises :class:`SettingsError` on a Xen host."""
        if self.drakcelery.engine != "auto":
            return self.drakcelery.engine
        if Path("/proc/xen/privcmd").exists():
            raise SettingsError(
                "[drakcelery] engine=auto: this is a Xen host, and this version has no engine for Xen yet. "
                "Set engine=emulator to run the emulator here all the same."
            )
        return "emulator"

    @property
    def broker_url(self) -> str:
        """Celery's broker, credentials included: never to be logged."""
        given = self.celery.broker_url
        return given.get_secret_value() if given else self.redis.address(db_offset=1)

    def plugins_of(self, quality: str) -> tuple[str, ...]:
        """The plugins of a quality: its own list, else ``_all_``, else the default."""
        lists = self.drakvuf_plugins
        return lists.get(quality, lists.get("_all_", DEFAULT_PLUGINS))

    def notices(self) -> list[str]:
        """A sentence for every setting that is set and has no effect with this engine."""
        advice = {
            "net_enable": "an emulated guest has no network; its traffic is simulated and recorded",
            "out_interface": "an emulated guest has no network",
            "syscall_filter": "the emulator sees API calls, not system calls",
            "raw_memory_dump": "take the blocks in dumps.zip instead",
            "anti_hammering_threshold": "bound the run with [emulator] max_instructions instead",
            "attach_profiles": "the emulator has no DLL profiles",
            "attach_apiscout_profile": "the emulator has no ApiScout profile",
        }
        defaults = DrakrunSection()
        return [
            f"[drakrun] {key} has no effect with the engine {self.engine}: {why}"
            for key, why in advice.items()
            if getattr(self.drakrun, key) != getattr(defaults, key)
        ]


def default_data_dir(environment: Mapping[str, str]) -> Path:
    """Where the embedded stack of this user lives (XDG Base Directory: ``XDG_STATE_HOME``)."""
    if given := environment.get(DATA_DIR_VARIABLE):
        return Path(given)
    base = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "drakcelery"


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
        SettingsError: a file was named and is not there.
    """
    environment = os.environ if environment is None else environment
    if config is not None:
        return _must_exist(config, "--config")
    if data_dir is not None:
        return _must_exist(data_dir / "drakcelery.ini", "--data-dir: no embedded stack here;")
    if named := environment.get(CONFIG_VARIABLE):
        return _must_exist(Path(named), CONFIG_VARIABLE)
    candidates = (*SEARCH_PATHS, default_data_dir(environment) / "drakcelery.ini")
    return next((path for path in candidates if path.is_file()), None)


def _must_exist(path: Path, source: str) -> Path:
    if not path.is_file():
        raise SettingsError(f"{source} {path}: no such file")
    return path


def load(path: Path | None = None, *, environment: Mapping[str, str] | None = None) -> Settings:
    """Read settings from *path* (as :func:`find` gives it) and the environment, which wins.

    Raises:
        SettingsError: names file, section, key, value and what was expected.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, dict[str, str]] = {}
    origin: dict[tuple[str, str], str] = {}
    if path is not None:
        for section, pairs in _read_ini(path).items():
            values[section] = dict(pairs)
            origin.update({(section, key): str(path) for key in pairs})
    _understand_minio(values, origin)
    for (section, key), (variable, value) in _read_environment(environment).items():
        values.setdefault(section, {})[key] = value
        origin[section, key] = variable
    try:
        return Settings.model_validate({**values, "source": path})
    except ValidationError as error:
        raise SettingsError(_explain(error, origin, path)) from None


FOREIGN_SECTIONS = frozenset(
    {"karton", "system", "logging", "signaling", "dashboard", "mwdb", "draktestd", "drakpdb"}
)
"""Sections of Karton's and of DRAKVUF Sandbox's own programs that may share the file with ours."""


def _read_ini(path: Path) -> dict[str, dict[str, str]]:
    """All our sections of *path*. Interpolation is on, as in Karton: a ``%`` is written ``%%``."""
    parser = configparser.ConfigParser()
    try:
        with path.open(encoding="utf-8") as file:
            parser.read_file(file)
        return {
            name: dict(parser[name]) for name in parser.sections() if name not in FOREIGN_SECTIONS
        }
    except (configparser.Error, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{path}: {' '.join(str(error).split())}") from None


def _understand_minio(values: dict[str, dict[str, str]], origin: dict[tuple[str, str], str]) -> None:
    """Turn v0.18's ``[minio]`` into ``[s3]``, as Karton does, unless there is an ``[s3]``."""
    old = values.pop("minio", None)
    if old is None or "s3" in values:
        return
    secure = old.pop("secure", "1").strip().lower() not in ("0", "no", "false", "off")
    address = old.get("address", "localhost:9000")
    if "://" not in address:
        old["address"] = f"{'https' if secure else 'http'}://{address}"
    if not old.get("access_key", "").strip() and MINIO_ENVIRONMENT.is_file():
        pairs = (line.partition("=") for line in MINIO_ENVIRONMENT.read_text().splitlines())
        found = {key.strip().lower(): value.strip() for key, _, value in pairs}
        old["access_key"] = found.get("minio_access_key", "")
        old["secret_key"] = found.get("minio_secret_key", "")
    values["s3"] = old
    for key in old:
        origin["s3", key] = origin.get(("minio", key), str(MINIO_ENVIRONMENT))


def _read_environment(environment: Mapping[str, str]) -> dict[tuple[str, str], tuple[str, str]]:
    """``DRAKCELERY_<SECTION>_<KEY>``, keyed by section and key. Raises for a variable of no section."""
    sections = sorted(set(Settings.model_fields) - {"source"}, key=len, reverse=True)
    found = {}
    for variable, value in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        if variable in (CONFIG_VARIABLE, DATA_DIR_VARIABLE):
            continue
        rest = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        section = next((name for name in sections if rest.startswith(f"{name}_")), None)
        if section is None:
            raise SettingsError(
                f"{variable}: names no section; expected {ENVIRONMENT_PREFIX}<SECTION>_<KEY> "
                f"with a section of {', '.join(sorted(sections))}"
            )
        found[section, rest.removeprefix(f"{section}_")] = (variable, value)
    return found


def _explain(
    error: ValidationError, origin: Mapping[tuple[str, str], str], path: Path | None
) -> str:
    """One sentence for each wrong value."""
    return "\n".join(_sentence(one, origin, path) for one in map(dict, error.errors()))


def _sentence(
    detail: dict[str, Any], origin: Mapping[tuple[str, str], str], path: Path | None
) -> str:
    where = [str(part) for part in detail["loc"]]
    section = where[0] if where else ""
    key = where[1] if len(where) > 1 else ""
    source = origin.get((section, key), str(path) if path else "settings")
    expected = re.sub(r"^(Value error, |Input should be (a |an )?)", "", detail["msg"])
    if detail["type"] == "extra_forbidden":
        known = _known_names(section if key else None)
        close = difflib.get_close_matches(key or section, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known)}"
        what = f"[{section}] {key}: no such setting" if key else f"[{section}]: no such section"
        return f"{source}: {what}{hint}"
    if not key:
        return f"{source}: {f'[{section}]: ' if section else ''}expected {expected}"
    value = "***" if _is_secret(section, key) else repr(detail.get("input"))
    return f"{source}: [{section}] {key} = {value}: expected {expected}"


def _known_names(section: str | None) -> list[str]:
    if section is None:
        return sorted(set(Settings.model_fields) - {"source"})
    model = Settings.model_fields[section].annotation
    return sorted(model.model_fields) if isinstance(model, type) and issubclass(model, Section) else []


def _is_secret(section: str, key: str) -> bool:
    return key in ("password", "secret_key", "url", "broker_url", "access_key") or section == "source"
