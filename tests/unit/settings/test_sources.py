"""Where settings come from: file, environment, defaults."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from pydantic import SecretStr

from drakcelery import settings
from drakcelery.embedded import typed
from drakcelery.errors import SettingsError
from drakcelery.settings import default_data_dir, find, load
from drakcelery.settings.karton_places import karton_files
from tests.unit.settings.reading import complaint, read, write


def test_without_a_file_everything_has_a_default() -> None:
    """An empty machine gives the settings of the documented defaults, and the emulator."""
    settings = load(environment={})
    assert (settings.redis.host, settings.redis.port, settings.redis.db) == ("localhost", 6379, 0)
    assert settings.drakrun.identity == "karton.drakrun-prod"
    assert settings.drakcelery.host
    assert settings.slots == {"vm-1": "default"}
    assert settings.engine == "emulator"
    assert settings.source is None
    assert settings.without_effect() == []


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    """DRAKCELERY_<SECTION>_<KEY> replaces the file's value and leaves the other keys alone."""
    settings = read(
        tmp_path,
        "[redis]\nhost=file\nport=1000\n[drakvuf_plugins]\nlow=apimon\n",
        DRAKCELERY_REDIS_HOST="variable",
        DRAKCELERY_DRAKVUF_PLUGINS_LOW="memdump",
        DRAKCELERY_DRAKVUF_PLUGINS__ALL_="procmon",
        DRAKCELERY_DRAKCELERY_HOST="rack-3",
        UNRELATED="x",
        DRAKCELERY_CONFIG="/not/a/setting",
        DRAKCELERY_DATA_DIR="/not/a/setting",
    )
    assert (settings.redis.host, settings.redis.port) == ("variable", 1000)
    assert settings.drakvuf_plugins == {"low": ("memdump",), "_all_": ("procmon",)}
    assert settings.drakcelery.host == "rack-3"


def test_environment_is_taken_as_it_is(tmp_path: Path) -> None:
    """A percent sign in a variable needs no doubling; in the file it does."""
    assert read(tmp_path, "", DRAKCELERY_REDIS_PASSWORD="a%b").redis.password == SecretStr("a%b")
    assert read(tmp_path, "[redis]\npassword=a%%b\n").redis.password == SecretStr("a%b")


def test_variable_of_no_section_is_refused(tmp_path: Path) -> None:
    """A misspelt section in a variable's name is an error that lists the sections."""
    said = complaint(tmp_path, "", DRAKCELERY_RDIS_HOST="x")
    assert said.startswith("DRAKCELERY_RDIS_HOST: names no section; expected DRAKCELERY_<SECTION>_<KEY>")
    assert "drakvuf_plugins" in said


def test_load_reads_the_process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument, load takes the environment of the process."""
    monkeypatch.setenv("DRAKCELERY_FLOWER_PORT", "7777")
    assert load().flower.port == 7777


def test_blank_counts_as_not_set(tmp_path: Path) -> None:
    """Nothing after the '=' means the default, from the file and from the environment alike."""
    settings = read(
        tmp_path,
        "[drakrun]\nanalysis_timeout=\nout_interface= \n[redis]\nport=1000\npassword=\n",
        DRAKCELERY_REDIS_PORT="",
    )
    assert settings.drakrun.analysis_timeout == 600
    assert settings.drakrun.out_interface is None
    assert settings.redis.password is None
    assert settings.redis.port == 6379


def test_importing_reads_nothing(tmp_path: Path) -> None:
    """Importing the module with a broken file at hand and a wrong variable set goes well."""
    (tmp_path / "drakcelery.ini").write_text("not an ini file")
    done = subprocess.run(
        [sys.executable, "-c", "import drakcelery.settings"],
        cwd=tmp_path,
        env={**os.environ, "DRAKCELERY_REDIS_PORT": "x", "DRAKCELERY_CONFIG": "/nowhere"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_find_keeps_the_documented_order(tmp_path: Path) -> None:
    """Each place is taken only when no earlier one has a file."""
    environment = {"DRAKCELERY_DATA_DIR": str(tmp_path / "data")}
    etc, data = tmp_path / "etc", tmp_path / "data"
    etc.mkdir()
    data.mkdir()
    assert find(environment=environment) is None
    places = [data / "drakcelery.ini", etc / "drakrun.ini", etc / "drakcelery.ini", Path("drakcelery.ini")]
    for place in places:
        place.write_text("")
        assert find(environment=environment) == place
    named, given = tmp_path / "named.ini", tmp_path / "given.ini"
    named.write_text("")
    given.write_text("")
    environment["DRAKCELERY_CONFIG"] = str(named)
    assert find(environment=environment) == named
    assert find(data_dir=data, environment=environment) == data / "drakcelery.ini"
    assert find(given, data_dir=data, environment=environment) == given


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ({"config": Path("gone.ini")}, {}, "--config gone.ini: no such file"),
        (
            {"data_dir": Path("gone")},
            {},
            (
                "--data-dir: no embedded stack here; gone/drakcelery.ini: no such file. "
                "`drakcelery up --data-dir gone` starts one"
            ),
        ),
        ({}, {"DRAKCELERY_CONFIG": "gone.ini"}, "DRAKCELERY_CONFIG gone.ini: no such file"),
    ],
)
def test_named_file_must_exist(arguments: dict[str, Any], environment: dict[str, str], said: str) -> None:
    """A file that was asked for by name is never skipped in silence."""
    with pytest.raises(SettingsError) as caught:
        find(**arguments, environment=environment)
    assert str(caught.value) == said


def test_data_dir_follows_xdg() -> None:
    """The embedded stack lives where its variable says, else in the user's state directory."""
    assert default_data_dir({"DRAKCELERY_DATA_DIR": "/a", "XDG_STATE_HOME": "/b"}) == Path("/a")
    assert default_data_dir({"XDG_STATE_HOME": "/b"}) == Path("/b/drakcelery")
    assert default_data_dir({}) == Path.home() / ".local/state/drakcelery"


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in containers that give each a user id of its own: a file is found, and a stack needs a place."""

    def nobody() -> NoReturn:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    for name in ("XDG_STATE_HOME", "DRAKCELERY_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings, "SEARCH_PATHS", (Path("drakcelery.ini"),))
    with pytest.raises(SettingsError, match="no home directory: --data-dir or DRAKCELERY_DATA_DIR names"):
        default_data_dir({})
    assert find(environment={}) is None
    assert typed.command("down", tmp_path) == f"`drakcelery down --data-dir {tmp_path}`"
    assert karton_files() == []
    Path("drakcelery.ini").touch()
    assert find(environment={}) == Path("drakcelery.ini")


@contextmanager
def _unprivileged() -> Iterator[None]:
    """Root may read every file; so the test stops being root for a while."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(mine)


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    """A file without read permission, or below a closed directory, gives a sentence and no traceback."""
    closed = tmp_path / "closed"
    closed.mkdir()
    path = write(closed, "")
    path.chmod(0)
    with _unprivileged(), pytest.raises(SettingsError, match=r"settings\.ini: cannot be read: Permission"):
        load(path, environment={})
    closed.chmod(0)
    with _unprivileged(), pytest.raises(SettingsError, match="cannot be read: Permission denied"):
        find(path, environment={})
    closed.chmod(stat.S_IRWXU)


def test_directory_in_place_of_the_file(tmp_path: Path) -> None:
    """A directory is not a configuration file, and the error says what it is."""
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        load(tmp_path, environment={})


def test_impossible_name_is_an_error_of_the_file(tmp_path: Path) -> None:
    """A name too long for the file system is an error of the file, not a crash."""
    with pytest.raises(SettingsError, match="cannot be read: File name too long"):
        find(tmp_path / ("x" * 300), environment={})
