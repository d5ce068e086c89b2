"""Files and programs."""

from __future__ import annotations

from typing import Any

from drakcelery.engines.speakeasy_guest.apis.api import Api, put, read_text, text_argument
from drakcelery.engines.speakeasy_guest.apis.handles import ERROR_FILE_NOT_FOUND, failed

CREATE_SUSPENDED = 0x4
NO_CLOSE_PROCESS = 0x40
"""``SEE_MASK_NOCLOSEPROCESS``: the caller wants a handle of what was started."""

STARTED = 33
"""What ``ShellExecute`` and ``WinExec`` say of success: any number above 32."""


def _copy_file(emu: Any, name: str, argv: list[Any]) -> int:
    source = text_argument(emu, name, argv, 0)
    target = text_argument(emu, name, argv, 1)
    original = emu.disk.find(source)
    if original is None or not target:
        return failed(emu, ERROR_FILE_NOT_FOUND)
    data = emu.disk.read(original, 0, emu.disk.size(original))
    emu.disk.write(emu.disk.create(target), 0, data)
    full = emu.disk.full(target)
    emu.recorder.log_file_access(None, full, "create")
    emu.recorder.log_file_access(None, full, "write", size=len(data))
    return 1


def _move_file(emu: Any, name: str, argv: list[Any]) -> int:
    source = text_argument(emu, name, argv, 0)
    target = text_argument(emu, name, argv, 1)
    if not target or emu.disk.is_folder(source):  # a file goes when Windows starts again; folders stay
        return 1
    if emu.disk.find(source) is None:
        return failed(emu, ERROR_FILE_NOT_FOUND)
    if emu.disk.full(source).lower() != emu.disk.full(target).lower():
        emu.disk.delete(target)
    emu.disk.rename(source, target)
    return 1


def _create_process(first: int) -> Any:
    """``CreateProcess``, whose arguments begin at *first* behind those of its kin."""

    def answer(emu: Any, name: str, argv: list[Any]) -> int:
        wide = name.endswith("W")
        path, line, folder = (
            read_text(emu, argv[first + number], wide=wide) if argv[first + number] else ""
            for number in (0, 1, 7)
        )
        argv[first], argv[first + 1] = path, line
        if not (path or line.strip()):
            return failed(emu, ERROR_FILE_NOT_FOUND)
        process = emu.create_process(path=path, cmdline=line, folder=folder)
        thread = process.threads[0]
        if argv[first + 5] & CREATE_SUSPENDED:
            thread.suspend_count = 1
            emu.hollows.begin(process)
        size, target = emu.get_ptr_size(), argv[first + 9]
        put(emu, target, emu.get_object_handle(process), size)
        put(emu, target + size, emu.get_object_handle(thread), size)
        put(emu, target + 2 * size, process.get_id(), 4)
        put(emu, target + 2 * size + 4, thread.tid, 4)
        emu.recorder.log_process_event(None, process, "create", {})
        return 1

    return answer


def _win_exec(emu: Any, _name: str, argv: list[Any]) -> int:
    argv[0] = read_text(emu, argv[0], wide=False)
    return STARTED if _shell(emu, argv[0], "") is not None else ERROR_FILE_NOT_FOUND


def _shell(emu: Any, line: str, folder: str) -> Any:
    """Start a program; its process, or None where nothing is to be started."""
    if not line.strip():
        return None
    process = emu.create_process(path="", cmdline=line, folder=folder)
    emu.recorder.log_process_event(None, process, "create", {})
    return process


def _shell_execute(emu: Any, name: str, argv: list[Any]) -> int:
    # lpFile, lpParameters, lpDirectory
    texts = [text_argument(emu, name, argv, number) for number in (2, 3, 4)]
    return STARTED if _shell_started(emu, *texts) is not None else ERROR_FILE_NOT_FOUND


def _shell_started(emu: Any, path: str, parameters: str, folder: str) -> Any:
    path = path.strip().strip('"')
    line = f'"{path}" {parameters}'.strip() if " " in path else f"{path} {parameters}".strip()
    return _shell(emu, line, folder) if path else None


def _shell_execute_ex(emu: Any, name: str, argv: list[Any]) -> int:
    size = emu.get_ptr_size()
    first = argv[0] + (16 if size == 8 else 12)  # lpVerb, after cbSize, fMask and hwnd
    texts = []
    for number in (1, 2, 3):  # lpFile, lpParameters, lpDirectory
        pointer = emu.read_ptr(first + number * size)
        texts.append(read_text(emu, pointer, wide=name.endswith("W")) if pointer else "")
    process = _shell_started(emu, *texts)
    instance = first + 4 * size + (8 if size == 8 else 4)  # hInstApp, behind nShow
    put(emu, instance, ERROR_FILE_NOT_FOUND if process is None else STARTED, size)
    if process is None:
        return failed(emu, ERROR_FILE_NOT_FOUND)
    wanted = int.from_bytes(emu.mem_read(argv[0] + 4, 4), "little") & NO_CLOSE_PROCESS
    put(emu, instance + 6 * size, emu.get_object_handle(process) if wanted else 0, size)  # hProcess
    return 1


APIS = {
    "CopyFile": Api(words=3, answer=_copy_file),
    "CopyFileEx": Api(words=6, answer=_copy_file),
    "MoveFile": Api(words=2, answer=_move_file),
    "MoveFileEx": Api(words=3, answer=_move_file),
    "CreateProcess": Api(words=10, answer=_create_process(0)),
    "CreateProcessAsUser": Api(words=11, answer=_create_process(1)),
    "WinExec": Api(words=2, answer=_win_exec),
    "ShellExecute": Api(words=6, answer=_shell_execute),
    "ShellExecuteEx": Api(words=1, answer=_shell_execute_ex),
}
