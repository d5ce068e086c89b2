"""The guest's memory and the host's profiles, where an engine left them."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest

from drakcelery.artifacts import extras
from drakcelery.artifacts.extras import pack_extras
from drakcelery.artifacts.untrusted import UntrustedFileError
from drakcelery.karton.analysis_task import artifact_resource
from drakcelery.model.manifest import Artifact


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """What the engine left; *out* lies beside it."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "out").mkdir()
    return tmp_path / "raw"


def test_nothing_is_packed_where_nothing_is(raw: Path) -> None:
    """An emulator leaves nothing of it."""
    pack_extras(raw, raw.parent / "out")
    assert list((raw.parent / "out").iterdir()) == []


def test_the_names_are_those_of_v018(raw: Path) -> None:
    """The memory deflated, the profiles as the directory that Karton unpacks."""
    (raw / "profiles").mkdir()
    (raw / "profiles" / "native_ntdll_profile.json").write_text("{}")
    (raw / "post_sample.raw_memdump").write_bytes(bytes(3_000_000))
    (raw / "static_apiscout_profile.json").write_text("[]")
    out = raw.parent / "out"
    pack_extras(raw, out)
    assert {path.name for path in out.iterdir()} == {
        *("profiles", "post_sample.raw_memdump.gz", "static_apiscout_profile.json")
    }
    packed = (out / "post_sample.raw_memdump.gz").read_bytes()
    assert gzip.decompress(packed) == bytes(3_000_000)
    assert packed[4:8] == bytes(4), "a time would make equal memory unequal files"
    with zipfile.ZipFile(out / "profiles") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["native_ntdll_profile.json"]


def test_traces_are_packed(raw: Path) -> None:
    """What ipt and codemon wrote is ipt.zip, without names that the guest made up; nothing gives no zip."""
    (raw / "ipt").mkdir()
    pack_extras(raw, raw.parent / "out")
    assert list((raw.parent / "out").iterdir()) == []
    (raw / "ipt" / "ipt_stream_vcpu0").write_bytes(b"trace")
    (raw / "ipt" / "a b").write_bytes(b"x")
    pack_extras(raw, raw.parent / "out")
    with zipfile.ZipFile(raw.parent / "out" / "ipt.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {"ipt/ipt_stream_vcpu0": b"trace"}


def test_screenshots_are_packed(raw: Path) -> None:
    """The zip unpacks to where v0.21's web application has them, beside the list of them (H6, H7)."""
    (raw / "screenshots").mkdir()
    (raw / "screenshots.json").write_text("")
    assert pack_extras(raw, raw.parent / "out").screenshots == 0
    assert list((raw.parent / "out").iterdir()) == []
    for number in (1, 2, 10):
        (raw / "screenshots" / f"screenshot_{number}.png").write_bytes(b"\x89PNG%d" % number)
    (raw / "screenshots" / "a b.png").write_bytes(b"x")
    lines = '{"timestamp": 1.5, "image_hash": "ab", "index": 1}\n'
    (raw / "screenshots.json").write_text(lines)
    assert pack_extras(raw, raw.parent / "out").screenshots == 3
    with zipfile.ZipFile(raw.parent / "out" / "screenshots.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            f"screenshots/screenshot_{number}.png": b"\x89PNG%d" % number for number in (1, 2, 10)
        }
    assert (raw.parent / "out" / "screenshots.json").read_text() == lines


def test_screenshots_are_bounded(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first are kept, as far as number and bytes allow, whatever was left there (I6)."""
    monkeypatch.setattr(extras, "MOST_SCREENSHOTS", 4)
    monkeypatch.setattr(extras, "MOST_SCREENSHOT_BYTES", 100)
    (raw / "screenshots").mkdir()
    for number in (1, 2, 10, 11, 12):
        (raw / "screenshots" / f"screenshot_{number}.png").write_bytes(bytes(30))
    assert pack_extras(raw, raw.parent / "out").screenshots == 3
    with zipfile.ZipFile(raw.parent / "out" / "screenshots.zip") as archive:
        assert archive.namelist() == [f"screenshots/screenshot_{number}.png" for number in (1, 2, 10)]


@pytest.mark.parametrize(
    "name",
    ["profiles", "ipt", "post_sample.raw_memdump", "static_apiscout_profile.json", "screenshots"],
)
def test_a_link_is_not_followed(raw: Path, name: str) -> None:
    """Whoever can write to the output must not choose what is uploaded."""
    (raw / name).symlink_to("/etc/passwd")
    with pytest.raises(UntrustedFileError):
        pack_extras(raw, raw.parent / "out")


def test_karton_is_told_which_is_a_directory() -> None:
    """Consumers call ``extract_temporary`` on it, as with the profiles of v0.18."""
    resources = [
        artifact_resource(Artifact(name=name, size=1, sha256="0" * 64), bucket="drakrun", uid="a").to_dict()
        for name in ("profiles", "dumps.zip")
    ]
    assert [resource["flags"] for resource in resources] == [["Directory"], []]
