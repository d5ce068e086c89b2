"""Seccomp: a process keeps the system calls on a list and loses all others.

libseccomp makes the filter: it knows the numbers of every architecture, and comes with every Debian, whose
apt needs it. Its functions are called directly, since the bindings on PyPI look for the library by running
programs, which takes longer than all the rest.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass

LIBRARY = "libseccomp.so.2"

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_UNKNOWN = -1
"""``__NR_SCMP_ERROR``."""
_MASKED_EQUAL = 7
_EVERY_BIT = 2**64 - 1


@dataclass(frozen=True, kw_only=True)
class Call:
    """A system call that is allowed if one argument has these bits under a mask."""

    name: str
    argument: int
    value: int
    mask: int = _EVERY_BIT


class _Comparison(ctypes.Structure):
    """``struct scmp_arg_cmp``."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def load() -> ctypes.CDLL:
    """The library. Raises :class:`OSError` if it is not there."""
    library = ctypes.CDLL(LIBRARY, use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_release.restype = None
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_rule_add_array.argtypes = [
        *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint),
        ctypes.POINTER(_Comparison),
    ]
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    return library


def keep_only(library: ctypes.CDLL, names: Iterable[str], calls: Iterable[Call]) -> None:
    """Keep only these system calls for this thread and all that it starts, permanently; others do not exist
    for it.

    They fail with ENOSYS, so that the C library uses an older call that does the same. A name
    that this architecture lacks is skipped.

    Raises:
        OSError: the library or the kernel refuses.
    """
    plan = library.seccomp_init(_ERRNO | errno.ENOSYS)
    if not plan:
        raise OSError(errno.EINVAL, "seccomp_init")
    try:
        for name in names:
            _allow(library, plan, name)
        for call in calls:
            _allow(library, plan, call.name, call)
        _check(library.seccomp_load(plan), "seccomp_load")
    finally:
        library.seccomp_release(plan)


def _allow(library: ctypes.CDLL, plan: int, name: str, call: Call | None = None) -> None:
    number = library.seccomp_syscall_resolve_name(name.encode())
    if number == _UNKNOWN:
        return
    compared = [] if call is None else [(call.argument, _MASKED_EQUAL, call.mask, call.value)]
    array = (_Comparison * len(compared))(*(_Comparison(*one) for one in compared))
    _check(library.seccomp_rule_add_array(plan, _ALLOW, number, len(compared), array), name)


def _check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
