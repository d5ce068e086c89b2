"""Events that follow from an API call alone, where Speakeasy reports none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from drakcelery.engines.speakeasy_guest.naming import file_name, without_width
from drakcelery.engines.speakeasy_guest.record.calls import Call
from drakcelery.engines.speakeasy_guest.record.journal import Journal
from drakcelery.engines.speakeasy_guest.record.traffic import Traffic

PAGE_RIGHTS = {
    0x01: "PAGE_NOACCESS",
    0x02: "PAGE_READONLY",
    0x04: "PAGE_READWRITE",
    0x08: "PAGE_WRITECOPY",
    0x10: "PAGE_EXECUTE",
    0x20: "PAGE_EXECUTE_READ",
    0x40: "PAGE_EXECUTE_READWRITE",
    0x80: "PAGE_EXECUTE_WRITECOPY",
}
"""Memory protection constants of ``winnt.h``."""

ABORTS = (
    *("abort", "terminate", "?terminate@@YAXXZ", "__std_terminate"),
    *("_purecall", "_assert", "_wassert"),
)
"""Functions of C runtimes that end a program with 3."""

FAST_FAILS = ("_invoke_watson", "_invalid_parameter_noinfo_noreturn")
STACK_BUFFER_OVERRUN = 0xC0000409
"""What those of the newer ones end it with."""

EXECS = tuple(
    f"{wide}exec{how}" for wide in ("", "_", "_w") for how in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")
)
"""Another program takes the place of this one: on Windows that is started, and this one is over."""

CURRENT_PROCESS = (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


class Recording(Protocol):
    """Where events go: the recorder, as far as it is needed here."""

    journal: Journal
    traffic: Traffic
    changes: int

    def log_file_information(self, operation: str, *, ok: bool, **names: str) -> None:
        """A file was deleted or renamed, or it was tried."""


Handler = Callable[[Recording, Call, list[Any], int], None]


def page_rights(value: object) -> str:
    """The name of a memory protection constant."""
    if not isinstance(value, int):
        return str(value)
    return PAGE_RIGHTS.get(value & 0xFF, f"{value & 0xFFFFFFFF:#x}")


def log(recorder: Recording, call: Call, arguments: list[Any], value: int) -> None:
    """Write what *call* means beyond its apimon line."""
    handler = _HANDLERS.get(without_width(call.name))
    if handler is not None and not call.unsupported:
        handler(recorder, call, arguments, value)


def _text(arguments: list[Any], number: int) -> str:
    item = arguments[number] if number < len(arguments) else ""
    return item if isinstance(item, str) else ""


def _number(arguments: list[Any], number: int) -> int:
    item = arguments[number] if number < len(arguments) else 0
    return item if isinstance(item, int) else 0


def _delete_file(recorder: Recording, _call: Call, arguments: list[Any], value: int) -> None:
    name = file_name(_text(arguments, 0))
    recorder.log_file_information("FileDispositionInformation", ok=bool(value), FileName=name)


def _create_directory(recorder: Recording, _call: Call, arguments: list[Any], value: int) -> None:
    recorder.changes += bool(value)
    recorder.journal.write(
        "filetracer",
        "NtCreateFile",
        FileName=file_name(_text(arguments, 0)),
        CreateOptions="FILE_DIRECTORY_FILE",
    )


def _query_attributes(recorder: Recording, _call: Call, arguments: list[Any], _value: int) -> None:
    recorder.journal.write("filetracer", "NtQueryAttributesFile", FileName=file_name(_text(arguments, 0)))


def _move_file(recorder: Recording, _call: Call, arguments: list[Any], value: int) -> None:
    names = {"FileSrc": file_name(_text(arguments, 0)), "FileDst": file_name(_text(arguments, 1))}
    recorder.log_file_information("FileRenameInformation", ok=bool(value), **names)


def _exit(code: int) -> Handler:
    """The program ends itself; *code* is the number of the argument with the exit status."""

    def handler(recorder: Recording, call: Call, arguments: list[Any], _value: int) -> None:
        if code and call.raw and call.raw[0] not in CURRENT_PROCESS:
            return
        _ended(recorder, _number(arguments, code) & 0xFFFFFFFF)

    return handler


def _ends_with(status: int) -> Handler:
    """The program ends itself with *status*; where the function gives a value, it has failed."""

    def handler(recorder: Recording, _call: Call, _arguments: list[Any], value: int) -> None:
        if value == 0:
            _ended(recorder, status)

    return handler


def _ended(recorder: Recording, status: int) -> None:
    """With DRAKVUF's fields, of which drakrun makes its process tree; a process that ends itself is 0."""
    recorder.journal.write(
        "procmon",
        "NtTerminateProcess",
        ExitPid=0,
        ExitStatus=f"{status:#x}",
        ExitStatusStr="SUCCESS" if status == 0 else f"{status:#x}",
    )


def _protect(rights: int) -> Handler:
    def handler(recorder: Recording, call: Call, _arguments: list[Any], _value: int) -> None:
        if len(call.raw) > rights:
            process = call.raw[0] if rights == 3 else CURRENT_PROCESS[0]
            recorder.journal.write(
                "procmon",
                "NtProtectVirtualMemory",
                ProcessHandle=f"{process:#x}",
                NewProtectWin32=page_rights(call.raw[rights]),
            )

    return handler


def _open_process(recorder: Recording, call: Call, _arguments: list[Any], value: int) -> None:
    if len(call.raw) > 2:
        recorder.journal.write(
            "procmon",
            "NtOpenProcess",
            ProcessHandle=f"{value:#x}",
            DesiredAccess=f"{call.raw[0] & 0xFFFFFFFF:#x}",
            ClientID=call.raw[2] & 0xFFFFFFFF,
        )


def _close_socket(recorder: Recording, call: Call, _arguments: list[Any], _value: int) -> None:
    if call.raw:
        recorder.traffic.close(("socket", call.raw[0]))


def _download(recorder: Recording, _call: Call, arguments: list[Any], _value: int) -> None:
    recorder.changes += 1
    recorder.traffic.download(_text(arguments, 1), 0)


_HANDLERS: dict[str, Handler] = {
    "DeleteFile": _delete_file,
    "RemoveDirectory": _delete_file,
    "CreateDirectory": _create_directory,
    "GetFileAttributes": _query_attributes,
    "GetFileAttributesEx": _query_attributes,
    "MoveFile": _move_file,
    "MoveFileEx": _move_file,
    "ExitProcess": _exit(0),
    "TerminateProcess": _exit(1),
    "NtTerminateProcess": _exit(1),
    # The C runtime's ways out end in NtTerminateProcess on Windows
    "exit": _exit(0),
    "_exit": _exit(0),
    "_Exit": _exit(0),
    "quick_exit": _exit(0),
    **dict.fromkeys(ABORTS, _ends_with(3)),
    **dict.fromkeys(FAST_FAILS, _ends_with(STACK_BUFFER_OVERRUN)),
    **dict.fromkeys(EXECS, _ends_with(0)),
    "VirtualProtect": _protect(2),
    "VirtualProtectEx": _protect(3),
    "NtProtectVirtualMemory": _protect(3),
    "OpenProcess": _open_process,
    "URLDownloadToFile": _download,
    "closesocket": _close_socket,
}
"""Keyed by the function's name without ``A`` or ``W``."""
