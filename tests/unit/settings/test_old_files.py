"""Files of DRAKVUF Sandbox v0.18, and files shared with other programs."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from drakcelery.settings import DrakrunSection
from tests.unit.settings.reading import complaint, read

V018_FILE = """
[redis]
host=karton.example.org
port=6380

[minio]
address=minio.example.org:9000
bucket=karton
secure=0
access_key=reader
secret_key=hunter2

[drakmon]
system_disable=1

[drakrun]
raw_memory_dump=0
net_enable=0
out_interface=
dns_server=8.8.8.8
syscall_filter=
analysis_timeout=300
use_root_uid=1
identity=karton.drakrun-lab
filters=[{"type": "sample", "stage": "recognized", "platform": "win64"}]
headers=[{"type": "analysis", "kind": "drakrun-lab"}]
sample_testing=1
test_filters=[{"type": "sample-test", "platform": "win64"}]
test_headers={"type": "analysis-test", "kind": "drakrun-lab"}
anti_hammering_threshold=0
attach_profiles=0
attach_apiscout_profile=0
xen_cmdline_check=fail

[drakvuf_plugins]
_all_=apimon,filetracer,procmon,
low=apimon, memdump

[draktestd]
modules=/opt/extractor-modules/
"""
"""The shape of v0.18's /etc/drakrun/config.ini, every key of it set."""


def test_v018_file_loads_with_its_meaning(tmp_path: Path) -> None:
    """A file with every key of v0.18 loads, and each value arrives where it belongs."""
    settings = read(tmp_path, V018_FILE)
    assert settings.redis.address() == "redis://karton.example.org:6380/0"
    assert settings.s3.address == "http://minio.example.org:9000"
    assert (settings.s3.access_key, settings.s3.bucket) == ("reader", "karton")
    assert settings.s3.secret_key == SecretStr("hunter2")
    assert settings.drakmon.system_disable
    assert settings.drakrun == DrakrunSection(
        analysis_timeout=300,
        use_root_uid=True,
        identity="karton.drakrun-lab",
        filters=({"type": "sample", "stage": "recognized", "platform": "win64"},),
        headers={"type": "analysis", "kind": "drakrun-lab"},
        sample_testing=True,
        test_filters=({"type": "sample-test", "platform": "win64"},),
        test_headers={"type": "analysis-test", "kind": "drakrun-lab"},
    )
    assert settings.plugins_of("high") == ("apimon", "filetracer", "procmon")
    assert settings.plugins_of("low") == ("apimon", "memdump")
    assert settings.source == tmp_path / "settings.ini"
    assert [notice.split(": ", 1)[1] for notice in settings.without_effect()] == [
        "[minio] is read as [s3]; write [s3], with http:// or https:// in address"
    ]


def test_sections_of_others_may_share_the_file(tmp_path: Path) -> None:
    """Karton's own sections are skipped, percent signs and all."""
    assert (
        read(tmp_path, "[karton]\nidentity=x\n[logging]\nformat=%(message)s\n[system]\n").without_effect()
        == []
    )


def test_unknown_section_is_remarked(tmp_path: Path) -> None:
    """A section of some other Karton service does no harm and is mentioned."""
    (notice,) = read(tmp_path, "[yaramatcher]\nrules=%x\n").without_effect()
    assert notice.endswith("settings.ini: [yaramatcher] is none of drakcelery's sections and is left alone")


@pytest.mark.parametrize("key", ["database", "listen_host", "listen_port"])
def test_retired_keys_say_what_to_use(tmp_path: Path, key: str) -> None:
    """A key of v0.18 that has no counterpart is honoured with a sentence."""
    (notice,) = read(tmp_path, f"[drakmon]\n{key}=x\n").without_effect()
    assert f"[drakmon] {key} has no effect: " in notice


def test_minio_yields_to_s3(tmp_path: Path) -> None:
    """Where both sections are there, [s3] counts, as in Karton, and that is said."""
    settings = read(tmp_path, "[minio]\naddress=old\n[s3]\naddress=http://new:9000\n")
    assert settings.s3.address == "http://new:9000"
    assert settings.without_effect()[0].endswith("[minio] has no effect: [s3] is there, and replaces it")


@pytest.mark.parametrize(
    ("section", "address"),
    [
        ("", "https://localhost:9000"),
        ("address=m:9000", "https://m:9000"),
        ("address=m:9000\nsecure=0", "http://m:9000"),
        ("address=m:9000\nsecure=No", "http://m:9000"),
        ("address=m:9000\nsecure=", "https://m:9000"),
        ("address=http://m:9000\nsecure=1", "http://m:9000"),
    ],
)
def test_minio_address_becomes_a_url(tmp_path: Path, section: str, address: str) -> None:
    """secure decides on http or https, unless the address says it; the default is https, as in Karton."""
    assert read(tmp_path, f"[minio]\n{section}\n").s3.address == address


def test_minio_credentials_of_drakcore(tmp_path: Path) -> None:
    """Blank credentials are taken from the environment file of v0.18's own MinIO, unless given elsewhere."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "minio.env").write_text("MINIO_ACCESS_KEY=key\n# note\n\nMINIO_SECRET_KEY=sec=ret\n")
    text = "[minio]\naddress=m:9000\naccess_key=\nsecret_key=\n"
    settings = read(tmp_path, text)
    assert settings.s3.access_key == "key"
    assert settings.s3.secret_key == SecretStr("sec=ret")
    given = read(tmp_path, text, DRAKCELERY_S3_ACCESS_KEY="mine", DRAKCELERY_S3_SECRET_KEY="own")
    assert given.s3.access_key == "mine"


def test_minio_credentials_that_cannot_be_read(tmp_path: Path) -> None:
    """A broken environment file gives a sentence with the way out."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "minio.env").write_bytes(b"\xff")
    said = complaint(tmp_path, "[minio]\naddress=m:9000\n")
    assert said.startswith("etc/minio.env: expected text in UTF-8")
    assert said.endswith("fill them in, or let this user read the file")


def test_wrong_value_in_minio_names_minio(tmp_path: Path) -> None:
    """A key that came from [minio] is reported with the section that is in the file."""
    said = complaint(tmp_path, "[minio]\naddress=m m\n")
    assert said.startswith("settings.ini ([minio]): [s3] address = 'https://m m': expected http://")
