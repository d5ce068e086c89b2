"""Every setting of the model, for the tests that keep examples and documentation complete."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr
from pydantic_core import PydanticUndefined, to_json

from drakcelery.settings import Section, Settings
from drakcelery.settings.messages import OUR_SECTIONS

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One key of one section."""

    section: str
    key: str
    default: str | None
    """As it is written in the file; blank where nothing is set; None if it depends on the machine."""

    @property
    def variable(self) -> str:
        """The variable of the environment that sets it."""
        return f"DRAKCELERY_{self.section}_{self.key}".upper()


def settings() -> list[Setting]:
    """All keys of the sections that have fixed keys."""
    return [
        Setting(section=section, key=key, default=as_text(field.default))
        for section in OUR_SECTIONS
        if (model := section_model(section)) is not None
        for key, field in model.model_fields.items()
    ]


def free_sections() -> list[str]:
    """The sections whose keys are names that the user gives."""
    return [section for section in OUR_SECTIONS if section_model(section) is None]


def section_model(section: str) -> type[Section] | None:
    """The model of a section; None for a section of free keys."""
    annotation = Settings.model_fields[section].annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def as_text(value: object) -> str | None:
    """A default as the file has it."""
    match value:
        case None:
            return ""
        case bool():
            return str(int(value))
        case dict() | tuple():
            return to_json(value).decode()
        case SecretStr():
            return value.get_secret_value()
        case _:
            return None if value is PydanticUndefined else str(value)


DOCS = ROOT / "docs"

PACKAGE = ROOT / "drakcelery"
