"""What the settings mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from drakcelery.model.plugins import DEFAULT_PLUGINS, KNOWN_PLUGINS, OFFERED_PLUGINS
from drakcelery.settings import RedisSection, all_sections, load
from tests.unit.settings.reading import read


def test_engine_auto_is_drakvuf_on_a_xen_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Xen host, auto does not quietly emulate; naming the engine does."""
    (tmp_path / "privcmd").touch()
    monkeypatch.setattr(all_sections, "XEN_CONTROL", tmp_path / "privcmd")
    assert load(environment={}).engine == "drakvuf"
    assert load(environment={"DRAKCELERY_DRAKCELERY_ENGINE": "emulator"}).engine == "emulator"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("net_enable", "1"),
        ("out_interface", "eth0"),
        ("dns_server", "use-gateway-address"),
        ("syscall_filter", "/etc/filter"),
        ("raw_memory_dump", "1"),
        ("anti_hammering_threshold", "5"),
        ("attach_profiles", "1"),
        ("attach_apiscout_profile", "1"),
        ("xen_cmdline_check", "ignore"),
    ],
)
@pytest.mark.parametrize("engine", ["emulator", "replay"])
def test_setting_without_effect_is_said(tmp_path: Path, engine: str, key: str, value: str) -> None:
    """A setting that only DRAKVUF on Xen can honour is named at the start, with the reason."""
    text = f"[drakcelery]\nengine={engine}\n[drakrun]\n{key}={value}\n"
    (notice,) = read(tmp_path, text).without_effect()
    assert notice.startswith(f"[drakrun] {key} has no effect with the engine {engine}: ")


@pytest.mark.parametrize("engine", ["emulator", "drakvuf"])
def test_a_quiet_stop_that_never_comes_is_said(tmp_path: Path, engine: str) -> None:
    """Numbers by which no ordinary run would end before its time are named at the start; those by which one
    may, and those of a quiet stop that is off, are not."""
    text = f"[drakcelery]\nengine={engine}\n[watch]\n"
    for numbers in ("min_seconds=600", "quiet_seconds=600", "min_seconds=900\nextend_to=900"):
        (notice,) = read(tmp_path, f"{text}enabled=1\n{numbers}").without_effect()
        assert notice.startswith("[watch] enabled has no effect on runs of ")
        assert read(tmp_path, text + numbers).without_effect() == []
    assert read(tmp_path, f"{text}enabled=1\nmin_seconds=599").without_effect() == []


def test_plugins_by_quality(tmp_path: Path) -> None:
    """A quality has its own list, else _all_, else v0.21's (H6); a blank list runs no plugin, as in v0.18."""
    defaults = load(environment={})
    assert defaults.plugins_of("high") == OFFERED_PLUGINS
    assert defaults.default_plugins_of("high") == DEFAULT_PLUGINS
    settings = read(tmp_path, "[drakvuf_plugins]\n_all_=procmon,apimon,procmon\nlow=\n")
    assert settings.plugins_of("high") == settings.default_plugins_of("high") == ("procmon", "apimon")
    assert settings.plugins_of("low") == ()
    other = read(tmp_path, "[drakvuf_plugins]\nlow=apimon\n")
    assert other.plugins_of("high") == OFFERED_PLUGINS
    assert other.default_plugins_of("high") == DEFAULT_PLUGINS


def test_default_plugins_are_known() -> None:
    """What runs by default may also be named in a setting."""
    assert set(DEFAULT_PLUGINS) <= set(OFFERED_PLUGINS) <= KNOWN_PLUGINS
    assert list(DEFAULT_PLUGINS) == sorted(set(DEFAULT_PLUGINS))


def test_headers_in_both_forms_of_v018(tmp_path: Path) -> None:
    """v0.18's example shows one setting as a list of one object and the other as an object."""
    for value in ('{"type": "analysis"}', '[{"type": "analysis"}]', '{\n  "type":\n  "analysis"}'):
        assert read(tmp_path, f"[drakrun]\nheaders={value}\n").drakrun.headers == {"type": "analysis"}


def test_slots_may_be_none(tmp_path: Path) -> None:
    """A machine that only runs ingress has an empty [slots]; a variable adds a slot to the file's."""
    assert read(tmp_path, "[slots]\n").slots == {}
    assert read(tmp_path, "[slots]\nvm-1=a\n", DRAKCELERY_SLOTS_VM2="b").slots == {"vm-1": "a", "vm2": "b"}


def test_settings_are_frozen() -> None:
    """Nobody changes a setting after it was read."""
    settings = load(environment={})
    with pytest.raises(ValidationError, match="frozen"):
        settings.redis = RedisSection(host="x")  # type: ignore[misc]  # the assignment is what is tested
