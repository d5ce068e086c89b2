"""Files in the report: which lines say that one was changed, in each version's words, and which do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from drakcelery.behaviour.report import FileActivity
from tests.guest_log import Log, reported
from tests.hostile import Line

PATH = "\\??\\C:\\Users\\user\\a.txt"
READING = "FILE_READ_DATA | SYNCHRONIZE"


def changed(log: Log, tmp_path: Path) -> dict[str, FileActivity]:
    """The files of the report, by their paths."""
    return {one.path: one for one in reported(log, tmp_path).files}


def actions(log: Log, tmp_path: Path) -> dict[str, tuple[str, ...]]:
    """What was done to each file."""
    return {path: one.actions for path, one in changed(log, tmp_path).items()}


@pytest.mark.parametrize("status", ["FAIL", "0xc0000022", "0xffffffffc0000022", 0xC0000022])
@pytest.mark.parametrize("method", ["NtCreateFile", "NtSetInformationFile", "rename"])
def test_what_failed_was_not_done(tmp_path: Path, method: str, status: object) -> None:
    """By the words of the emulator and of DRAKVUF before March 2023, and by its numbers since then."""
    log = Log().started()
    if method == "NtCreateFile":
        log.add("filetracer", method, FileName=PATH, CreateDisposition="CREATE_ALWAYS", Status=status)
    else:
        kind = "FileRenameInformation" if method == "rename" else "FileDispositionInformation"
        names: Line = {"FileName": PATH, "FileSrc": PATH, "FileDst": PATH + "x"}
        log.add("filetracer", "NtSetInformationFile", Operation=kind, **names, Status=status)
    assert not changed(log, tmp_path)


@pytest.mark.parametrize("status", ["SUCCESS", "0x0", "0x104", 0])
def test_what_succeeded_was_done(tmp_path: Path, status: object) -> None:
    """A number that is no error is success, also one that tells more (``STATUS_REPARSE``)."""
    log = Log().started()
    log.add("filetracer", "NtCreateFile", FileName=PATH, CreateDisposition="CREATE_ALWAYS", Status=status)
    gone: Line = {"Operation": "FileDispositionInformation", "FileName": PATH, "Status": status}
    log.add("filetracer", "NtSetInformationFile", **gone)
    assert actions(log, tmp_path) == {PATH[4:]: ("created", "deleted")}


@pytest.mark.parametrize(
    ("fields", "done"),
    [
        ({"CreateOptions": "FILE_DIRECTORY_FILE"}, ("created",)),
        ({"CreateOptions": "FILE_NON_DIRECTORY_FILE"}, ()),
        ({"CreateOptions": "FILE_DIRECTORY_FILE", "CreateDisposition": "FILE_OPEN"}, ()),
        ({"CreateDisposition": "FILE_OPEN | FILE_OVERWRITE | FILE_OVERWRITE_IF"}, ("created",)),
        ({"CreateDisposition": "TRUNCATE_EXISTING"}, ("written",)),
        ({"CreateDisposition": "OPEN_EXISTING"}, ()),
    ],
)
def test_without_a_result(tmp_path: Path, fields: Line, done: tuple[str, ...]) -> None:
    """The emulator, and DRAKVUF before March 2023, tell only what was asked for."""
    log = Log().started()
    log.add("filetracer", "NtCreateFile", FileName=PATH, DesiredAccess="GENERIC_READ", **fields)
    assert actions(log, tmp_path) == ({PATH[4:]: done} if done else {})


@pytest.mark.parametrize(
    ("result", "disposition", "done"),
    [
        (3, "FILE_OPEN | FILE_OVERWRITE | FILE_OVERWRITE_IF", ("written",)),
        (2, "FILE_OPEN | FILE_CREATE | FILE_OPEN_IF", ("created",)),
        (1, "FILE_OPEN | FILE_CREATE | FILE_OPEN_IF", ()),
        (0, "", ("written",)),
        (0, "FILE_OPEN", ()),
    ],
)
def test_made_or_emptied_to_be_read(
    tmp_path: Path, result: int, disposition: str, done: tuple[str, ...]
) -> None:
    """With rights that change nothing; 0 is ``FILE_SUPERSEDED``, but what a device gives as well."""
    log = Log().started()
    fields: Line = {"FileName": PATH, "IoStatusBlock": result, "DesiredAccess": READING, "Status": "0x0"}
    log.add("filetracer", "NtCreateFile", **fields, CreateDisposition=disposition)
    assert actions(log, tmp_path) == ({PATH[4:]: done} if done else {})


def test_the_options_of_an_opening(tmp_path: Path) -> None:
    """NtOpenFile has them under another key; a device that it opens is not written."""
    log = Log().started()
    fields: Line = {"DesiredAccess": "DELETE", "Status": "0x0"}
    options = "FILE_NON_DIRECTORY_FILE | FILE_DELETE_ON_CLOSE"
    log.add("filetracer", "NtOpenFile", FileName=PATH, IoStatusBlock=1, **fields, OpenOptions=options)
    log.add("filetracer", "NtOpenFile", FileName="\\Device\\Afd", IoStatusBlock=0, **fields)
    assert actions(log, tmp_path) == {PATH[4:]: ("deleted",)}


def opened(log: Log, path: str, *, rights: str) -> None:
    """A file that is there was opened as the handle 0x10."""
    fields: Line = {"FileName": path, "FileHandle": "0x10", "IoStatusBlock": 1, "DesiredAccess": rights}
    log.add("filetracer", "NtCreateFile", **fields, CreateDisposition="FILE_OPEN", Status="0x0")


def test_a_handle_that_stands_for_another_file_by_now(tmp_path: Path) -> None:
    """Its later opening has rights that change nothing, and is not read: the line's own name counts."""
    log = Log().started()
    opened(log, PATH, rights="FILE_WRITE_DATA")
    opened(log, "\\??\\C:\\other.txt", rights=READING)
    log.add("filetracer", "NtWriteFile", FileName="\\other.txt", FileHandle="0x10")
    assert actions(log, tmp_path) == {"\\other.txt": ("written",)}


def test_a_renamed_file(tmp_path: Path) -> None:
    """The old and the new name have the drive of the handle, and what is written later is the new file."""
    log = Log().started()
    opened(log, PATH, rights="FILE_WRITE_DATA | DELETE")
    log.add("filetracer", "NtWriteFile", FileName="\\Users\\user\\a.txt", FileHandle="0x10")
    names: Line = {"FileSrc": "\\Users\\user\\a.txt", "FileDst": "\\Users\\user\\b.exe", "FileHandle": "0x10"}
    log.add("filetracer", "NtSetInformationFile", Operation="FileRenameInformation", **names)
    log.add("filetracer", "NtWriteFile", FileName="\\Users\\user\\b.exe", FileHandle="0x10")
    found = changed(log, tmp_path)
    assert found["C:\\Users\\user\\a.txt"].renamed_to == "C:\\Users\\user\\b.exe"
    assert {path: one.actions for path, one in found.items()} == {
        "C:\\Users\\user\\a.txt": ("written", "renamed"),
        "C:\\Users\\user\\b.exe": ("written",),
    }


def test_the_hash_of_a_file_by_its_path_without_drive(tmp_path: Path) -> None:
    """So fileextractor names it."""
    log = Log().started()
    log.add("filetracer", "NtCreateFile", FileName=PATH, IoStatusBlock=2, DesiredAccess="GENERIC_WRITE")
    log.add("fileextractor", "NtClose", FileName="\\Users\\user\\a.txt", FileHash="ab" * 32)
    assert changed(log, tmp_path)[PATH[4:]].sha256 == "ab" * 32


def test_the_hash_of_a_file_that_was_open_at_the_end(tmp_path: Path) -> None:
    """DRAKVUF tells it when it ends, in lines of another name and without TimeStamp; the last one counts."""
    log = Log().started()
    log.add("filetracer", "NtCreateFile", FileName=PATH, IoStatusBlock=2, DesiredAccess="GENERIC_WRITE")
    log.add("fileextractor", "NtWriteFile", FileName="\\Users\\user\\a.txt", FileHash="ab" * 32)
    head: Line = {"Plugin": "fileextractor_close", "Time": "1700000009.500000", "PID": 200, "PPID": 100}
    log.lines.append({**head, "FileName": "\\Users\\user\\a.txt", "FileHash": "cd" * 32})
    assert changed(log, tmp_path)[PATH[4:]].sha256 == "cd" * 32


def test_a_long_path_keeps_its_end(tmp_path: Path) -> None:
    """What Windows does with it depends on that."""
    log = Log().started()
    startup = "\\Start Menu\\Programs\\Startup\\"
    path = "\\??\\C:" + "\\folder" * 300 + startup + "x.exe"
    log.add("filetracer", "NtCreateFile", FileName=path, IoStatusBlock=2, DesiredAccess="GENERIC_WRITE")
    [(shown, one)] = changed(log, tmp_path).items()
    assert (len(shown), shown[:10], shown[-5:]) == (1020, "C:\\folder\\", "x.exe")
    assert (one.executable, one.autostart) == (True, "Startup folder")
