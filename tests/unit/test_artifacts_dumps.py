"""Packing dumps: caps, names, links, and a zip that others can read."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tempfile
import threading
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from isal import isal_zlib

from drakcelery.artifacts import deflate, zipped
from drakcelery.artifacts import dumps as dumps_module
from drakcelery.artifacts.dumps import DumpsPacked, pack_dumps
from drakcelery.artifacts.output import Output
from drakcelery.artifacts.untrusted import UntrustedFileError
from drakcelery.model.manifest import Artifact
from tests.conftest import require

MIB = 1024**2
MEMORY = Path("/dev/shm")  # noqa: S108 a directory of our own is made in it
"""What is sparse there is read ten times as fast as from a disk, whose cache would hold all of it."""
PACKAGES = {"unzip": "apt-get install unzip", "7z": "apt-get install p7zip-full"}


def name(base: int, digest: int = 0xABC) -> str:
    """The name that DRAKVUF gives to a dump."""
    return f"{base:x}_{digest:016x}"


def write(directory: Path, files: dict[str, bytes]) -> Path:
    """Write dumps, one second apart."""
    directory.mkdir(exist_ok=True)
    for second, (file, content) in enumerate(files.items()):
        (directory / file).write_bytes(content)
        os.utime(directory / file, (second, second))
    return directory


def pack(
    directory: Path, total: int = 500 * MIB, single: int = 32 * MIB
) -> tuple[DumpsPacked, dict[str, bytes]]:
    """Pack *directory*; the result, and the members as the standard library reads them."""
    target = directory.parent / "dumps.zip"
    result = pack_dumps(directory, target, total_size=total, single_size=single)
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    return result, members


def test_members_and_metadata(tmp_path: Path) -> None:
    """Dumps lie below dumps/ in order of their time, and the metadata names their base addresses."""
    content = os.urandom(3 * MIB) + bytes(3 * MIB)
    files = {name(0x7FF000): content, name(0x1000): b"", name(0x2000): b"x"}
    result, members = pack(write(tmp_path / "d", files))
    assert members == {f"dumps/{key}": value for key, value in files.items()}
    assert list(members) == [f"dumps/{key}" for key in files]
    assert result.metadata == (
        {"filename": f"dumps/{name(0x7FF000)}", "base_address": "0x7ff000"},
        {"filename": f"dumps/{name(0x1000)}", "base_address": "0x1000"},
        {"filename": f"dumps/{name(0x2000)}", "base_address": "0x2000"},
    )
    assert (result.kept, result.dropped_count, result.dropped_bytes) == (3, 0, 0)


@pytest.mark.parametrize("exists", [True, False])
def test_nothing_dumped_gives_an_empty_folder(tmp_path: Path, exists: bool) -> None:
    """Without dumps, or without their directory, the zip holds the folder that consumers look for."""
    if exists:
        (tmp_path / "d").mkdir()
    result, members = pack(tmp_path / "d")
    assert members == {"dumps/": b""}
    assert result.metadata == ()


def test_caps_let_the_first_dumps_win(tmp_path: Path) -> None:
    """What is too large or no longer fits is dropped and counted; a later dump that fits is kept."""
    files = {
        name(0x1000): b"a" * 60,
        name(0x2000): b"b" * 101,
        name(0x3000): b"c" * 50,
        name(0x4000): b"d" * 40,
    }
    result, members = pack(write(tmp_path / "d", files), total=100, single=100)
    assert sorted(members) == [f"dumps/{name(0x1000)}", f"dumps/{name(0x4000)}"]
    assert result.reasons == {"single_size": 1, "total_size": 1}
    assert (result.kept, result.dropped_count, result.dropped_bytes) == (2, 2, 151)


def test_too_many_dumps_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit of members the later dumps are dropped."""
    monkeypatch.setattr(dumps_module, "MEMBER_LIMIT", 2)
    result, members = pack(write(tmp_path / "d", {name(base): b"xyz" for base in (0x3000, 0x1000, 0x2000)}))
    assert list(members) == [f"dumps/{name(0x3000)}", f"dumps/{name(0x1000)}"]
    assert (result.reasons, result.dropped_bytes) == ({"member_limit": 1}, 3)


def test_other_names_are_kept_without_metadata_or_dropped(tmp_path: Path) -> None:
    """A harmless other name is stored as it is, an unsafe one is dropped; neither silently."""
    files = {
        name(0x1000).upper(): b"a",
        f"{name(0x1000)}.metadata": b"b",
        ".hidden": b"c",
        "a b;\n$(x)": b"dd",
    }
    result, members = pack(write(tmp_path / "d", files))
    assert sorted(members) == sorted([f"dumps/{name(0x1000).upper()}", f"dumps/{name(0x1000)}.metadata"])
    assert result.metadata == ()
    assert (result.reasons, result.dropped_bytes) == ({"name": 2}, 3)


def test_links_and_special_files_are_dropped(tmp_path: Path) -> None:
    """Neither the target of a link nor a pipe, a directory or a second name of a file gets into the zip."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    directory = write(tmp_path / "d", {name(0x1000): b"fine"})
    (directory / name(0x2000)).symlink_to(secret)
    (directory / name(0x3000)).hardlink_to(secret)
    (directory / name(0x4000)).mkdir()
    os.mkfifo(directory / name(0x5000))
    result, members = pack(directory)
    assert members == {f"dumps/{name(0x1000)}": b"fine"}
    assert result.reasons == {"not_regular": 4}


@pytest.mark.parametrize("kind", ["symlink", "file"])
def test_a_directory_that_is_none_is_refused(tmp_path: Path, kind: str) -> None:
    """The dumps directory itself may be no link, and no file."""
    if kind == "symlink":
        (tmp_path / "d").symlink_to("/etc")
    else:
        (tmp_path / "d").write_bytes(b"")
    with pytest.raises(UntrustedFileError, match="is not a directory"):
        pack_dumps(tmp_path / "d", tmp_path / "zip", total_size=1, single_size=1)
    assert not (tmp_path / "zip").exists()


def test_equal_dumps_give_equal_bytes(tmp_path: Path) -> None:
    """Packing again gives the same zip byte for byte."""
    directory = write(tmp_path / "d", {name(0x1000): b"a" * 5000, name(0x2000): b"b"})
    pack(directory)
    first = (tmp_path / "dumps.zip").read_bytes()
    pack(directory)
    assert (tmp_path / "dumps.zip").read_bytes() == first


@pytest.mark.parametrize("block", [300, 1000, MIB])
@pytest.mark.parametrize(
    ("program", "option", "said"), [("unzip", "-t", "No errors detected"), ("7z", "t", "Everything is Ok")]
)
def test_others_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, option: str, said: str, block: int
) -> None:
    """The zip passes Info-ZIP's and 7-Zip's own tests, zip64 headers and data descriptors included."""
    require(shutil.which(program) is not None, f"{program} is not installed (Debian: {PACKAGES[program]})")
    monkeypatch.setattr(zipped, "_ZIP64_FROM", 2000)
    monkeypatch.setattr(deflate, "BLOCK", block)
    sizes = (5000, 1, 0, 999, 1000, 1001, 2000, 1_000_000)
    pack(write(tmp_path / "d", {name(0x1000 * size): os.urandom(size) for size in sizes}))
    command = (program, option, str(tmp_path / "dumps.zip"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stdout) == (0, True), done.stdout + done.stderr


def test_a_dump_in_many_blocks_is_hashed_on_the_way(tmp_path: Path) -> None:
    """Whoever waits is told of the complete zip under its name, with the size and sha256 that it has."""
    told: list[tuple[Artifact, bytes]] = []
    target = tmp_path / "dumps.zip"
    directory = write(tmp_path / "d", {name(0x1000): os.urandom(MIB) + bytes(9 * MIB), name(0x2000): b"x"})
    pack_dumps(
        directory,
        target,
        total_size=20 * MIB,
        single_size=20 * MIB,
        ready=lambda artifact: told.append((artifact, target.read_bytes())),
    )
    ((artifact, data),) = told
    assert artifact == Artifact(name="dumps.zip", size=len(data), sha256=hashlib.sha256(data).hexdigest())


@pytest.mark.slow
def test_a_dump_beyond_four_gib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dump of more than 4 GiB is what it was when it is read again (it is sparse)."""
    for name_in_zipfile, faster in (("zlib", isal_zlib), ("crc32", isal_zlib.crc32)):
        monkeypatch.setattr(zipfile, name_in_zipfile, faster)  # five times as fast
    size = 2**32 + MIB + 5
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        with (Path(directory) / name(0x1000)).open("wb") as dump:
            dump.truncate(size)
            dump.seek(size - 3)
            dump.write(b"end")
        pack_dumps(Path(directory), tmp_path / "dumps.zip", total_size=2**33, single_size=2**33)
    with zipfile.ZipFile(tmp_path / "dumps.zip") as archive:
        assert archive.testzip() is None
        assert archive.infolist()[0].file_size == size


def test_a_dump_that_shrinks_or_grows_meanwhile(tmp_path: Path) -> None:
    """What is in the zip is what was read: never more than was there at first, less where less was left."""
    with (tmp_path / "zip").open("wb") as file, zipped.ZipWriter(file) as writer:
        assert writer.add("grown", io.BytesIO(b"x" * 3 * MIB), 2 * MIB) == 2 * MIB
        assert writer.add("shrunk", io.BytesIO(b"x" * 2 * MIB), 3 * MIB) == 2 * MIB
        assert writer.add("emptied", io.BytesIO(), 5) == 0
        writer.finish()
    with zipfile.ZipFile(tmp_path / "zip") as archive:
        assert archive.testzip() is None
        assert [info.file_size for info in archive.infolist()] == [2 * MIB, 2 * MIB, 0]


def test_nothing_is_left_of_a_zip_that_failed(tmp_path: Path) -> None:
    """A dump that cannot be read stops it; neither half a zip nor a thread stays."""
    before = set(threading.enumerate())

    class Unreadable(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > MIB:
                raise OSError("input/output error")
            return super().read(size)

    with (
        pytest.raises(OSError, match="input/output"),
        Output(tmp_path / "dumps.zip") as file,
        zipped.ZipWriter(file) as writer,
    ):
        writer.add("x", Unreadable(bytes(9 * MIB)), 9 * MIB)
    assert list(tmp_path.iterdir()) == []
    assert set(threading.enumerate()) == before


def test_more_members_than_a_plain_zip_holds(tmp_path: Path) -> None:
    """Beyond 65535 members the end of the zip is a zip64 one."""
    with (tmp_path / "zip").open("wb") as file, zipped.ZipWriter(file) as writer:
        for number in range(70_000):
            writer.add_folder(f"{number}/")
        writer.finish()
    with zipfile.ZipFile(tmp_path / "zip") as archive:
        assert len(archive.infolist()) == 70_000


def test_offsets_beyond_four_gib(tmp_path: Path) -> None:
    """Members and the directory behind 4 GiB are found (the file is sparse)."""
    with (tmp_path / "zip").open("wb") as file, (tmp_path / "dump").open("w+b") as dump:
        dump.write(b"hello")
        dump.seek(0)
        file.seek(2**32 + 7)
        with zipped.ZipWriter(file) as writer:
            writer.add("dumps/x", dump, 5)
            writer.finish()
    with zipfile.ZipFile(tmp_path / "zip") as archive:
        assert archive.read("dumps/x") == b"hello"


@given(
    st.dictionaries(st.integers(0x1000, 2**64 - 1), st.binary(max_size=300), max_size=8), st.integers(1, 900)
)
def test_the_caps_hold(tmp_path_factory: pytest.TempPathFactory, dumps: dict[int, bytes], total: int) -> None:
    """Whatever is dumped: nothing exceeds a cap, and kept and dropped together are all of it."""
    files = {name(base): content for base, content in dumps.items()}
    result, members = pack(write(tmp_path_factory.mktemp("dumps") / "d", files), total=total, single=200)
    sizes = [len(content) for content in members.values()]
    assert sum(sizes) <= total
    assert max(sizes, default=0) <= 200
    assert result.kept + result.dropped_count == len(files)
    assert sum(sizes) + result.dropped_bytes == sum(map(len, files.values()))
    assert {entry["filename"] for entry in result.metadata} == set(members) - {"dumps/"}
