"""Which processes, threads and modules there are: tool help, and the functions of psapi."""

from __future__ import annotations

import ntpath
import struct
from collections.abc import Callable
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis import texts
from drakcelery.engines.speakeasy_guest.apis.api import Api, put
from drakcelery.engines.speakeasy_guest.apis.handles import invalid_handle
from drakcelery.engines.speakeasy_guest.configuration import SHELL_PID, SYSTEM_FOLDER
from drakcelery.engines.speakeasy_guest.naming import image_name

PROCESSES, THREADS, MODULES, MODULES_32 = 0x2, 0x4, 0x8, 0x10
"""``TH32CS_SNAP…``."""

MAX_MODULE, MAX_PATH = 256, 260
FIRST_HANDLE: Final = 0x7D00
MAX_SNAPSHOTS: Final = 1024
ERROR_NO_MORE_FILES, ERROR_INVALID_HANDLE, ERROR_INSUFFICIENT_BUFFER = 18, 6, 122
ERROR_NO_SYSTEM_RESOURCES: Final = 1450
NORMAL_PRIORITY: Final = 8
CURRENT: Final = (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
NATIVE_PATH: Final = 1
"""``PROCESS_NAME_NATIVE``."""


def pid_of(emu: Any, process: Any) -> int:
    """The number of a process: of the running one, what it is told itself."""
    return int(process.get_id() if process is emu.curr_process else process.get_pid())


def path_of(process: Any) -> str:
    """Where a process' program lies."""
    path = process.path or f"{process.name}.exe"
    return path if "\\" in path or path.lower() == "system" else f"{SYSTEM_FOLDER}{path}"


def processes(emu: Any) -> list[Any]:
    """All that run, the present one among them."""
    found = [one for one in emu.get_processes() if one is not emu.curr_process]
    return [*found, emu.curr_process]


def find(emu: Any, handle: int) -> Any:
    """The process of a handle, or None."""
    if handle in CURRENT:
        return emu.curr_process
    found = emu.get_object_from_handle(handle)
    return found if found is not None and hasattr(found, "peb") else None


def parent_of(emu: Any, process: Any) -> int:
    """The number of the process that started it."""
    pid = pid_of(emu, process)
    if process is emu.curr_process:
        return int(emu.parents.get(pid, SHELL_PID))
    return 4 if pid != 4 else 0


def modules(emu: Any, process: Any) -> list[tuple[int, int, str]]:
    """Base, size and path of the modules of a process, its program first."""
    if process is not emu.curr_process:
        return [(process.base or 0x400000, 0x10000, path_of(process))]
    program = emu.image
    found = [(program.base, program.OPTIONAL_HEADER.SizeOfImage, path_of(process))]
    for module, (begin, end), path in emu.modules:
        if module is not program:
            found.append((begin, end - begin, path or ""))
    for module in emu.get_user_modules():
        base = module.get_base()
        if base not in [one[0] for one in found]:
            path = module.get_emu_path() or module.name
            found.append((base, module.image_size or 0x10000, path))
    return found


def _snapshot(emu: Any, _name: str, argv: list[Any]) -> int:
    flags, wanted = argv[0] & 0xFFFFFFFF, argv[1] & 0xFFFFFFFF
    if len(emu.snapshots) >= MAX_SNAPSHOTS:
        emu.set_last_error(ERROR_NO_SYSTEM_RESOURCES)
        return invalid_handle(emu)
    entries: dict[str, list[tuple[Any, ...]]] = {"Process": [], "Thread": [], "Module": []}
    if flags & PROCESSES:
        entries["Process"] = [
            (pid_of(emu, one), max(len(one.threads), 1), parent_of(emu, one), ntpath.basename(path_of(one)))
            for one in processes(emu)
        ]
    if flags & THREADS:
        mine = [one.object for one in emu.scheduler.threads if not one.over]
        for one in processes(emu):
            threads = mine if one is emu.curr_process else one.threads
            entries["Thread"] += [(thread.get_id(), pid_of(emu, one)) for thread in threads]
    if flags & (MODULES | MODULES_32):
        owner = next((one for one in processes(emu) if pid_of(emu, one) == wanted), emu.curr_process)
        entries["Module"] = [(pid_of(emu, owner), *module) for module in modules(emu, owner)]
    handle = max(emu.snapshots, default=FIRST_HANDLE) + 4
    emu.snapshots[handle] = (entries, {})
    return int(handle)


def _process_entry(size: int, width: int, entry: tuple[Any, ...]) -> bytes:
    pid, threads, parent, name = entry
    head = struct.pack("<IIII" if size == 4 else "<III4xQ", 0, 0, pid, 0)
    numbers = struct.pack("<IIIiI", 0, threads, parent, NORMAL_PRIORITY, 0)
    return head + numbers + texts.field(name, MAX_PATH, wide=width == 2)


def _thread_entry(_size: int, _width: int, entry: tuple[Any, ...]) -> bytes:
    return struct.pack("<IIIIiiI", 0, 0, *entry, NORMAL_PRIORITY, 0, 0)


def _module_entry(size: int, width: int, entry: tuple[Any, ...]) -> bytes:
    pid, base, length, path = entry
    module: bytes = base.to_bytes(size, "little")
    numbers = (0, 1, pid, 0xFFFF, 0xFFFF)
    head = struct.pack("<5III" if size == 4 else "<5I4xQI4x", *numbers, base, length)
    names = b"".join(
        texts.field(text, room, wide=width == 2)
        for text, room in ((ntpath.basename(path), MAX_MODULE), (path, MAX_PATH))
    )
    return head + module + names


_WRITERS: Final = {"Process": _process_entry, "Thread": _thread_entry, "Module": _module_entry}


def _walk(kind: str, *, first: bool) -> Callable[[Any, str, list[Any]], int]:
    """``Process32First``, ``Process32Next`` and their kin; the size that the program gives stays."""

    def answer(emu: Any, name: str, argv: list[Any]) -> int:
        found = emu.snapshots.get(argv[0])
        if found is None or not argv[1]:
            emu.set_last_error(ERROR_INVALID_HANDLE)
            return 0
        entries, places = found
        number = places[kind] = 0 if first else places.get(kind, -1) + 1
        if number >= len(entries[kind]):
            emu.set_last_error(ERROR_NO_MORE_FILES)
            return 0
        width = 2 if name.endswith("W") else 1
        data = _WRITERS[kind](emu.get_ptr_size(), width, entries[kind][number])
        emu.mem_write(argv[1] + 4, data[4:])
        return 1

    return answer


def _enum_processes(emu: Any, _name: str, argv: list[Any]) -> int:
    pids = [pid_of(emu, one) for one in processes(emu)][: (argv[1] & 0xFFFFFFFF) // 4]
    emu.mem_write(argv[0], struct.pack(f"<{len(pids)}I", *pids))
    put(emu, argv[2], 4 * len(pids), 4)
    return 1


def _enum_modules(emu: Any, _name: str, argv: list[Any]) -> int:
    process = find(emu, argv[0])
    if process is None:
        emu.set_last_error(ERROR_INVALID_HANDLE)
        return 0
    size = emu.get_ptr_size()
    bases = [base for base, _, _ in modules(emu, process)]
    for number, base in enumerate(bases[: (argv[2] & 0xFFFFFFFF) // size]):
        put(emu, argv[1] + size * number, base, size)
    put(emu, argv[3], size * len(bases), 4)
    return 1


def _module_name(*, base_name: bool) -> Callable[[Any, str, list[Any]], int]:
    def answer(emu: Any, name: str, argv: list[Any]) -> int:
        process = find(emu, argv[0])
        known = modules(emu, process) if process is not None else []
        path = next((path for base, _, path in known if base == argv[1] or not argv[1]), "")
        return _put_text(emu, name, ntpath.basename(path) if base_name else path, argv[2], argv[3])

    return answer


def _put_text(emu: Any, name: str, text: str, target: int, room: int) -> int:
    """A text, cut to its room; its length."""
    room &= 0xFFFFFFFF
    if not text or not room:
        emu.set_last_error(ERROR_INVALID_HANDLE if room else ERROR_INSUFFICIENT_BUFFER)
        return 0
    return texts.write_cut(emu, target, text, room, wide=name.endswith("W"))


def _image_file(emu: Any, name: str, argv: list[Any]) -> int:
    process = find(emu, argv[0])
    path = image_name(path_of(process)) if process is not None else ""
    return _put_text(emu, name, path, argv[1], argv[2])


def _full_image(emu: Any, name: str, argv: list[Any]) -> int:
    process = find(emu, argv[0])
    path = path_of(process) if process is not None else ""
    path = image_name(path) if argv[1] & NATIVE_PATH else path
    room = int.from_bytes(emu.mem_read(argv[3], 4), "little")
    if len(path) >= room:
        emu.set_last_error(ERROR_INSUFFICIENT_BUFFER)
        return 0
    put(emu, argv[3], _put_text(emu, name, path, argv[2], room), 4)
    return int(bool(path))


def _module_information(emu: Any, _name: str, argv: list[Any]) -> int:
    process = find(emu, argv[0])
    size = emu.get_ptr_size()
    for base, length, _ in modules(emu, process) if process is not None else ():
        if base == argv[1]:
            entry = emu.image.ep + base if process is emu.curr_process and base == emu.image.base else 0
            for number, value in enumerate((base, length, entry)):
                put(emu, argv[2] + size * number, value, 4 if number == 1 else size)
            return 1
    emu.set_last_error(ERROR_INVALID_HANDLE)
    return 0


def _process_id(emu: Any, _name: str, argv: list[Any]) -> int:
    process = find(emu, argv[0])
    return 0 if process is None else pid_of(emu, process)


_PSAPI: Final = {
    "EnumProcesses": Api(words=3, answer=_enum_processes),
    "EnumProcessModules": Api(words=4, answer=_enum_modules),
    "EnumProcessModulesEx": Api(words=5, answer=_enum_modules),
    "GetModuleBaseName": Api(words=4, answer=_module_name(base_name=True)),
    "GetModuleFileNameEx": Api(words=4, answer=_module_name(base_name=False)),
    "GetModuleInformation": Api(words=4, answer=_module_information),
    "GetProcessImageFileName": Api(words=3, answer=_image_file),
}

APIS = {
    "CreateToolhelp32Snapshot": Api(words=2, answer=_snapshot),
    **{
        f"{kind}32{which}": Api(words=2, answer=_walk(kind, first=which == "First"))
        for kind in ("Process", "Thread", "Module")
        for which in ("First", "Next")
    },
    **_PSAPI,
    **{f"K32{name}": api for name, api in _PSAPI.items()},
    "QueryFullProcessImageName": Api(words=4, answer=_full_image),
    "GetProcessId": Api(words=1, answer=_process_id),
}
