"""The example in config/ is complete and true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from drakcelery.model.plugins import DEFAULT_PLUGINS
from drakcelery.settings import Settings, load
from tests import reference
from tests.unit.settings.reading import write

EXAMPLE = reference.ROOT / "config" / "drakcelery.ini"
SETTING_COMMENTED_OUT = re.compile(r"^;(?=[a-z0-9_-]+ =)", re.MULTILINE)
"""``;key = value`` is a default; ``# text`` is prose."""


def _section(name: str) -> str:
    return EXAMPLE.read_text(encoding="utf-8").split(f"\n[{name}]\n", 1)[1].split("\n[", 1)[0]


@pytest.mark.parametrize("setting", reference.settings(), ids=lambda one: f"{one.section}.{one.key}")
def test_every_setting_is_in_the_example(setting: reference.Setting) -> None:
    """Each key of the model stands in its section of the example, with its default and a comment above."""
    found = re.search(rf"^# .+\n;{setting.key} =(.*)$", _section(setting.section), re.MULTILINE)
    assert found is not None, f"config/drakcelery.ini lacks [{setting.section}] {setting.key}"
    assert found[1].strip() == (setting.default or "")


@pytest.mark.parametrize("section", reference.free_sections())
def test_sections_of_free_keys_are_in_the_example(section: str) -> None:
    """The sections whose keys are the user's own names are shown too."""
    assert re.search(r"^;?[a-z0-9_-]+ = ", _section(section), re.MULTILINE)


RULES = {"documents": "win10-office", "old_32_bit": "win7-x86"}
"""The rules in the example, and the profile that each picks."""

GUESTS = {"office-10", "win7-x86"}
"""The emulator's profiles in the example."""


def _same_but_examples(left: Settings, right: Settings) -> bool:
    apart = {"source", "drakvuf_plugins", "profile_rules", "emulator_profiles", "reuse_rules"}
    return left.model_dump(exclude=apart) == right.model_dump(exclude=apart)


def test_example_equals_the_defaults() -> None:
    """The example as it is changes nothing."""
    example = load(EXAMPLE, environment={})
    assert _same_but_examples(example, load(environment={}))
    assert (example.drakvuf_plugins, example.profile_rules, example.emulator_profiles) == ({}, {}, {})
    assert example.reuse_rules == {}
    assert example.without_effect() == []


def test_example_uncommented_equals_the_defaults(tmp_path: Path) -> None:
    """Every value that is commented out is valid, and is the default."""
    text, count = SETTING_COMMENTED_OUT.subn("", EXAMPLE.read_text(encoding="utf-8"))
    assert count == len(reference.settings()) + 2 + len(RULES) + len(GUESTS)
    settings = load(write(tmp_path, text), environment={})
    assert _same_but_examples(settings, load(environment={}))
    assert settings.drakvuf_plugins == {"_all_": DEFAULT_PLUGINS}
    assert {name: rule.profile for name, rule in settings.profile_rules.items()} == RULES
    assert set(settings.emulator_profiles) == GUESTS
    assert {name: rule.seconds for name, rule in settings.reuse_rules.items()} == {"feeds": 86400}
