"""Files: what filetracer, fileextractor and filedelete say of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from drakcelery.behaviour import autostart
from drakcelery.behaviour.events import Event
from drakcelery.behaviour.report import FileActivity
from drakcelery.behaviour.tables import Budget, Row, Table, Who

MOST = 5000
_MOST_HANDLES = 4096
_OPENING = frozenset({b"NtCreateFile", b"NtOpenFile"})
_CREATED, _OVERWRITTEN, _SUPERSEDED = 2, 3, 0
"""``IoStatusBlock.Information`` of a file that was opened (``FILE_CREATED`` and its kin, ``wdm.h``)."""
_CREATING = ("CREATE_NEW", "CREATE_ALWAYS", "FILE_CREATE", "FILE_SUPERSEDE", "FILE_OVERWRITE_IF")
"""What the emulator says instead: it knows no result of that kind."""
_RIGHTS = (b"GENERIC_WRITE", b"GENERIC_ALL", b"WRITE_DATA", b"APPEND_DATA", b"DELETE", b"ADD_FILE")
"""Rights without which a handle changes nothing; those that v0.21 asks for, and two more."""


class Files:
    """The files that were changed, and which handles stand for them."""

    def __init__(self, budget: Budget, changed: Callable[[Event, str], None]) -> None:
        """*changed* is told of each file that is created or written."""
        self.table = Table("files", MOST, budget)
        self._changed = changed
        self._paths: dict[tuple[int | None, int], str] = {}
        self._harmless: dict[bytes, bool] = {}
        """By the end of a line with what was asked for: whether that changes nothing."""
        self.methods: Mapping[bytes, Callable[[Event], None]] = {
            b"NtCreateFile": self._opened,
            b"NtOpenFile": self._opened,
            b"NtWriteFile": self._written,
            b"NtSetInformationFile": self._set,
            b"NtDeleteFile": self._deleted,
        }

    def says_nothing(self, method: bytes, line: bytes) -> bool:
        """Whether a file is only opened to be read, or asked about; told by its bytes, as most are so."""
        if method == b"NtSetInformationFile":
            return b"FileDisp" not in line and b"FileRename" not in line
        if method not in _OPENING:
            return False
        at = line.find(b'"DesiredAccess"')
        if at < 0:
            return b"CreateOptions" not in line
        flags = line[at:]  # from there on a line has flags only, of which a guest uses few combinations
        harmless = self._harmless.get(flags)
        if harmless is None:
            rights = flags[: flags.find(b'"', flags.find(b'"', 15) + 1)]
            harmless = not any(right in rights for right in _RIGHTS) and b'"FILE_CREATE"' not in line
            if len(self._harmless) < _MOST_HANDLES and len(flags) < 1024:
                self._harmless[flags] = harmless
        return harmless

    def _opened(self, event: Event) -> None:
        if event.number("Status") not in (None, 0):
            return
        path, handle = _plain(event.text("FileName")), event.number("FileHandle")
        if not path:
            return
        if handle is not None:
            if len(self._paths) >= _MOST_HANDLES:
                del self._paths[next(iter(self._paths))]
            self._paths[event.pid, handle] = path
        result = event.number("IoStatusBlock")
        if result == _CREATED or (result is None and _creates(event)):
            self._add(event, path, "created")
        elif result in (_OVERWRITTEN, _SUPERSEDED):
            self._add(event, path, "written")
        if "DELETE_ON_CLOSE" in event.text("CreateOptions"):
            self._add(event, path, "deleted")

    def _written(self, event: Event) -> None:
        self._add(event, self._path(event), "written")

    def _deleted(self, event: Event) -> None:
        self._add(event, self._path(event), "deleted")

    def _set(self, event: Event) -> None:
        operation = event.text("Operation")
        if operation.startswith("FileDispositionInformation"):
            self._deleted(event)
        elif operation.startswith("FileRenameInformation"):
            row = self._add(event, _plain(event.text("FileSrc")), "renamed")
            if row is not None:
                row.details["renamed_to"] = _plain(event.text("FileDst"))

    def extracted(self, event: Event) -> None:
        """fileextractor took its content, whose hash newer versions tell."""
        digest = event.text("FileHash", 64).lower()
        row = self.table.find(_plain(event.text("FileName")).lower())
        if row is not None and len(digest) == 64 and set(digest) <= set("0123456789abcdef"):
            row.details["sha256"] = digest

    def _path(self, event: Event) -> str:
        """With its drive, where the handle was seen to be opened: later lines lack it."""
        named = _plain(event.text("FileName"))
        if named[1:2] == ":":
            return named
        handle = event.number("FileHandle")
        return self._paths.get((event.pid, handle), named) if handle is not None else named

    def _add(self, event: Event, path: str, action: str) -> Row | None:
        if not path:
            return None
        row = self.table.add(event, path.lower(), shown=(path,))
        if row is None:
            return None
        actions = row.details.setdefault("actions", {})
        if action not in actions:
            actions[action] = None
            if action in ("created", "written"):
                self._changed(event, path)
        return row

    def report(self, processes: Who) -> Iterator[FileActivity]:
        """What is known of each."""
        for row in self.table:
            [path] = row.key
            yield FileActivity(
                path=path,
                actions=tuple(row.details["actions"]),
                renamed_to=row.details.get("renamed_to"),
                executable=autostart.is_executable(path)
                or autostart.is_executable(row.details.get("renamed_to", "")),
                autostart=autostart.of_file(path) or autostart.of_file(row.details.get("renamed_to", "")),
                sha256=row.details.get("sha256"),
                **row.seen(processes),
            )


def _plain(path: str) -> str:
    """Without the object manager's prefix."""
    return path.removeprefix("\\??\\")


def _creates(event: Event) -> bool:
    if "IoStatusBlock" in event.fields:
        return False
    if "DIRECTORY_FILE" in event.text("CreateOptions"):
        return True
    return event.text("CreateDisposition").startswith(_CREATING)
