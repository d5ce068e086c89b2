"""What init decides: roles, files, and what it leaves alone."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from karton.core import Config
from karton.core.backend import KartonBackendBase

from drakcelery import settings
from drakcelery.deploy import configuration, importing, plan, sandbox, writing
from drakcelery.deploy.plan import Plan
from drakcelery.deploy.targets import Status
from drakcelery.deploy.wish import CONFIG, Wish
from drakcelery.errors import SettingsError
from drakcelery.settings import karton_places
from tests import reference

PROGRAM = PurePosixPath("/usr/bin/drakcelery")
KARTON = "[redis]\nhost=karton.example.org\npassword=hunter2%%x\n[s3]\naddress=http://s3:9000\naccess_key=a\nsecret_key=hunter2\n"
ALWAYS = ["ingress", "flower"]


def put(root: Path, path: str, text: str = "") -> Path:
    """A file below *root*."""
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")
    return place


def make(root: Path, **wishes: Any) -> Plan:
    """The plan for the machine below *root*."""
    return plan.make(Wish(root=root, program=PROGRAM, **wishes))


def init(root: Path, **wishes: Any) -> Plan:
    """Plan and write."""
    made = make(root, **wishes)
    writing.write(made, root, group="drakcelery")
    return made


def config(root: Path) -> settings.Settings:
    """What the written file says."""
    return settings.load(root / "etc/drakcelery/config.ini", environment={})


def test_machine_without_vms(tmp_path: Path) -> None:
    """No VMs, no workers, no root; a file without a slot that says what is missing."""
    made = init(tmp_path)
    assert made.roles == ALWAYS
    assert made.todo == ["[redis]", "[s3]"]
    ours = config(tmp_path)
    assert (ours.slots, ours.remarks, ours.drakmon.system_disable) == ({}, (), True)


def test_karton_file_is_found(tmp_path: Path) -> None:
    """Karton's own file in its place gives the servers, percent sign and all."""
    put(tmp_path, "etc/karton/karton.ini", KARTON)
    assert init(tmp_path).todo == []
    ours = config(tmp_path)
    assert ours.redis.address() == "redis://:hunter2%25x@karton.example.org:6379/0"
    assert ours.s3.secret_key is not None
    assert ours.s3.secret_key.get_secret_value() == "hunter2"


def test_host_of_v018(tmp_path: Path) -> None:
    """Its VMs become slots, its workers get units, root among them; its own services have to go."""
    put(tmp_path, "etc/drakrun/config.ini", KARTON + "[drakrun]\nuse_root_uid=1\n")
    put(tmp_path, "etc/drakcore/config.ini", "[drakmon]\nsystem_disable=0\n")
    for name in ("drakrun@1", "drakrun@2", "drak-postprocess@1", "drak-system", "drak-minio"):
        put(tmp_path, f"etc/systemd/system/default.target.wants/{name}.service")
    made = init(tmp_path)
    assert made.roles == ["ingress", "vm", "io", "flower", "system"]
    assert config(tmp_path).slots == {"vm-1": "default", "vm-2": "default"}
    assert config(tmp_path).drakrun.use_root_uid
    assert "User=root" in (tmp_path / "etc/systemd/system/drakcelery-vm.service").read_text()
    assert made.retire == [
        "drak-postprocess@1.service",
        "drak-system.service",
        "drakrun@1.service",
        "drakrun@2.service",
    ]


def test_host_of_v021(tmp_path: Path) -> None:
    """An installed DRAKVUF Sandbox makes a host, even with no service of it enabled."""
    put(tmp_path, "etc/drakrun/install.json", "{}")
    assert {"vm", "io"} <= set(init(tmp_path).roles)
    assert config(tmp_path).slots == {"vm-1": "default"}


def put_program(root: Path, path: str) -> None:
    """A command below *root*."""
    put(root, path, "#!/opt/venv/bin/python3\n").chmod(0o755)


def unit(root: Path, role: str) -> str:
    """A unit that was written."""
    return (root / f"etc/systemd/system/drakcelery-{role}.service").read_text()


@pytest.mark.parametrize(
    "place", ["opt/venv/bin", "opt/drakvuf-sandbox/venv/bin", "root/venv/bin", "home/ann/sandbox/.venv/bin"]
)
def test_drakrun_in_a_virtual_environment_is_found(tmp_path: Path, place: str) -> None:
    """The drakrun of DRAKVUF Sandbox's guide is in no standard place: it is looked for, and set (H5)."""
    put(tmp_path, "etc/drakrun/install.json", "{}")
    put_program(tmp_path, f"{place}/drakrun")
    made = init(tmp_path)
    assert config(tmp_path).drakvuf.drakrun == f"/{place}/drakrun"
    assert f"drakrun of DRAKVUF Sandbox was found: /{place}/drakrun" in made.remarks
    assert plan.DRAKRUN not in made.todo
    at_home = not place.startswith("opt")
    # Only the unit that runs it may look into home directories, and it is said
    assert ("ProtectHome=read-only" in unit(tmp_path, "vm")) == at_home
    assert "ProtectHome=yes" in unit(tmp_path, "io")
    assert any(f"/{place}/drakrun must be readable by root" in one for one in made.remarks) == at_home


@pytest.mark.parametrize(
    ("changed", "mode"),
    [("home/ann/sandbox", 0o777), ("home/ann/sandbox/bin/drakrun", 0o757), ("home/ann", 0o775)],
)
def test_drakrun_that_others_may_change(tmp_path: Path, changed: str, mode: int) -> None:
    """Root would run what any user has put into a home directory: it is named, and not taken."""
    put(tmp_path, "etc/drakrun/install.json", "{}")
    put_program(tmp_path, "home/ann/sandbox/bin/drakrun")
    (tmp_path / changed).chmod(mode)
    if mode == 0o775:
        if os.geteuid() != 0:
            pytest.skip("needs root to give a directory away")
        os.chown(tmp_path / changed, 0, 65534)
    made = init(tmp_path)
    assert plan.DRAKRUN in made.todo
    assert config(tmp_path).drakvuf.drakrun == "drakrun"
    assert any("(not /home/ann/sandbox/bin/drakrun: others than root may" in one for one in made.remarks)
    put_program(tmp_path, "opt/venv/bin/drakrun")
    init(tmp_path, force=True)
    assert config(tmp_path).drakvuf.drakrun == "/opt/venv/bin/drakrun"


def test_drakrun_that_is_a_users_own(tmp_path: Path) -> None:
    """A directory that belongs to a user is one that this user may change."""
    if os.geteuid() != 0:
        pytest.skip("needs root to give a directory away")
    put(tmp_path, "etc/drakrun/install.json", "{}")
    put_program(tmp_path, "home/ann/sandbox/bin/drakrun")
    os.chown(tmp_path / "home/ann", 1000, 0)
    assert plan.DRAKRUN in init(tmp_path).todo


def test_drakrun_that_a_unit_of_its_own_starts_comes_first(tmp_path: Path) -> None:
    """The worker's unit of DRAKVUF Sandbox names the drakrun in use; the worker itself has to go."""
    started = "[Service]\nExecStart=/data/sandbox/bin/drakrun worker --vm-id %i\n"
    put(tmp_path, "etc/systemd/system/drakrun-worker@.service", started)
    put(tmp_path, "etc/systemd/system/default.target.wants/drakrun-worker@2.service")
    put_program(tmp_path, "data/sandbox/bin/drakrun")
    put_program(tmp_path, "opt/venv/bin/drakrun")
    made = init(tmp_path)
    assert config(tmp_path).drakvuf.drakrun == "/data/sandbox/bin/drakrun"
    assert any("there are others: /opt/venv/bin/drakrun" in remark for remark in made.remarks)
    assert made.retire == ["drakrun-worker@2.service"]
    assert config(tmp_path).slots == {"vm-2": "default"}


def test_drakrun_on_the_search_path_needs_no_setting(tmp_path: Path) -> None:
    """One that the vm worker finds by its name stays a name."""
    put(tmp_path, "etc/drakrun/install.json", "{}")
    put_program(tmp_path, "usr/local/bin/drakrun")
    put_program(tmp_path, "opt/venv/bin/drakrun")
    assert plan.DRAKRUN not in init(tmp_path).todo
    assert config(tmp_path).drakvuf.drakrun == "drakrun"


def test_drakrun_that_is_nowhere_is_asked_for(tmp_path: Path) -> None:
    """Where none is found it is to be filled in; --drakrun names it; a file that is kept is looked at too."""
    put(tmp_path, "etc/drakrun/install.json", "{}")
    made = make(tmp_path)
    assert plan.DRAKRUN in made.todo
    assert any("no drakrun was found" in remark for remark in made.remarks)
    named = init(tmp_path, drakrun=PurePosixPath("/srv/x/bin/drakrun"))
    assert plan.DRAKRUN not in named.todo
    assert config(tmp_path).drakvuf.drakrun == "/srv/x/bin/drakrun"
    put_program(tmp_path, "opt/venv/bin/drakrun")
    kept = make(tmp_path, drakrun=PurePosixPath("/opt/venv/bin/drakrun"))
    assert any("/srv/x/bin/drakrun is not there; drakrun of DRAKV" in remark for remark in kept.remarks)
    assert any("--drakrun is not taken" in remark for remark in kept.remarks)
    with pytest.raises(SettingsError, match="expected an absolute path"):
        make(tmp_path, drakrun=PurePosixPath("drakrun"))
    assert plan.DRAKRUN not in make(tmp_path / "other", only=("ingress",)).todo


def test_guests_disks_outside_of_its_directory_are_writable(tmp_path: Path) -> None:
    """``snapshot_dir`` of install.json is where the guests' disks are made: the unit may write there (H5)."""
    put(tmp_path, "etc/drakrun/install.json", '{"snapshot_dir": "/data/volumes"}')
    init(tmp_path, only=("vm", "io"))
    lines = [line for line in unit(tmp_path, "vm").splitlines() if line.startswith("ReadWritePaths=")]
    assert {"-/var/lib/drakrun", "-/data/volumes"} <= set(lines[0].removeprefix("ReadWritePaths=").split())
    assert "/data/volumes" not in unit(tmp_path, "io")
    put(tmp_path, "etc/drakrun/install.json", '{"snapshot_dir": "/data/my volumes"}')
    with pytest.raises(SettingsError, match="/data/my volumes: for a unit, expected letters"):
        make(tmp_path)


def test_what_a_unit_cannot_see_is_said(tmp_path: Path) -> None:
    """A unit has a /tmp of its own; a state directory or a disk at home opens the homes for reading."""
    put(tmp_path, "etc/drakrun/install.json", '{"snapshot_dir": "/home/vms"}')
    put(
        tmp_path,
        "etc/drakcelery/config.ini",
        KARTON + "[slots]\nvm-1=a\n[drakvuf]\ndrakrun=/tmp/venv/bin/drakrun\n",
    )
    made = init(tmp_path)
    assert any("venv/bin/drakrun: each unit has a /tmp of its own" in one for one in made.remarks)
    assert "ProtectHome=read-only" in unit(tmp_path, "vm")
    assert "ProtectHome=yes" in unit(tmp_path, "io")


def test_system_disable_is_honoured(tmp_path: Path) -> None:
    """Where a karton-system runs elsewhere none gets a unit, and that is said."""
    source = put(tmp_path, "old.ini", "[drakmon]\nsystem_disable=1\n")
    made = make(tmp_path, sources=(source,), only=("system", "ingress"))
    assert made.roles == ["ingress"]
    assert any("system_disable = 1" in remark for remark in made.remarks)
    with pytest.raises(SettingsError, match="system_disable = 1: a karton-system runs elsewhere"):
        make(tmp_path, sources=(source,), only=("system",))
    asked = init(tmp_path, only=("system",))
    assert asked.roles == ["system"]
    assert not config(tmp_path).drakmon.system_disable


@pytest.mark.parametrize("no", ["0", "False", "OFF", "n"])
def test_no_in_each_form(tmp_path: Path, no: str) -> None:
    """However an old file says that karton-system runs here, its unit is written."""
    source = put(tmp_path, "old.ini", f"[drakmon]\nsystem_disable={no}\n")
    assert make(tmp_path, sources=(source,)).roles == [*ALWAYS, "system"]


def test_only_those_roles(tmp_path: Path) -> None:
    """--only writes the units of these roles, and slots only for a vm worker."""
    made = init(tmp_path, only=("vm", "io"))
    units = sorted(path.name for path in (tmp_path / "etc/systemd/system").iterdir())
    assert units == ["drakcelery-io.service", "drakcelery-vm.service"]
    assert made.roles == ["vm", "io"]
    assert config(tmp_path).slots == {"vm-1": "default"}


def test_what_a_package_brings_is_used(tmp_path: Path) -> None:
    """Its blank file is filled in, a filled one stays; a unit is written only where it differs."""
    put(tmp_path, "etc/karton/karton.ini", KARTON)
    file = put(tmp_path, "etc/drakcelery/config.ini", configuration.blank())
    units = {f"drakcelery-{role}.service": tmp_path / "usr/lib/systemd/system" for role in ALWAYS}
    texts = {one.path.name: one.text for one in make(tmp_path).targets if one.path.name in units}
    for name in units:
        put(tmp_path, f"usr/lib/systemd/system/{name}", texts[name])
    made = init(tmp_path, only=("ingress", "flower", "io"))
    assert config(tmp_path).redis.host == "karton.example.org"
    written = {one.path.name: (str(one.path.parent), one.status) for one in made.targets}
    for name in units:
        assert written[name] == ("/usr/lib/systemd/system", Status.UNCHANGED)
    assert written["drakcelery-io.service"] == ("/etc/systemd/system", Status.NEW)
    file.write_text(configuration.blank().replace("localhost", "there"))
    assert make(tmp_path).targets[0].status is Status.KEPT
    put(tmp_path, "usr/lib/systemd/system/drakcelery-flower.service", "of another version")
    assert make(tmp_path, only=("flower",)).targets[-1].status is Status.NEW


def test_second_time_changes_nothing(tmp_path: Path) -> None:
    """A second init finds everything as it was, keeps the configuration file, and adds a role if asked."""
    init(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = init(tmp_path)
    assert {one.status for one in again.targets} == {Status.KEPT, Status.UNCHANGED}
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    put(
        tmp_path,
        "etc/drakcelery/config.ini",
        KARTON + "[slots]\nvm-7=win10\n[drakcelery]\nstop_seconds=9000\n",
    )
    made = init(tmp_path, only=("vm",))
    assert [one.path.name for one in made.targets if one.status is Status.NEW] == ["drakcelery-vm.service"]
    assert "TimeoutStopSec=9300" in (tmp_path / "etc/systemd/system/drakcelery-vm.service").read_text()
    assert config(tmp_path).slots == {"vm-7": "win10"}


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    """A file in the way stops everything, before anything was written."""
    mine = put(tmp_path, "etc/systemd/system/drakcelery-flower.service", "mine\n")
    with pytest.raises(SettingsError, match=r"drakcelery-flower\.service: there already, and different"):
        init(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]


def test_force_keeps_what_was(tmp_path: Path) -> None:
    """--force replaces, keeps the old file beside the new one, and loses no setting of ours."""
    put(tmp_path, "etc/systemd/system/drakcelery-flower.service", "mine\n")
    put(tmp_path, "etc/drakrun/config.ini", "[redis]\nhost=elsewhere\n")
    put(tmp_path, "etc/drakcelery/config.ini", KARTON + "[slots]\nvm-3=win7\n[drakcelery]\nlook_ahead=7\n")
    made = init(tmp_path, force=True)
    ours = config(tmp_path)
    assert (ours.redis.host, ours.slots, ours.drakcelery.look_ahead) == (
        "karton.example.org",
        {"vm-3": "win7"},
        7,
    )
    assert {"vm", "io"} <= set(made.roles)
    assert (tmp_path / "etc/systemd/system/drakcelery-flower.service.old").read_text() == "mine\n"
    assert "look_ahead=7" in (tmp_path / "etc/drakcelery/config.ini.old").read_text()


def test_secrets_are_the_groups(tmp_path: Path) -> None:
    """The file with credentials is for its owner and group; units are for everyone."""
    init(tmp_path)
    modes = {path.name: oct(path.stat().st_mode)[-4:] for path in tmp_path.rglob("*") if path.is_file()}
    assert modes.pop("config.ini") == "0640"
    assert set(modes.values()) == {"0644"}


def test_file_holds_what_differs(tmp_path: Path) -> None:
    """A value that equals the default is not written; what is written has its comment from the example."""
    text = KARTON + "[redis2]\n[drakrun]\nanalysis_timeout=600\nuse_root_uid=1\n[drakcelery]\nlook_ahead=2\n"
    init(tmp_path, sources=(put(tmp_path, "old.ini", text),))
    written = (tmp_path / "etc/drakcelery/config.ini").read_text()
    assert set(re.findall(r"^\[(.+)\]$", written, re.MULTILINE)) == {
        "redis",
        "s3",
        "drakmon",
        "drakrun",
        "slots",
    }
    assert re.findall(r"^([a-z_]+) =", written.split("[drakrun]")[1].split("\n[")[0], re.MULTILINE) == [
        "use_root_uid"
    ]
    keys = re.findall(r"^(?P<before>.*)\n[a-z_]+ =", written, re.MULTILINE)
    assert all(line.startswith("# ") for line in keys)


def test_any_setting_survives_the_file(tmp_path: Path) -> None:
    """Every key of the model, set to something else, is written so that it loads with that value."""
    values = {
        "redis": {"host": "h", "username": "u%u", "password": " p%%(x)s ", "port": "1"},
        "drakrun": {"filters": '[{"type": "sample",\n  "x": "%"}]', "identity": "karton.x"},
        "slots": {"vm-1": "win10"},
        "drakvuf_plugins": {"_all_": "", "low": "apimon"},
    }
    text = configuration.render(values, text=configuration.example())
    ours = settings.load(put(tmp_path, "a.ini", text), environment={})
    assert ours.redis.username == "u%u"
    assert ours.redis.password is not None
    assert ours.redis.password.get_secret_value() == "p%%(x)s"
    assert ours.drakrun.filters == ({"type": "sample", "x": "%"},)
    assert (ours.plugins_of("high"), ours.plugins_of("low")) == ((), ("apimon",))
    assert ours.remarks == ()


@pytest.mark.parametrize("setting", reference.settings(), ids=lambda one: f"{one.section}.{one.key}")
def test_every_setting_has_its_comment(setting: reference.Setting) -> None:
    """Whatever may be taken over is explained in the file, in the words of the example."""
    shown = configuration._parse(configuration.example())[setting.section]
    assert shown.intro.startswith("# ")
    assert shown.comments[setting.key].startswith("# ")


@pytest.mark.parametrize("key", ["password", "secret_key", "access_key", "url", "broker_url"])
def test_secrets_are_masked(key: str) -> None:
    """What is shown of a file has no credential."""
    assert "hunter2" not in configuration.masked(f"[x]\n{key} = hunter2\nother = 1\n")


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"user": "root"}, "--user root: expected a user name other than root"),
        ({"user": "a b"}, "--user a b"),
        ({"program": PurePosixPath("drakcelery")}, "--program drakcelery: expected an absolute path"),
        ({"program": PurePosixPath("/opt/a b/drakcelery")}, "--program"),
    ],
)
def test_wrong_wishes_are_named(tmp_path: Path, wishes: dict[str, Any], words: str) -> None:
    """A user or a program that a unit could not hold is refused with a sentence."""
    with pytest.raises(SettingsError, match=re.escape(words)):
        plan.make(Wish(**{"root": tmp_path, "program": PROGRAM, **wishes}))


def test_state_dir_with_blanks_is_refused(tmp_path: Path) -> None:
    """tmpfiles.d could not name it."""
    source = put(tmp_path, "a.ini", "[drakcelery]\nstate_dir=/var/lib/a b\n")
    with pytest.raises(SettingsError, match=r"state_dir = /var/lib/a b"):
        make(tmp_path, sources=(source,))


def test_config_path_is_where_settings_look() -> None:
    """What init writes is what the commands find without being told."""
    assert Path(CONFIG) in settings.SEARCH_PATHS


@pytest.mark.parametrize("begin", ["#!{}", "#!/bin/sh\n'''exec' \"{}\" \"$0\" \"$@\"\n' '''"])
def test_a_program_and_what_runs_it(tmp_path: Path, begin: str) -> None:
    """Units see the Python behind the links of an environment, also where pip has put a shell before it."""
    python, link = put(tmp_path, "opt/python/bin/python3", "\x7fELF"), tmp_path / "venv/bin/python"
    python.chmod(0o755)
    link.parent.mkdir(parents=True)
    link.symlink_to(python)
    script = put(tmp_path, "venv/bin/drakrun", f"{begin.format(link)}\nimport sys\n")
    seen = list(sandbox.behind(Path("/"), [PurePosixPath(script)]))
    assert seen == [PurePosixPath(script), PurePosixPath(script.resolve()), PurePosixPath(python.resolve())]
    assert list(sandbox.behind(tmp_path, [PurePosixPath(script)])) == [PurePosixPath(script)]


def test_a_program_that_is_no_script() -> None:
    """Nothing runs it, and one that is not there is named all the same."""
    for program in ("/bin/true", "/nowhere/drakrun"):
        seen = list(sandbox.behind(Path("/"), [PurePosixPath(program)]))
        assert seen == [PurePosixPath(program), PurePosixPath(os.path.realpath(program))]


def test_karton_s_own_programs_take_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Karton has no default for the bucket, so it is written though it is ours."""
    put(tmp_path, "etc/karton/karton.ini", KARTON)
    init(tmp_path)
    monkeypatch.setattr(Config, "SEARCH_PATHS", [])
    theirs = Config(str(tmp_path / "etc/drakcelery/config.ini"))
    assert KartonBackendBase(theirs).default_bucket_name == "karton"
    assert theirs.get("redis", "host") == "karton.example.org"


def test_karton_s_files_of_this_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are looked for where Karton looks, and count in its order."""
    named = put(tmp_path, "named.ini", "[redis]\nhost=named\n[s3]\nbucket=named\n")
    here = put(tmp_path, "here/karton.ini", "[redis]\nhost=here\n[s3]\nbucket=here\n")
    own = put(tmp_path, "home/.config/karton/karton.ini", "[redis]\nhost=home\n[s3]\nbucket=home\n")
    monkeypatch.chdir(here.parent)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert karton_places.karton_files() == [here, own]
    monkeypatch.setenv("KARTON_CONFIG_FILE", str(named))
    assert karton_places.karton_files() == [named, here, own]
    monkeypatch.setattr(Config, "SEARCH_PATHS", [str(own), "./karton.ini"])
    theirs, ours = Config(), importing.read(karton_places.karton_files(), minio_environment=tmp_path / "none")
    for section, key in (("redis", "host"), ("s3", "bucket")):
        assert ours.values[section][key] == theirs.get(section, key)


def test_a_file_of_karton_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Karton refuses to start then, and so does init."""
    monkeypatch.setenv("KARTON_CONFIG_FILE", str(tmp_path / "gone.ini"))
    with pytest.raises(SettingsError, match=r"KARTON_CONFIG_FILE .*gone\.ini: no such file"):
        karton_places.karton_files()


def test_variables_of_karton_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """init says that Karton's programs would read them and that we do not, and shows no value."""
    monkeypatch.setenv("KARTON_REDIS_HOST", "elsewhere")
    monkeypatch.setenv("KARTON_S3_SECRET_KEY", "hunter2")
    monkeypatch.setenv("KARTON_LOGGING_LEVEL", "DEBUG")
    said = [one for one in make(Path("/")).remarks if "KARTON_" in one]
    assert len(said) == 1
    assert said[0].startswith("KARTON_REDIS_HOST, KARTON_S3_SECRET_KEY: Karton's programs read this")
    assert "hunter2" not in said[0]
