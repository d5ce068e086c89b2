"""Files: what filetracer, fileextractor and filedelete say of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from drakcelery.behaviour import autostart
from drakcelery.behaviour.events import Event
from drakcelery.behaviour.methods import BEGINNING, FROM, METHOD, NOT_FOUND, beginnings, method_of
from drakcelery.behaviour.report import FileActivity
from drakcelery.behaviour.tables import Budget, Row, Table, Who

MOST = 5000
_MOST_HANDLES = 4096
_MOST_FLAGS = 1024
_OPENING = frozenset({"NtCreateFile", "NtOpenFile"})
_OPENINGS = beginnings(_OPENING)
_ACCESS = b'"DesiredAccess":'
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
        self._harmless: set[bytes] = set()
        """Ends of lines, with what was asked for, that change nothing."""
        self.methods: Mapping[str, Callable[[Event], None]] = {
            "NtCreateFile": self._opened,
            "NtOpenFile": self._opened,
            "NtWriteFile": self._written,
            "NtSetInformationFile": self._set,
            "NtDeleteFile": self._deleted,
        }
        self._others = beginnings(self.methods.keys() - _OPENING) | NOT_FOUND

    def among(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Those of filetracer's *lines* that say more than that a file is opened to be read, or asked about.

        Most are so, and are told by their bytes; some of other methods are among what is left.
        """
        openings, others, harmless = _OPENINGS, self._others, self._harmless
        for line in lines:
            at = line.find(METHOD, FROM)
            beginning = line[at : at + BEGINNING]
            if beginning in openings:
                # from there on a line has flags only, of which a guest uses few combinations
                flags = line[line.find(_ACCESS, at) :]
                if flags not in harmless and not self._is_harmless(line, flags):
                    yield line
            elif beginning in others and not self._says_nothing(line):
                yield line

    def _says_nothing(self, line: bytes) -> bool:
        method = method_of(line).decode("ascii", "replace")
        if method == "NtSetInformationFile":
            return b"FileDisp" not in line and b"FileRename" not in line
        return method in _OPENING and self._is_harmless(line, line[line.find(_ACCESS) :])

    def _is_harmless(self, line: bytes, flags: bytes) -> bool:
        """Whether a file is opened with rights that change nothing; *flags*: what *line* has from them on."""
        if not flags.startswith(_ACCESS):
            at = line.find(_ACCESS)
            if at < 0:
                return b"CreateOptions" not in line
            flags = line[at:]
        rights = flags[: flags.find(b'"', flags.find(b'"', len(_ACCESS)) + 1)]
        harmless = not any(right in rights for right in _RIGHTS) and b'"FILE_CREATE"' not in flags
        if harmless and len(self._harmless) < _MOST_HANDLES and len(flags) < _MOST_FLAGS:
            self._harmless.add(flags)
        return harmless

    def _opened(self, event: Event) -> None:
        if event.fields.get("Status") != "0x0" and event.number("Status") not in (None, 0):
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
