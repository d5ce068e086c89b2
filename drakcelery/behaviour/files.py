"""Files: what filetracer, fileextractor and filedelete say of them. Pure."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from string import ascii_letters
from typing import Literal

from drakcelery.behaviour import autostart
from drakcelery.behaviour.events import Event, Handler
from drakcelery.behaviour.methods import BEGINNING, FROM, METHOD, NOT_FOUND, beginnings, method_of
from drakcelery.behaviour.report import FileActivity
from drakcelery.behaviour.tables import Budget, Row, Table, Who

MOST = 5000
_MOST_HANDLES = 4096
_MOST_FLAGS = 1024
_PREFIX = "\\??\\"
"""The object manager's, of a path."""
_OPTIONS = {"NtCreateFile": "CreateOptions", "NtOpenFile": "OpenOptions"}
"""Where the options stand, by the method that opens a file."""
_OPENINGS = {beginning: method for method in _OPTIONS for beginning in beginnings([method])}
_ACCESS = b'"DesiredAccess":'
_RENAMING = "FileRenameInformation"
_CHANGING = (_RENAMING, "FileDispositionInformation")
"""Beginnings of the operations of ``NtSetInformationFile`` that change which files there are."""
_CHANGING_BYTES = tuple(operation.encode() for operation in _CHANGING)
_HOW = ("DesiredAccess", "CreateDisposition", *_OPTIONS.values())
"""How a file is opened. A build that writes these in a line of their own has another line without them."""
_HOW_KEYS = tuple(f'"{key}":'.encode() for key in _HOW)
_CREATED, _OVERWRITTEN, _SUPERSEDED = 2, 3, 0
"""``IoStatusBlock.Information`` of a file that was opened (``FILE_CREATED`` and its kin, ``wdm.h``)."""
_CREATING = frozenset(
    {"CREATE_NEW", "CREATE_ALWAYS", "FILE_CREATE", "FILE_SUPERSEDE", "FILE_OVERWRITE_IF"},
)
_EMPTYING = frozenset({"FILE_OVERWRITE", "TRUNCATE_EXISTING"})
"""What the emulator and DRAKVUF before March 2023 say instead: they tell no result of that kind."""
_ONLY_IF_THERE = ("FILE_OPEN", "OPEN_EXISTING")
"""What to do with a file that neither makes nor empties it."""
_RIGHTS = re.compile("GENERIC_WRITE|GENERIC_ALL|WRITE_DATA|APPEND_DATA|DELETE|ADD_FILE")
"""Rights without which a handle changes nothing; those that v0.21 asks for, and two more."""


class Files:
    """The files that were changed, and which handles stand for them."""

    def __init__(self, budget: Budget, changed: Callable[[Event, str], None]) -> None:
        """*changed* is told of each file that is created or written."""
        self.table = Table("files", MOST, budget)
        self._changed = changed
        self._paths: OrderedDict[tuple[int | None, int], str] = OrderedDict()
        self._drives: set[str] = set()
        self._harmless: dict[bytes, dict[bytes, bool]] = {opening: {} for opening in _OPENINGS}
        """Whether lines change nothing, by the method's beginning and their end, with what was asked for."""
        self.methods: Mapping[str, Handler] = {
            "NtCreateFile": self._opened,
            "NtOpenFile": self._opened,
            "NtWriteFile": self._written,
            "NtSetInformationFile": self._set,
            "NtDeleteFile": self._deleted,
        }
        self._certain = beginnings({"NtWriteFile", "NtDeleteFile"})
        self._unclear = beginnings({"NtSetInformationFile"}) | NOT_FOUND

    def among(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Those of filetracer's *lines* that say more than that a file is opened to be read, or asked about.

        Most are so, and are told by their bytes; some of other methods are among what is left.
        """
        openings, certain, unclear = self._harmless, self._certain, self._unclear
        for line in lines:
            at = line.find(METHOD, FROM)
            beginning = line[at : at + BEGINNING]
            known = openings.get(beginning)
            if known is not None:
                # from there on a line has flags only, of which a guest uses few combinations
                flags = line[line.find(_ACCESS, at) :]
                harmless = known.get(flags)
                if harmless is None:
                    harmless = _is_harmless(line, flags, _OPENINGS[beginning])
                    if len(known) < _MOST_HANDLES and len(flags) < _MOST_FLAGS and flags.startswith(_ACCESS):
                        known[flags] = harmless
                if not harmless:
                    yield line
            elif beginning in certain or (beginning in unclear and not _says_nothing(line)):
                yield line

    def handler(self, event: Event) -> Handler | None:
        """What reads *event*; None if it changes no file, and opens none in a way that may."""
        method = event.method
        if method in _OPTIONS and _only_opens(event, method):
            return None
        if method == "NtSetInformationFile" and not event.text("Operation").startswith(_CHANGING):
            return None
        return self.methods.get(method)

    def _opened(self, event: Event) -> None:
        path, handle = event.text("FileName").removeprefix(_PREFIX), event.number("FileHandle")
        if not path or not event.succeeded:
            return
        if handle is not None:
            self._know_handle(event, handle, path)
        if (done := _done(event)) is not None:
            self._add(event, path, done)
        if "DELETE_ON_CLOSE" in event.text(_OPTIONS[event.method]):
            self._add(event, path, "deleted")

    def _know_handle(self, event: Event, handle: int, path: str) -> None:
        if len(self._paths) >= _MOST_HANDLES:
            self._paths.popitem(last=False)
        self._paths[event.pid, handle] = path

    def _written(self, event: Event) -> None:
        self._add(event, self._path(event, "FileName"), "written")

    def _deleted(self, event: Event) -> None:
        self._add(event, self._path(event, "FileName"), "deleted")

    def _set(self, event: Event) -> None:
        if not event.succeeded:
            return
        if event.text("Operation").startswith(_RENAMING):
            self._renamed(event)
        else:
            self._deleted(event)

    def _renamed(self, event: Event) -> None:
        path, target = self._path(event, "FileSrc"), event.text("FileDst").removeprefix(_PREFIX)
        if path[1:2] == ":" and target.startswith("\\") and not target.startswith("\\Device\\"):
            target = path[:2] + target  # it stays on its drive
        row = self._add(event, path, "renamed")
        if row is not None:
            row.details["renamed_to"] = target
        handle = event.number("FileHandle")
        if handle is not None and target:
            self._know_handle(event, handle, target)

    def extracted(self, event: Event) -> None:
        """fileextractor took its content, whose hash newer versions tell. The path lacks its drive."""
        digest = event.text("FileHash", 64).lower()
        path = event.text("FileName").removeprefix(_PREFIX).lower()
        drives = ("", *self._drives) if path.startswith("\\") else ("",)
        row = next((row for drive in drives if (row := self.table.find(drive + path)) is not None), None)
        if row is not None and len(digest) == 64 and set(digest) <= set("0123456789abcdef"):
            row.details["sha256"] = digest

    def _path(self, event: Event, key: str) -> str:
        """With its drive, if its handle was seen to be opened: later lines lack it.

        A handle that stands for another file by now was opened with rights that change nothing.
        """
        named, handle = event.text(key).removeprefix(_PREFIX), event.number("FileHandle")
        if named[1:2] == ":" or handle is None:
            return named
        known = self._paths.get((event.pid, handle), "")
        is_same = known.endswith(named) or known.lower().endswith(named.lower())
        return known if is_same else named

    def _add(self, event: Event, path: str, action: str) -> Row | None:
        if not path:
            return None
        row = self.table.add(event, path.lower(), shown=(path,))
        if row is None:
            return None
        if row.count == 1 and path[1:2] == ":" and path[0] in ascii_letters:
            self._drives.add(path[:2].lower())
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


def _done(event: Event) -> Literal["created", "written"] | None:
    """What an opening did to the file; None if nothing."""
    result = event.number("IoStatusBlock")
    if result == _CREATED:
        return "created"
    if result == _OVERWRITTEN:
        return "written"
    if result is None:
        return _asked(event.flags("CreateDisposition"), event.flags("CreateOptions"))
    # DRAKVUF has no name for FILE_SUPERSEDE; a device that is opened has 0 as well
    superseded = result == _SUPERSEDED and not event.text("CreateDisposition")
    return "written" if superseded and event.text("Method") == "NtCreateFile" else None


def _asked(disposition: Set[str], options: Set[str]) -> Literal["created", "written"] | None:
    if not disposition.isdisjoint(_CREATING) or (not disposition and "FILE_DIRECTORY_FILE" in options):
        return "created"
    return None if disposition.isdisjoint(_EMPTYING) else "written"


def _says_nothing(line: bytes) -> bool:
    """Whether *line*, whose method may stand anywhere, is one that :meth:`Files.handler` has nothing for."""
    method = method_of(line).decode("ascii", "replace")
    if method == "NtSetInformationFile":
        return not any(operation in line for operation in _CHANGING_BYTES)
    return method in _OPTIONS and _is_harmless(line, line[line.find(_ACCESS) :], method)


def _is_harmless(line: bytes, flags: bytes, method: str) -> bool:
    """Whether *line* only opens a file, by *flags* alone: all of it from the rights on."""
    if not flags.startswith(_ACCESS):
        return not any(key in line for key in _HOW_KEYS)
    event = Event.parse(b"{" + flags)
    if event is None or _OPTIONS[method] not in event.fields:
        return False  # some of them stand before the rights, or they are within something else
    return _only_opens(event, method)


def _only_opens(event: Event, method: str) -> bool:
    """Whether a file is opened, not made or emptied, with rights that change nothing.

    ``NtOpenFile`` has no disposition: what is not there is not opened.
    """
    if "DesiredAccess" not in event.fields:
        return event.fields.keys().isdisjoint(_HOW)
    return (
        _RIGHTS.search(event.text("DesiredAccess")) is None
        and (method == "NtOpenFile" or event.text("CreateDisposition") in _ONLY_IF_THERE)
        and "DELETE_ON_CLOSE" not in event.text(_OPTIONS[method])
    )
