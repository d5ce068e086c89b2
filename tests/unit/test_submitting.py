"""What somebody hands in: which files are meant, and zips that may be hostile."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

import click
import pytest
import pyzipper

from drakcelery.cli.submit import ask_password
from drakcelery.cli.waiting import hint
from drakcelery.errors import BadTask
from drakcelery.karton.kept import Wishes
from drakcelery.karton.submit import Sender
from drakcelery.operators.submitting import archives, found
from drakcelery.operators.submitting.archives import Passwords, is_zip, unpack
from drakcelery.operators.submitting.found import Found, Refused
from drakcelery.operators.submitting.submission import Submission
from drakcelery.settings import load

LARGEST = 10_000
Write = Callable[[pyzipper.AESZipFile], None]


# Files, folders, patterns


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with samples, and with what is none; the working directory is the one above."""
    for name in ("b.exe", "a.exe", "deep/c.js", ".hidden.exe", ".git/d.exe"):
        path = tmp_path / "x" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "x" / "link.exe").symlink_to("a.exe")
    (tmp_path / "x" / "loop").symlink_to(".")
    os.mkfifo(tmp_path / "x" / "pipe")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def meant(*words: str) -> list[str]:
    """The files that *words* mean."""
    return [
        one.label if isinstance(one, Found) else f"{one.label}: {one.reason}" for one in found.find(words)
    ]


def test_files_of_a_folder(folder: Path) -> None:  # noqa: ARG001 it is the working directory
    """All below it, in order, but for hidden ones, links and what is no file."""
    assert meant("x") == ["x/a.exe", "x/b.exe", "x/deep/c.js"]


def test_a_file_is_meant_once(folder: Path) -> None:
    """By whatever words; in the order of the first ones."""
    assert meant("x/b.exe", "x", str(folder / "x" / "a.exe"), "x/*.exe") == [
        "x/b.exe",
        "x/a.exe",
        "x/deep/c.js",
    ]


def test_patterns_that_the_shell_has_left(folder: Path) -> None:  # noqa: ARG001 as above
    """Two stars go through folders."""
    assert meant("x/**/*.js") == ["x/deep/c.js"]
    assert meant("*.zip") == ["*.zip: no file matches this pattern"]


def test_a_file_whose_name_looks_like_a_pattern(folder: Path) -> None:
    """It is the file."""
    (folder / "[a].exe").write_text("a")
    assert meant("[a].exe") == ["[a].exe"]


def test_what_is_no_file(folder: Path) -> None:
    """Each is refused with its reason, and no other is."""
    (folder / "empty").mkdir()
    assert meant("nope", "x/pipe", "empty", "a\0b", "x/a.exe") == [
        "nope: there is no such file or folder",
        "x/pipe: is neither a file nor a folder; `-` stands for standard input",
        "empty: there is no file in this folder (hidden ones and links do not count)",
        "a\ufffdb: cannot be read: embedded null byte",
        "x/a.exe",
    ]


def test_an_empty_word_is_not_the_working_directory(folder: Path) -> None:  # noqa: ARG001 as above
    """It comes of a shell's variable that is empty, and must not hand in all that lies around."""
    assert meant("") == ["'': is no name: an empty word names nothing"]


def test_a_refusal_names_its_file_once() -> None:
    """Whether its reason does so already, or not."""
    assert Refused(label="x/a.exe", reason="a.exe is empty").sentence == "a.exe is empty"
    assert Refused(label="x/a.exe", reason="there is no file").sentence == "x/a.exe: there is no file"


# Zips


@pytest.fixture
def to(tmp_path: Path) -> Path:
    """Where files are unpacked."""
    return tmp_path / "unpacked"


def make(path: Path, files: dict[str, bytes], *, password: bytes | None = None) -> Path:
    """A zip; encrypted as MalwareBazaar does if there is a *password*."""
    kind = pyzipper.WZ_AES if password else None
    with pyzipper.AESZipFile(path, "w", compression=pyzipper.ZIP_DEFLATED, encryption=kind) as file:
        if password:
            file.setpassword(password)
        for name, content in files.items():
            file.writestr(name, content)
    return path


def contents(archive: Path, to: Path, passwords: Passwords | None = None) -> dict[str, bytes | str]:
    """What is in a zip, or why it is not unpacked, by label."""
    unpacked = unpack(archive, "z.zip", to, passwords=passwords or Passwords(), largest=LARGEST)
    return {one.label: one.trouble or to.read_bytes() for one in unpacked}


@pytest.mark.parametrize("password", [None, b"infected"], ids=["open", "infected"])
def test_files_of_a_zip(password: bytes | None, tmp_path: Path, to: Path) -> None:
    """With the usual password, or without one; folders and hidden files are none."""
    files = {"a.exe": b"a" * 5000, "x/": b"", "x/b.js": b"b", "__MACOSX/._a.exe": b"-", ".DS_Store": b"-"}
    archive = make(tmp_path / "z", files, password=password)
    assert contents(archive, to) == {"z.zip: a.exe": b"a" * 5000, "z.zip: x/b.js": b"b"}
    (first, second) = unpack(archive, "z.zip", to, passwords=Passwords(), largest=LARGEST)
    assert (first.name, second.name) == ("a.exe", "b.js")


ZIP_CRYPTO = bytes.fromhex(
    "504b03040a000900000055027e5dcaa200de1c0000001000000005000000612e626174da5cf6d4a5cc228942ea0dc9ce"
    "05fb3b80424b65cb2a8acb15f55c0f504b0708caa200de1c00000010000000504b01021e030a000900000055027e5dca"
    "a200de1c00000010000000050000000000000001000000a48100000000612e626174504b050600000000010001003300"
    "00004f0000000000"
)
"""a.bat, encrypted with "infected" by Info-ZIP, in the way of the nineties."""


def test_the_old_way_to_encrypt(tmp_path: Path, to: Path) -> None:
    """As most zips of samples that people make themselves."""
    (tmp_path / "z").write_bytes(ZIP_CRYPTO)
    assert contents(tmp_path / "z", to) == {"z.zip: a.bat": b"rem zip crypto\r\n"}


@pytest.mark.parametrize("given", [(b"secret",), (b"wrong", b"secret")])
def test_another_password(given: tuple[bytes, ...], tmp_path: Path, to: Path) -> None:
    """Each that was given is tried after the usual one; nobody is asked."""

    def ask(_: str) -> bytes | None:
        raise AssertionError("nobody is to be asked")

    archive = make(tmp_path / "z", {"a.exe": b"a", "b.exe": b"b"}, password=b"secret")
    passwords = Passwords(given=given, ask=ask)
    assert contents(archive, to, passwords) == {"z.zip: a.exe": b"a", "z.zip: b.exe": b"b"}
    assert "secret" not in repr(passwords)


def test_a_password_is_asked_for_once(tmp_path: Path, to: Path) -> None:
    """For each zip, however many files it has."""
    asked = []

    def ask(name: str) -> bytes | None:
        asked.append(name)
        return b"secret"

    archive = make(tmp_path / "z", {"a.exe": b"a", "b.exe": b"b"}, password=b"secret")
    assert len(contents(archive, to, Passwords(ask=ask))) == 2
    assert asked == ["z.zip"]


@pytest.mark.parametrize("answer", [None, b"wrong"])
def test_no_password(answer: bytes | None, tmp_path: Path, to: Path) -> None:
    """All of it is refused."""
    archive = make(tmp_path / "z", {"a.exe": b"a"}, password=b"secret")
    with pytest.raises(BadTask, match=r"^no known password opens the zip z\.zip"):
        contents(archive, to, Passwords(ask=lambda _: answer))
    with pytest.raises(BadTask, match=r"'infected' was tried: --zip-password-file FILE gives another$"):
        contents(archive, to, Passwords(remedy=": --zip-password-file FILE gives another"))


@pytest.mark.parametrize(
    ("name", "mode", "said"),
    [
        ("/etc/cron.d/x", 0, "the name /etc/cron.d/x in it leads out of it"),
        ("../x.exe", 0, "the name ../x.exe in it leads out of it"),
        ("a\\..\\..\\x.exe", 0, "leads out of it"),
        ("C:\\x.exe", 0, "leads out of it"),
        ("x.exe", stat.S_IFLNK | 0o777, "x.exe in it is a link"),
        ("x.exe", stat.S_IFIFO | 0o777, "x.exe in it is no plain file"),
    ],
)
def test_a_zip_that_leads_elsewhere(name: str, mode: int, said: str, tmp_path: Path, to: Path) -> None:
    """All of it is refused, and nothing is unpacked."""
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    with zipfile.ZipFile(tmp_path / "z", "w") as file:
        file.writestr("good.exe", b"x")
        file.writestr(info, b"/etc/passwd")
    with pytest.raises(BadTask) as caught:
        contents(tmp_path / "z", to)
    assert said in str(caught.value)
    assert not to.exists()


def test_a_bomb(tmp_path: Path, to: Path) -> None:
    """A file that is too large is refused unseen; many that are large together, all of them."""
    small = make(tmp_path / "one", {"a.exe": bytes(LARGEST + 1), "b.exe": b"b"})
    assert contents(small, to) == {
        "z.zip: a.exe": f"the sample 'a.exe' has {LARGEST + 1} bytes; at most {LARGEST} are accepted "
        "([drakcelery] max_sample_size)",
        "z.zip: b.exe": b"b",
    }
    many = make(tmp_path / "many", {f"{number}.exe": bytes(LARGEST) for number in range(17)})
    with pytest.raises(BadTask, match=r"170000 bytes unpacked; at most 160000 are accepted, 16 times \[drak"):
        contents(many, to)


def test_a_zip_that_lies_about_sizes(tmp_path: Path, to: Path) -> None:
    """No more is unpacked than it says; then its checksum is wrong."""
    archive = make(tmp_path / "z", {"a.exe": bytes(LARGEST * 50)})
    said = archive.read_bytes().replace((LARGEST * 50).to_bytes(4, "little"), (9).to_bytes(4, "little"))
    archive.write_bytes(said)
    (trouble,) = contents(archive, to).values()
    assert str(trouble).startswith("a.exe cannot be unpacked: ")
    assert to.stat().st_size <= 9


def test_too_many_files(tmp_path: Path, to: Path) -> None:
    """As many as that are no samples for one command."""
    archive = make(tmp_path / "z", {f"{number}.exe": b"" for number in range(archives.MOST_FILES + 1)})
    with pytest.raises(BadTask, match="has 1001 files; at most 1000 are accepted"):
        contents(archive, to)


def test_a_long_list_of_files(tmp_path: Path, to: Path) -> None:
    """It would be read into memory as a whole."""
    with zipfile.ZipFile(tmp_path / "z", "w") as file:
        for number in range(100):
            file.writestr(f"{number}-{'x' * 50_000}", b"")
    with pytest.raises(BadTask, match="its list of files is too long"):
        contents(tmp_path / "z", to)


def test_what_needs_much_memory(tmp_path: Path, to: Path) -> None:
    """LZMA takes as much as the file says; such a file is not unpacked, others are."""
    with zipfile.ZipFile(tmp_path / "z", "w") as file:
        file.writestr("a.exe", b"a", zipfile.ZIP_LZMA)
        file.writestr("b.exe", b"b", zipfile.ZIP_BZIP2)
    unpacked = contents(tmp_path / "z", to)
    assert "packed in a way that is not unpacked here" in str(unpacked["z.zip: a.exe"])
    assert unpacked["z.zip: b.exe"] == b"b"


def outcome(archive: Path, to: Path) -> str:
    """What is said of a zip that may be refused as a whole."""
    try:
        return str(contents(archive, to))
    except BadTask as error:
        return str(error)


def test_damaged_zips(tmp_path: Path, to: Path) -> None:
    """Wherever a byte is wrong, there is a sentence and no other error."""
    good = make(tmp_path / "z", {"a.exe": b"abc" * 30}, password=b"infected").read_bytes()
    for place in range(len(good)):
        for value in (0, 0xFF):
            (tmp_path / "z").write_bytes(good[:place] + bytes([value]) + good[place + 1 :])
            assert "z.zip" in outcome(tmp_path / "z", to)


@pytest.mark.parametrize(
    ("name", "head", "magic", "expected"),
    [
        ("a.zip", b"PK\x03\x04", "Zip archive data", True),
        ("a.ZIP", b"PK\x03\x04", "Java archive data (JAR)", True),
        ("4f6b", b"PK\x03\x04", "Zip archive data, at least v5.1 to extract", True),
        ("a.docx", b"PK\x03\x04", "Zip archive data", False),
        ("a.jar", b"PK\x03\x04", "Zip archive data", False),
        ("a", b"PK\x03\x04", "Microsoft Word 2007+", False),
        ("a.zip", b"MZ\x90\0", "PE32 executable", False),
        ("zip", b"MZ\x90\0", "Zip archive data", False),
    ],
)
def test_what_is_a_zip(name: str, head: bytes, magic: str, expected: bool) -> None:
    """Documents and JARs are zips, too, and samples themselves."""
    assert is_zip(name, head, magic) is expected


def test_a_zip_within_a_zip(tmp_path: Path) -> None:
    """It is refused with what to do, and not for an extension that nobody can start."""
    inner = make(tmp_path / "inner.zip", {"a.exe": b"MZ"})
    archive = make(tmp_path / "outer.zip", {"inner.zip": inner.read_bytes()})
    sender = cast("Sender", None)  # nothing is sent
    submission = Submission(settings=load(environment={}), wishes=Wishes(), places=frozenset(), sender=sender)
    (refused,) = submission.push([Found(path=archive, name="outer.zip", label="outer.zip")])
    assert isinstance(refused, Refused)
    assert refused.sentence == (
        "outer.zip: inner.zip: a zip within a zip is not opened: unpack the outer one, and submit the inner "
        "one"
    )


def test_a_file_that_cannot_be_read_keeps_back_no_other(tmp_path: Path) -> None:
    """Its disk fails, perhaps: it is refused with its name, and the next has its turn."""
    broken, empty = Path("/proc/self/mem"), tmp_path / "empty.exe"  # the first one opens, and then fails
    empty.touch()
    sender = cast("Sender", None)  # nothing is sent
    submission = Submission(settings=load(environment={}), wishes=Wishes(), places=frozenset(), sender=sender)
    both = [Found(path=path, name=path.name, label=str(path)) for path in (broken, empty)]
    assert [one.sentence for one in submission.push(both) if isinstance(one, Refused)] == [
        "/proc/self/mem: cannot be read: Input/output error",
        "empty.exe is empty: nothing to analyse",
    ]


# What is said after Ctrl-C


def test_where_a_password_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the command as anywhere: click's own way would not say what was handed in before."""

    def interrupted(*_: object, **__: object) -> None:
        raise click.Abort

    monkeypatch.setattr(click, "prompt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask_password("x.zip")


def test_how_to_look_again() -> None:
    """The commands can be pasted as they stand, also where there are too many uids to repeat."""
    with click.Context(click.Command("submit")) as context:
        context.params = {"data_dir": Path("/a b")}
        assert hint(["one"]).splitlines()[1:] == [
            "The analysis goes on. Look again with",
            "  drakcelery wait one --data-dir '/a b'",
            "  drakcelery status one --data-dir '/a b'",
        ]
        assert hint(list("abcdef")).splitlines()[1:3] == [
            "6 analyses go on. Look again with (FILE has the uids that were printed)",
            "  drakcelery wait - --data-dir '/a b' < FILE",
        ]
