"""Settings of DRAKVUF Sandbox and of Karton become ours, with a finding for each key. Writes nothing.

A value that our settings would refuse is left out and reported, so that the result always loads.
"""

from __future__ import annotations

import configparser
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from drakcelery.deploy.oldkeys import INI, TOML, Handling, fate
from drakcelery.errors import SettingsError
from drakcelery.model.plugins import KNOWN_PLUGINS
from drakcelery.settings import FOREIGN_SECTIONS, Settings
from drakcelery.settings.messages import OUR_SECTIONS, explain, ini_trouble, unknown_key

Sections = dict[str, dict[str, str]]
"""Values as the file has them, by section and key; a percent sign stands for itself."""

CONNECTIONS = ("redis", "s3")
"""Taken from one file as a whole: half of one server's credentials are of no use with another's."""
TURNED_ROUND = frozenset({"no_post_restore", "no_screenshotter"})
"""Old keys whose meaning is the opposite of ours."""
INTERNAL_KIND = "drakrun-internal"
"""The kind of v0.18 drakrun's tasks that only its own drak-postprocess consumed."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What became of one key of an old file."""

    source: Path
    section: str
    key: str
    """``*``: the section as a whole."""
    handling: Handling
    text: str
    """Continues the handling's sentence. Contains no secret."""


@dataclass(kw_only=True)
class Imported:
    """What was taken over from the old files."""

    values: Sections = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    origin: dict[tuple[str, str], Path] = field(default_factory=dict)
    """The file that each value came from."""

    def owner(self, section: str, key: str) -> Path | None:
        """The file that has already set a key, or any key of its section if that is a connection."""
        if section not in CONNECTIONS:
            return self.origin.get((section, key))
        return next((path for (name, _), path in self.origin.items() if name == section), None)


def read(paths: Iterable[Path], *, minio_environment: Path) -> Imported:
    """Take over the files *paths*; if two set the same key, the earlier one counts.

    *minio_environment* is where v0.18 kept MinIO's credentials when its file had none.

    Raises:
        SettingsError: a file cannot be read, or is neither INI nor TOML; never quotes it.
    """
    imported = Imported()
    for path in paths:
        importer = _File(path, imported)
        if path.suffix == ".toml":
            importer.toml(_parse_toml(path))
        else:
            importer.ini(_parse_ini(path), minio_environment)
    return imported


def _parse_ini(path: Path) -> Sections:
    """The sections that may concern us with their values, the others empty. Interpolated, as Karton does."""
    parser = configparser.ConfigParser()
    wanted = {*OUR_SECTIONS, *(section for section, _ in INI)}
    try:
        with path.open(encoding="utf-8") as file:
            parser.read_file(file)
        return {name: dict(parser[name]) if name in wanted else {} for name in parser.sections()}
    except (configparser.Error, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{path}: {ini_trouble(error)}") from None


def _parse_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not a TOML file ({error})") from None
    except (UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{path}: {ini_trouble(error)}") from None


@dataclass(frozen=True, kw_only=True)
class _Key:
    section: str
    key: str


class _File:
    """One old file that is being imported."""

    def __init__(self, path: Path, imported: Imported) -> None:
        self._path = path
        self._to = imported

    def ini(self, sections: Sections, minio_environment: Path) -> None:
        """A file of Karton's kind: v0.18's two, karton.ini, or our own."""
        # Our limits first: other values are checked against them
        for name in sorted(sections, key=lambda one: one != "drakcelery"):
            pairs = sections[name]
            if name == "minio" and "s3" in sections:
                for key in pairs:
                    self._say(name, key, Handling.DROPPED, "[s3] is there, and counts, as in Karton")
            elif name == "minio":
                self._minio(pairs, minio_environment)
            elif name in OUR_SECTIONS:
                for key, value in pairs.items():
                    self._pair(name, key, value)
                if not pairs and name == "slots":
                    self._to.values.setdefault(name, {})
            elif pairs:
                for key in pairs:
                    self._by_table(name, key)
            else:
                whose = "Karton's own" if name in FOREIGN_SECTIONS else "none of drakcelery's sections"
                self._say(name, "*", Handling.DROPPED, f"{whose}; it stays where it is")

    def toml(self, document: Mapping[str, Any]) -> None:
        """drakrun's file from v0.19 on."""
        for section, table in document.items():
            if not isinstance(table, dict):
                self._say(section, "*", Handling.DECISION, "drakcelery does not know it")
                continue
            for key, value in table.items():
                known = fate(TOML, section, key)
                if known is None:
                    self._say(section, key, Handling.DECISION, "drakcelery does not know it")
                elif known.target is None:
                    self._say(section, key, known.handling, known.why)
                elif (section, key, value) == ("network", "out_interface", "default"):
                    why = "default: drakrun finds the interface by itself"
                    self._say(section, key, Handling.DROPPED, why)
                else:
                    value = not value if key in TURNED_ROUND else value
                    self._import(_Key(section=section, key=key), known.target, _text(value), known.why)

    def _by_table(self, section: str, key: str) -> None:
        """A key of a section that is not ours."""
        known = fate(INI, section, key)
        if known is None:
            self._say(section, key, Handling.DECISION, "drakcelery does not know it")
        else:
            self._say(section, key, known.handling, known.why)

    def _pair(self, section: str, key: str, value: str) -> None:
        """A key of a section that is ours too."""
        known = fate(INI, section, key)
        if known is not None and known.target is None:
            self._say(section, key, known.handling, known.why)
        elif not value.strip() and section != "drakvuf_plugins":
            self._say(section, key, Handling.DROPPED, "nothing is set: the default counts")
        elif key in ("headers", "test_headers") and _is_internal(value):
            why = f"{INTERNAL_KIND} went to drak-postprocess, which is gone; the documented headers are used"
            self._say(section, key, Handling.DECISION, why)
        else:
            if key == "xen_cmdline_check" and value.strip() != "ignore":
                value = "fail"  # to v0.18 every other word was that
            self._import(_Key(section=section, key=key), (section, key), value, known.why if known else "")

    def _minio(self, pairs: Mapping[str, str], environment: Path) -> None:
        """Karton's old ``[minio]``, whose address has no scheme: TLS unless ``secure`` says no (Karton 4)."""
        given = {key: value.strip() for key, value in pairs.items()}
        secure = given.pop("secure", "") or "1"
        states = configparser.ConfigParser.BOOLEAN_STATES
        if secure.lower() not in states:
            self._say("minio", "secure", Handling.DECISION, "expected true or false; https is assumed")
        elif "secure" in pairs:
            self._say("minio", "secure", Handling.TAKEN, "as part of [s3] address: https:// or http://")
        address = given.get("address", "")
        if address and "://" not in address:
            given["address"] = f"{'https' if states.get(secure.lower(), True) else 'http'}://{address}"
        found = {}
        if not given.get("access_key") and not given.get("secret_key"):
            found = _credentials(environment)
        for key, value in given.items():
            if value or key not in found:
                self._pair_of_minio(key, value)
        for key, value in found.items():
            origin = _Key(section="minio", key=key)
            self._import(origin, ("s3", key), value, f"blank, and therefore from {environment}")

    def _pair_of_minio(self, key: str, value: str) -> None:
        if not value:
            self._say("minio", key, Handling.DROPPED, "nothing is set")
        else:
            self._import(_Key(section="minio", key=key), ("s3", key), value, "same meaning")

    def _import(self, old: _Key, target: tuple[str, str], value: str, why: str) -> None:
        """Take *value* over as *target*, unless it is refused or an earlier file has said something else."""
        section, key = target[0], old.key if target[1] == "*" else target[1]
        if section == "drakvuf_plugins":
            value = self._known_plugins(old, value)
        trouble = self._trouble(section, key, value)
        owner = self._to.owner(section, key)
        if trouble:
            self._say(old.section, old.key, Handling.DECISION, f"left out: {trouble}")
        elif owner is None or owner == self._path:
            self._to.values.setdefault(section, {})[key] = value
            self._to.origin[section, key] = self._path
            self._say(
                old.section, old.key, Handling.TAKEN, f"as [{section}] {key}" + (f": {why}" if why else "")
            )
        elif self._to.values[section].get(key) == value:
            self._say(old.section, old.key, Handling.TAKEN, f"as in {owner}")
        else:
            what = f"its [{section}] counts" if section in CONNECTIONS else "which counts"
            self._say(old.section, old.key, Handling.DECISION, f"differs from {owner}, {what}")

    def _known_plugins(self, old: _Key, value: str) -> str:
        """v0.18 passed any name on to DRAKVUF; here an unknown one is an error, so it is left out."""
        names = [name for part in value.split(",") if (name := part.strip())]
        unknown = [name for name in names if name not in KNOWN_PLUGINS]
        if unknown:
            text = f"left out: {', '.join(unknown)}: no plugin of DRAKVUF that drakcelery knows"
            self._say(old.section, old.key, Handling.DECISION, text)
        return ",".join(name for name in names if name in KNOWN_PLUGINS)

    def _trouble(self, section: str, key: str, value: str) -> str | None:
        """Why our settings would refuse it, together with what was taken over before."""
        model = {**self._to.values, section: {**self._to.values.get(section, {}), key: value}}
        try:
            Settings.model_validate(model)
        except ValidationError as error:
            if any(detail["type"] == "extra_forbidden" for detail in error.errors()):
                return unknown_key(section, key)
            return explain(error, {}, None).removeprefix("settings: ")
        return None

    def _say(self, section: str, key: str, handling: Handling, text: str) -> None:
        self._to.findings.append(
            Finding(source=self._path, section=section, key=key, handling=handling, text=text)
        )


def _text(value: object) -> str:
    """A TOML value as an INI file has it."""
    match value:
        case bool():
            return str(int(value))
        case list():
            return ",".join(str(one) for one in value)
        case _:
            return str(value)


def _is_internal(headers: str) -> bool:
    try:
        value = json.loads(headers)
    except json.JSONDecodeError:
        return False
    one = value[0] if isinstance(value, list) and len(value) == 1 else value
    return isinstance(one, dict) and one.get("kind") == INTERNAL_KIND


def _credentials(environment: Path) -> dict[str, str]:
    """``MINIO_ACCESS_KEY`` and ``MINIO_SECRET_KEY`` of v0.18's own MinIO; nothing if it had none."""
    if not environment.is_file():
        return {}
    try:
        lines = environment.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{environment}: {ini_trouble(error)}") from None
    found = {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}
    names = {"access_key": "MINIO_ACCESS_KEY", "secret_key": "MINIO_SECRET_KEY"}
    return {key: found[name] for key, name in names.items() if found.get(name)}


def enabled(root: Path) -> list[str]:
    """The services of DRAKVUF Sandbox that are enabled below *root*, such as ``drakrun@1.service``."""
    patterns = ("drakrun@*.service", "drakrun-worker@*.service", "drak-*.service")
    wants = (root / "etc/systemd/system").glob("*.wants")
    return sorted({path.name for directory in wants for one in patterns for path in directory.glob(one)})


def instances(services: Iterable[str]) -> Iterator[tuple[str, int]]:
    """(service, number) of those that own a VM; the VM of number 2 is ``vm-2``, in every release."""
    for service in services:
        stem, _, number = service.removesuffix(".service").partition("@")
        if stem in ("drakrun", "drakrun-worker") and number.isdecimal() and int(number) > 0:
            yield service, int(number)
