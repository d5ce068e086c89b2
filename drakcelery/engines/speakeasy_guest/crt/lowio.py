"""Low-level files: ``_open``, ``_write`` and their kin."""

from __future__ import annotations

from drakcelery.engines.speakeasy_guest.crt.abi import Answer, Function, Variadic
from drakcelery.engines.speakeasy_guest.crt.descriptors import (
    EBADF,
    EINVAL,
    O_BINARY,
    O_CREAT,
    O_RDWR,
    O_TEXT,
    O_TRUNC,
)
from drakcelery.engines.speakeasy_guest.crt.machine import MAX_BLOCK
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime

MODES = O_TEXT | O_BINARY | 0x70000


def _flags(crt: Runtime, flags: int) -> int:
    if flags & MODES:
        return flags
    return flags | crt.machine.number(crt.variables.address("_fmode"), 4) & (O_TEXT | O_BINARY)


def _open(width: int) -> Answer:
    def answer(crt: Runtime, path: int, flags: int, *_more: int | Variadic) -> int:
        return crt.files.open(crt.machine.name(path, width), _flags(crt, flags))

    return answer


def _open_s(width: int) -> Answer:
    def answer(crt: Runtime, target: int, path: int, flags: int, _share: int, _permissions: int) -> int:
        number = crt.files.open(crt.machine.name(path, width), _flags(crt, flags))
        crt.machine.put(target, number, 4)
        return 0 if number >= 0 else crt.machine.number(crt.variables.address("errno"), 4)

    return answer


def _create(width: int) -> Answer:
    def answer(crt: Runtime, path: int, _permissions: int) -> int:
        return crt.files.open(crt.machine.name(path, width), _flags(crt, O_CREAT | O_TRUNC | O_RDWR))

    return answer


def _write(crt: Runtime, number: int, buffer: int, size: int) -> int:
    return crt.files.write(number, crt.machine.read(buffer, size))


def _read(crt: Runtime, number: int, buffer: int, size: int) -> int:
    data = crt.files.read(number, min(size, MAX_BLOCK))
    if data is None:
        return -1
    crt.machine.write(buffer, data)
    return len(data)


def _seek(crt: Runtime, number: int, offset: int, whence: int) -> int:
    return crt.files.seek(number, offset, whence)


def _position(crt: Runtime, number: int) -> int:
    return crt.files.seek(number, 0, 1)


def _at_end(crt: Runtime, number: int) -> int:
    found = crt.files.get(number)
    if found is None:
        return crt.fail(EBADF)
    return int(found.file is None or found.position >= crt.files.length(number))


def _set_mode(crt: Runtime, number: int, mode: int) -> int:
    found = crt.files.get(number)
    if found is None:
        return crt.fail(EBADF)
    old = found.flags & MODES
    if not mode & MODES:
        return crt.fail(EINVAL)
    found.flags = found.flags & ~MODES | mode
    return old & (O_TEXT | O_BINARY) or O_TEXT


def _is_terminal(crt: Runtime, number: int) -> int:
    found = crt.files.get(number)
    return 0x40 if found is not None and found.file is None else 0


def _resize(crt: Runtime, number: int, size: int) -> int:
    found = crt.files.get(number)
    if found is None or found.file is None:
        return crt.fail(EBADF)
    return 0 if crt.files.disk.resize(found.file, size) else crt.fail(EINVAL)


def _resize_s(crt: Runtime, number: int, size: int) -> int:
    return EINVAL if _resize(crt, number, size) else 0


def _pipe(crt: Runtime, numbers: int, _size: int, _mode: int) -> int:
    crt.machine.put(numbers, 0, 4)
    crt.machine.put(numbers + 4, 1, 4)
    return 0


def _set_umask(crt: Runtime, mask: int) -> int:
    old, crt.process.umask = crt.process.umask, mask
    return old


FUNCTIONS: dict[str, Function] = {
    **dict.fromkeys(("_open", "open"), Function("si.", _open(1))),
    "_wopen": Function("wi.", _open(2)),
    **dict.fromkeys(("_sopen", "sopen"), Function("sii.", _open(1))),
    "_wsopen": Function("wii.", _open(2)),
    "_sopen_s": Function("psiii", _open_s(1)),
    "_wsopen_s": Function("pwiii", _open_s(2)),
    **dict.fromkeys(("_creat", "creat"), Function("si", _create(1))),
    "_wcreat": Function("wi", _create(2)),
    **dict.fromkeys(("_write", "write"), Function("ipu", _write)),
    **dict.fromkeys(("_read", "read"), Function("ipu", _read)),
    **dict.fromkeys(("_lseek", "lseek"), Function("iii", _seek)),
    **dict.fromkeys(("_lseeki64", "lseek64"), Function("iqi>q", _seek)),
    **dict.fromkeys(("_tell", "tell"), Function("i", _position)),
    "_telli64": Function("i>q", _position),
    **dict.fromkeys(("_close", "close"), Function("i", lambda crt, number: crt.files.close(number))),
    **dict.fromkeys(("_dup", "dup"), Function("i", lambda crt, number: crt.files.duplicate(number))),
    "_dup2": Function("ii", lambda crt, number, wanted: min(crt.files.duplicate(number, wanted), 0)),
    **dict.fromkeys(("_eof", "eof"), Function("i", _at_end)),
    **dict.fromkeys(("_setmode", "setmode"), Function("ii", _set_mode)),
    **dict.fromkeys(("_isatty", "isatty"), Function("i", _is_terminal)),
    **dict.fromkeys(
        ("_filelength", "filelength"), Function("i", lambda crt, number: crt.files.length(number))
    ),
    "_filelengthi64": Function("i>q", lambda crt, number: crt.files.length(number)),
    **dict.fromkeys(("_chsize", "chsize"), Function("ii", _resize)),
    "_chsize_s": Function("iq", _resize_s),
    "_commit": Function("i", lambda _crt, _number: 0),
    "_locking": Function("iii", lambda _crt, _number, _mode, _size: 0),
    "_pipe": Function("pui", _pipe),
    "_get_osfhandle": Function("i", lambda crt, number: crt.files.os_handle(number)),
    "_open_osfhandle": Function("pi", lambda crt, handle, flags: crt.files.adopt(handle, flags)),
    **dict.fromkeys(("_umask", "umask"), Function("i", _set_umask)),
}
"""Functions by name."""
