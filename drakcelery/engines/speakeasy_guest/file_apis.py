"""Files and programs."""

from __future__ import annotations

from typing import Any

from drakcelery.engines.speakeasy_guest.apis import Api, put, read_text, text_argument


def _copy_file(emu: Any, name: str, argv: list[Any]) -> int:
    source = text_argument(emu, name, argv, 0)
    target = text_argument(emu, name, argv, 1)
    files = emu.get_file_manager()
    original = files.get_file_from_path(source)
    if original is None or not target:
        return 0
    data = original.data.getvalue() if original.data else b""
    files.create_file(target).add_data(data)
    emu.recorder.log_file_access(None, target, "create")
    emu.recorder.log_file_access(None, target, "write", size=len(data))
    return 1


def _move_file(emu: Any, name: str, argv: list[Any]) -> int:
    source = text_argument(emu, name, argv, 0)
    target = text_argument(emu, name, argv, 1)
    file = emu.get_file_manager().get_file_from_path(source)
    if file is not None and target:
        file.path = target
    return 1


def _shell_execute_ex(emu: Any, name: str, argv: list[Any]) -> int:
    size = emu.get_ptr_size()
    first = argv[0] + (24 if size == 8 else 12)  # lpVerb, after cbSize, fMask and hwnd
    texts = []
    for number in (1, 2):  # lpFile, lpParameters
        pointer = emu.read_ptr(first + number * size)
        texts.append(read_text(emu, pointer, wide=name.endswith("W")) if pointer else "")
    emu.recorder.process_created(texts[0], " ".join(filter(None, texts)))
    return 1


def _system(emu: Any, name: str, argv: list[Any]) -> int:
    command = text_argument(emu, name, argv, 0)
    emu.recorder.process_created("C:\\Windows\\System32\\cmd.exe", f"cmd.exe /c {command}")
    return 0


def written_bytes(emu: Any, raw: list[int], value: int | None) -> None:
    """``WriteFile`` tells how much it wrote; Speakeasy's does not, and programs then report a failure."""
    if value and len(raw) > 3:
        put(emu, raw[3], raw[2] & 0xFFFFFFFF, 4)


APIS = {
    "CopyFile": Api(words=3, answer=_copy_file),
    "CopyFileEx": Api(words=6, answer=_copy_file),
    "MoveFile": Api(words=2, answer=_move_file),
    "MoveFileEx": Api(words=3, answer=_move_file),
    "ShellExecuteEx": Api(words=1, answer=_shell_execute_ex),
    "system": Api(words=1, answer=_system, cdecl=True),
}
