"""Old settings become ours: each key is taken over, dropped with a reason, or left to be decided."""

from __future__ import annotations

from pathlib import Path

import pytest

from drakcelery.deploy import importing, oldkeys
from drakcelery.deploy.importing import Imported
from drakcelery.deploy.oldkeys import Handling
from drakcelery.errors import SettingsError
from drakcelery.settings import Settings
from drakcelery.settings.messages import OUR_SECTIONS
from tests.reference import section_model

EVERY_INI_KEY = """
[redis]
host=karton.example.org
port=6380
[minio]
address=minio.example.org:9000
secure=0
bucket=samples
access_key=reader
secret_key=hunter2%%x
[drakmon]
system_disable=0
database=sqlite:////var/lib/drakcore/drakcore.db
listen_host=127.0.0.1
listen_port=6300
[drakrun]
raw_memory_dump=1
net_enable=1
out_interface=ens33
dns_server=use-gateway-address
syscall_filter=/etc/drakrun/syscalls.txt
analysis_timeout=300
use_root_uid=1
identity=karton.drakrun-lab
filters=[{"type": "sample", "stage": "recognized", "platform": "win64"}]
headers=[{"type": "analysis", "kind": "drakrun-lab"}]
sample_testing=1
test_filters=[{"type": "sample-test", "platform": "win64"}]
test_headers={"type": "analysis-test", "kind": "drakrun-lab"}
anti_hammering_threshold=5
attach_profiles=1
attach_apiscout_profile=1
xen_cmdline_check=ignore
[drakvuf_plugins]
_all_=apimon,filetracer,procmon
low=apimon, memdump
[draktestd]
modules=/opt/extractor-modules/
"""
"""Every key that v0.18.1 reads."""

EVERY_TOML_KEY = """
[redis]
host = "localhost"
port = 6379
username = "u"
password = "hunter2"
[network]
dns_server = "1.1.1.1"
out_interface = "ens33"
net_enable = true
[drakrun]
plugins = ["apimon", "memdump"]
default_timeout = 120
job_timeout_leeway = 600
net_enable = true
apimon_hooks_path = "/etc/drakrun/hooks.txt"
syscall_hooks_path = "/etc/drakrun/syscalls.txt"
extra_drakvuf_args = { "--fast-singlestep" = true }
extra_output_subdirs = ["x"]
no_post_restore = true
no_screenshotter = true
result_ttl = -1
gzip_syscalls = true
use_7zip = false
path_to_7zip = "C:/7z.exe"
worker_hostname = "rack-1"
no_shellexec = true
[capa]
analyze_drakmon_log = true
[memdump]
max_total_dumps_size = 1000
min_single_dump_size = 512
max_single_dump_size = 100
filter_out_system_pid = true
[s3]
bucket = "drakrun"
address = "http://s3:9000"
access_key = "k"
secret_key = "hunter2"
[karton]
enabled = true
config_path = "/etc/karton/karton.ini"
redis_ttl = 3600
poll_interval = 10
[preset.quick]
default_timeout = 10
"""
"""Every key that v0.21's ``DrakrunConfig`` has; of [capa], one."""


def read(directory: Path, *texts: str, suffix: str = ".ini") -> Imported:
    """What files of these texts give, ``0.ini`` the first."""
    paths = []
    for number, text in enumerate(texts):
        paths.append(directory / f"{number}{suffix}")
        paths[-1].write_text(text, encoding="utf-8")
    return importing.read(paths, minio_environment=directory / "minio.env")


def said(imported: Imported, section: str, key: str) -> list[tuple[Handling, str]]:
    """What was found of a key."""
    return [(one.handling, one.text) for one in imported.findings if (one.section, one.key) == (section, key)]


def test_every_key_of_v018_is_taken_over_with_its_meaning(tmp_path: Path) -> None:
    """Our settings hold each value of the old file that has a meaning here, and load."""
    imported = read(tmp_path, EVERY_INI_KEY)
    ours = Settings.model_validate(imported.values)
    assert ours.redis.address() == "redis://karton.example.org:6380/0"
    assert (ours.s3.address, ours.s3.bucket, ours.s3.access_key) == (
        "http://minio.example.org:9000",
        "samples",
        "reader",
    )
    assert ours.s3.secret_key is not None
    assert ours.s3.secret_key.get_secret_value() == "hunter2%x"
    assert not ours.drakmon.system_disable
    drakrun = ours.drakrun.model_dump()
    plain = Settings().drakrun.model_dump()
    assert [key for key in drakrun if drakrun[key] == plain[key]] == []
    assert (ours.plugins_of("high"), ours.plugins_of("low")) == (
        ("apimon", "filetracer", "procmon"),
        ("apimon", "memdump"),
    )


@pytest.mark.parametrize(
    ("table", "text", "suffix"),
    [(oldkeys.INI, EVERY_INI_KEY, ".ini"), (oldkeys.TOML, EVERY_TOML_KEY, ".toml")],
)
def test_every_old_key_gets_the_handling_of_the_table(
    tmp_path: Path, table: dict[tuple[str, str], oldkeys.Fate], text: str, suffix: str
) -> None:
    """Each key of a full old file is reported once, as the table says, and the table has no other keys."""
    imported = read(tmp_path, text, suffix=suffix)
    seen = {(one.section, one.key): one.handling for one in imported.findings}
    assert len(seen) == len(imported.findings)
    rows = set()
    for (section, key), handling in seen.items():
        row = (section, key) if (section, key) in table else (section, "*")
        rows.add(row)
        assert table[row].handling is handling, (section, key)
    assert rows == set(table)


@pytest.mark.parametrize("fate", [*oldkeys.INI.values(), *oldkeys.TOML.values()], ids=str)
def test_table_names_settings_that_exist(fate: oldkeys.Fate) -> None:
    """What is taken over goes to a key of ours; what is not has a reason."""
    if fate.target is None:
        assert fate.handling is not Handling.TAKEN
        assert len(fate.why.split()) > 2
        return
    section, key = fate.target
    model = section_model(section)
    assert section in OUR_SECTIONS
    assert model is None or key in model.model_fields


def test_v021_gives_what_is_not_its_own(tmp_path: Path) -> None:
    """Of drakrun's own file network, plugins, limits and host name are taken; its Redis and S3 are not."""
    imported = read(tmp_path, EVERY_TOML_KEY, suffix=".toml")
    assert imported.values == {
        "drakrun": {
            "dns_server": "1.1.1.1",
            "out_interface": "ens33",
            "net_enable": "1",
            "analysis_timeout": "120",
            "syscall_filter": "/etc/drakrun/syscalls.txt",
        },
        "drakvuf_plugins": {"_all_": "apimon,memdump"},
        "drakvuf": {"post_restore": "0", "screenshots": "0"},
        "drakcelery": {"host": "rack-1", "dumps_total_size": "1000", "dumps_single_size": "100"},
    }
    Settings.model_validate(imported.values)


def test_interface_default_is_drakruns_own_word(tmp_path: Path) -> None:
    """v0.21's out_interface = default is no interface of that name."""
    imported = read(tmp_path, '[network]\nout_interface = "default"\n', suffix=".toml")
    assert imported.values == {}
    assert said(imported, "network", "out_interface")[0][0] is Handling.DROPPED


@pytest.mark.parametrize(
    ("text", "section", "key", "words"),
    [
        ("[drakrun]\nanalysis_timeout=5000", "drakrun", "analysis_timeout", "at most 1200"),
        ("[drakrun]\nfilters=[{", "drakrun", "filters", "expected JSON"),
        (
            '[drakrun]\nheaders={"type": "analysis-raw", "kind": "drakrun-internal"}',
            "drakrun",
            "headers",
            "drak-postprocess",
        ),
        ("[drakvuf_plugins]\nlow=apimon,mymon", "drakvuf_plugins", "low", "mymon: no plugin"),
        ("[drakrun]\nnet_enabel=1", "drakrun", "net_enabel", "did you mean net_enable?"),
        ("[minio]\nsecure=maybe", "minio", "secure", "expected true or false"),
        ("[draktestd]\nzzz=1", "draktestd", "zzz", "does not know"),
    ],
)
def test_what_we_would_refuse_is_left_out_and_said(
    tmp_path: Path, text: str, section: str, key: str, words: str
) -> None:
    """A value that our settings refuse, or that would mean another thing, needs a decision."""
    imported = read(tmp_path, text)
    (handling, sentence), *_ = said(imported, section, key)
    assert handling is Handling.DECISION
    assert words in sentence
    assert Settings.model_validate(imported.values).drakrun == Settings().drakrun


def test_known_plugins_of_a_list_are_kept(tmp_path: Path) -> None:
    """Of a list with an unknown plugin, the others are taken over."""
    assert read(tmp_path, "[drakvuf_plugins]\nlow=apimon,mymon, memdump\n").values == {
        "drakvuf_plugins": {"low": "apimon,memdump"}
    }


def test_limits_of_the_same_file_count(tmp_path: Path) -> None:
    """A timeout is checked against the limit that stands further down in its own file."""
    text = "[drakrun]\nanalysis_timeout=5000\n[drakcelery]\nhard_time_limit=6000\n"
    assert read(tmp_path, text).values["drakrun"] == {"analysis_timeout": "5000"}


def test_first_file_counts(tmp_path: Path) -> None:
    """Where two files disagree the first one counts, and the difference is said."""
    imported = read(tmp_path, "[drakrun]\nuse_root_uid=1\n", "[drakrun]\nuse_root_uid=0\nnet_enable=1\n")
    assert imported.values == {"drakrun": {"use_root_uid": "1", "net_enable": "1"}}
    assert said(imported, "drakrun", "use_root_uid")[1] == (
        Handling.DECISION,
        f"differs from {tmp_path / '0.ini'}, which counts",
    )


def test_connections_are_not_mixed(tmp_path: Path) -> None:
    """Address and credentials of a server come from one file, even where a later one has more keys."""
    imported = read(tmp_path, "[redis]\nhost=a\n", "[redis]\nhost=b\npassword=hunter2\n", "[redis]\nhost=a\n")
    assert imported.values == {"redis": {"host": "a"}}
    assert [handling for handling, _ in said(imported, "redis", "host")] == [
        Handling.TAKEN,
        Handling.DECISION,
        Handling.TAKEN,
    ]
    assert said(imported, "redis", "password")[0][0] is Handling.DECISION


def test_credentials_of_the_old_minio(tmp_path: Path) -> None:
    """Blank credentials come from v0.18's minio.env; given ones do not."""
    (tmp_path / "minio.env").write_text("MINIO_ACCESS_KEY=key\n# note\nMINIO_SECRET_KEY=hun=ter2\n")
    blank = read(tmp_path, "[minio]\naddress=m:9000\naccess_key=\nsecret_key=\n")
    assert blank.values["s3"] == {
        "address": "https://m:9000",
        "access_key": "key",
        "secret_key": "hun=ter2",
    }
    given = read(tmp_path, "[minio]\naddress=m:9000\naccess_key=mine\nsecret_key=own\n")
    assert given.values["s3"]["access_key"] == "mine"


def test_s3_replaces_minio(tmp_path: Path) -> None:
    """A karton.ini with both sections gives its [s3], as in Karton."""
    imported = read(tmp_path, "[minio]\naddress=old\n[s3]\naddress=http://new:9000\n[dashboard]\na=b\n")
    assert imported.values == {"s3": {"address": "http://new:9000"}}
    assert said(imported, "minio", "address")[0][0] is Handling.DROPPED
    assert said(imported, "dashboard", "*") == [(Handling.DROPPED, "Karton's own; it stays where it is")]


def test_findings_keep_secrets(tmp_path: Path) -> None:
    """No finding and no repr of one shows a credential, whatever is wrong with it."""
    text = (
        "[redis]\nurl=mqtt://:hunter2@h\npassword=hunter2\n[celery]\nbroker_url=hunter2\n"
        "[minio]\naccess_key=hunter2\nsecret_key=hunter2\n"
    )
    assert "hunter2" not in repr([*read(tmp_path, text).findings])
    toml = read(tmp_path, EVERY_TOML_KEY, suffix=".toml")
    assert "hunter2" not in repr(toml)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ini", b"hunter2"),
        ("a.ini", b"[redis]\npassword=hunter2%x"),
        ("a.ini", b"[redis]\nhunter2"),
        ("a.ini", b"\xff"),
        ("a.toml", b"password = hunter2"),
        ("a.toml", b"\xff"),
    ],
)
def test_broken_file_is_a_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    """A file that is neither INI nor TOML is named, and not quoted."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        importing.read([path], minio_environment=tmp_path / "minio.env")
    assert str(caught.value).startswith(f"{path}: ")
    assert "hunter2" not in str(caught.value)


def test_vms_of_the_old_services(tmp_path: Path) -> None:
    """Each enabled drakrun service owned the VM of its number; other services own none."""
    wants = tmp_path / "etc/systemd/system/default.target.wants"
    wants.mkdir(parents=True)
    for name in ("drakrun@2", "drakrun-worker@10", "drak-system", "drak-postprocess@1", "drakrun@0", "ssh"):
        (wants / f"{name}.service").symlink_to("/nowhere")
    services = importing.enabled(tmp_path)
    assert "ssh.service" not in services
    assert len(services) == 5
    assert dict(importing.instances(services)) == {"drakrun-worker@10.service": 10, "drakrun@2.service": 2}
