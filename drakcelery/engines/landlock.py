"""Landlock: the kernel keeps a process to the files that it was given; see ``landlock(7)``.

Three system calls, which glibc has no functions for: an own binding is as long as the use of a library.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""The same on every architecture."""
_VERSION = 1
_PATH_BENEATH = 1

_READ_FILE, _READ_DIRECTORY = 1 << 2, 1 << 3
_WRITE = 1 << 1 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 14
"""Write to a file, remove one, make a directory, make a file, cut a file (from version 3 on)."""
_READ = _READ_FILE | _READ_DIRECTORY
_RIGHTS = ((5, 16), (3, 15), (2, 14), (1, 13))
"""From this version on, so many rights of the file system can be taken: the first 13, 14, 15, 16 bits."""
_TCP = 0b11
"""To bind, and to connect; from version 4 on."""
_SCOPES = 0b11
"""Abstract Unix sockets of others, and signals to others; from version 6 on."""


def version() -> int:
    """Which version of Landlock the kernel has; 0 for none, or one that is switched off."""
    return max(int(_libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)), 0)


class Ruleset:
    """What a process will be kept to; takes effect with :meth:`enforce`, permanently.

    The rules name open files, not paths: they may be made by a user who reaches more than the one that
    is kept to them.
    """

    def __init__(self, known: int) -> None:
        """*known* is what :func:`version` says. Raises :class:`OSError`."""
        self._rights = (1 << next(bits for since, bits in _RIGHTS if known >= since)) - 1
        attributes = [self._rights, *([_TCP] if known >= 4 else []), *([_SCOPES] if known >= 6 else [])]
        packed = (ctypes.c_uint64 * len(attributes))(*attributes)
        size = ctypes.c_size_t(ctypes.sizeof(packed))
        self._descriptor = _call("create_ruleset", _CREATE_RULESET, packed, size, 0)

    def may_read(self, paths: Iterable[Path]) -> None:
        """Let it read these files, and all below these directories; what is not there is skipped."""
        for path in paths:
            self._allow(path, _READ)

    def may_fill(self, directory: Path) -> None:
        """Let it make, write, rename and remove plain files and directories below *directory*."""
        self._allow(directory, _WRITE | _READ_DIRECTORY)

    def _allow(self, path: Path, rights: int) -> None:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                return
            raise
        try:
            rights &= (
                self._rights if stat.S_ISDIR(os.fstat(descriptor).st_mode) else self._rights & _READ_FILE
            )
            rule = struct.pack("=Qi", rights, descriptor)
            _call("add_rule", _ADD_RULE, self._descriptor, _PATH_BENEATH, rule, 0)
        finally:
            os.close(descriptor)

    def enforce(self) -> None:
        """Keep this thread, and all that it starts, to the rules. It must have no_new_privs set.

        Raises:
            OSError: the kernel refuses.
        """
        _call("restrict_self", _RESTRICT_SELF, self._descriptor, 0)
        os.close(self._descriptor)


def _call(name: str, *arguments: object) -> int:
    result = int(_libc().syscall(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"landlock_{name}: {os.strerror(number)}")
    return result


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc
