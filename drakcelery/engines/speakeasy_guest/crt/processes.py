"""Other programs: ``system``, ``_popen``, ``_spawn…`` and ``_exec…``; and what a process knows of itself."""

from __future__ import annotations

from typing import Any

from drakcelery.engines.speakeasy_guest.calling.guest_calls import Elsewhere, Steps
from drakcelery.engines.speakeasy_guest.crt.abi import Answer, Function, Variadic
from drakcelery.engines.speakeasy_guest.crt.descriptors import ENOENT, O_RDWR, O_TEXT, O_WRONLY
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime
from drakcelery.engines.speakeasy_guest.crt.start_up import end_process

SHELL = "C:\\Windows\\System32\\cmd.exe"
MAX_ARGUMENTS = 1024
WAIT, OVERLAY = 0, 2
"""``_P_WAIT`` and ``_P_OVERLAY``."""


def start(crt: Runtime, path: str, command_line: str) -> int:
    """Start a program, emulated after this one if it is a file that this one wrote; its handle."""
    emu = crt.emu
    process: Any = emu.create_process(path=path, cmdline=command_line)
    emu.recorder.log_process_event(None, process, "create", {})
    return int(emu.get_object_handle(process) or 0)


def _system(width: int) -> Answer:
    def answer(crt: Runtime, command: int) -> int:
        if not command:
            return 1
        start(crt, SHELL, f"cmd.exe /c {crt.machine.name(command, width)}")
        return 0

    return answer


def _open_pipe(width: int) -> Answer:
    """``_popen``: the program has no output, and what is written to it is lost."""

    def answer(crt: Runtime, command: int, mode: int) -> int:
        line = crt.machine.name(command, width)
        crt.emu.recorder.process_created(SHELL, f"cmd.exe /c {line}")
        wanted = 1 if "w" in crt.machine.name(mode, width) else 0
        number = crt.files.duplicate(wanted)
        return crt.streams.open(number, O_TEXT | (O_WRONLY if wanted else O_RDWR))

    return answer


def _close_pipe(crt: Runtime, address: int) -> int:
    stream = crt.streams.get(address)
    return -1 if stream is None else crt.streams.close(stream)


def _listed(crt: Runtime, arguments: Variadic, width: int) -> list[str]:
    """Arguments up to a NULL."""
    parts: list[str] = []
    while len(parts) < MAX_ARGUMENTS and (address := arguments.pointer()):
        parts.append(crt.machine.name(address, width))
    return parts


def _spawned(crt: Runtime, mode: int, path: str, arguments: list[str]) -> int | Elsewhere:
    name = path if "." in path.rpartition("\\")[2] else f"{path}.exe"
    if not path:
        return crt.fail(ENOENT)
    handle = start(crt, name, " ".join(arguments) or name)
    if mode == OVERLAY:
        crt.streams.flush_all()
        return end_process(crt)
    return 0 if mode == WAIT else handle


def _spawn(width: int, *, listed: bool, overlay: bool) -> Answer:
    """Arguments as a list (``l``) or an array (``v``), behind a mode except where ours is replaced."""

    def answer(crt: Runtime, *arguments: Any) -> int | Elsewhere:
        mode, path, rest = (OVERLAY, *arguments[:2]) if overlay else arguments[:3]
        source = rest if listed else Variadic(crt.machine, rest)
        return _spawned(crt, mode, crt.machine.name(path, width), _listed(crt, source, width))

    return answer


def _family() -> dict[str, Function]:
    table = {}
    for width, letter, wide in ((1, "s", ""), (2, "w", "w")):
        for verb, first in (("spawn", "i"), ("exec", "")):
            for how in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe"):
                listed = how[0] == "l"
                signature = f"{first}{letter}{'.' if listed else 'p'}"
                answer = _spawn(width, listed=listed, overlay=verb == "exec")
                table[f"_{wide}{verb}{how}"] = Function(signature, answer)
                if not wide:
                    table[f"{verb}{how}"] = Function(signature, answer)
    return table


def process_id(crt: Runtime) -> int:
    """The number of the present process; 0 without one."""
    process = crt.emu.get_current_process()
    return int(process.get_id()) if process else 0


def _folder(width: int) -> Answer:
    """``_getcwd``."""

    def answer(crt: Runtime, buffer: int, room: int) -> int:
        text = str(crt.emu.get_cd()).rstrip("\\")
        buffer = buffer or crt.heap.allocate(max((len(text) + 1) * width, room * width))
        if room and len(text) >= room:
            return crt.fail(34, 0)
        crt.machine.put_name(buffer, text, width)
        return buffer

    return answer


def _change_folder(width: int) -> Answer:
    def answer(crt: Runtime, path: int) -> int:
        crt.emu.set_cd(crt.files.disk.full(crt.machine.name(path, width)))
        return 0

    return answer


def _sleep(crt: Runtime, milliseconds: int) -> Steps:
    yield from crt.emu.scheduler.wait(lambda: False, milliseconds)
    return 0


FUNCTIONS: dict[str, Function] = {
    **_family(),
    "system": Function("s", _system(1)),
    "_wsystem": Function("w", _system(2)),
    **dict.fromkeys(("_popen", "popen"), Function("ss", _open_pipe(1))),
    "_wpopen": Function("ww", _open_pipe(2)),
    **dict.fromkeys(("_pclose", "pclose"), Function("p", _close_pipe)),
    "_cwait": Function("ppi", lambda crt, status, _process, _action: crt.machine.put(status, 0, 4)),
    **dict.fromkeys(("_getpid", "getpid"), Function("", process_id)),
    **dict.fromkeys(("_getcwd", "getcwd"), Function("pi", _folder(1))),
    "_wgetcwd": Function("pi", _folder(2)),
    **dict.fromkeys(("_chdir", "chdir"), Function("s", _change_folder(1))),
    "_wchdir": Function("w", _change_folder(2)),
    "_getdrive": Function("", lambda _crt: 3),
    "_chdrive": Function("i", lambda _crt, _drive: 0),
    "_beep": Function("uu", lambda _crt, _frequency, _duration: 0),
    "_sleep": Function("u", _sleep),
    "_kbhit": Function("", lambda _crt: 0),
    **dict.fromkeys(("_getch", "_getche", "getch", "getche"), Function("", lambda _crt: 13)),
    **dict.fromkeys(("_getwch", "_getwche"), Function("", lambda _crt: 13)),
    "_putch": Function("i", lambda _crt, code: code),
    "_putwch": Function("i", lambda _crt, code: code),
    "_cputs": Function("s", lambda _crt, _text: 0),
    "_cputws": Function("w", lambda _crt, _text: 0),
}
"""Functions by name."""
