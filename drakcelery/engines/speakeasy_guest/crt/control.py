"""Where a program goes on: ``setjmp``, signals, ``qsort`` and ``bsearch``, random numbers, threads."""

from __future__ import annotations

import functools
from collections.abc import Generator

from drakcelery.engines.speakeasy_guest.calling.guest_calls import (
    ELSEWHERE,
    Elsewhere,
    GuestCall,
    Leave,
    Steps,
)
from drakcelery.engines.speakeasy_guest.crt.abi import Answer, Function, signed
from drakcelery.engines.speakeasy_guest.crt.descriptors import EINVAL
from drakcelery.engines.speakeasy_guest.crt.machine import Machine
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime
from drakcelery.engines.speakeasy_guest.crt.start_up import end_process

MAX_SORTED = 64 * 1024 * 1024
"""Bytes that ``qsort`` orders at most."""

SAVED_32 = ("ebp", "ebx", "edi", "esi")
SAVED_64 = (None, "rbx", None, "rbp", "rsi", "rdi", "r12", "r13", "r14", "r15")
"""Registers in ``jmp_buf``, in the order of ``setjmp.h``; the gaps are Frame and Rsp."""

SIGNALS = {2, 4, 8, 11, 15, 21, 22}
SIG_DFL, SIG_IGN, SIG_ERR = 0, 1, -1
SIGABRT = 22


def _save(crt: Runtime, buffer: int, *_frame: int) -> int:
    machine = crt.machine
    back = machine.number(machine.stack)
    if machine.is_64:
        for number, register in enumerate(SAVED_64):
            machine.put(buffer + 8 * number, machine.register(register) if register else 0)
        machine.put(buffer + 16, machine.stack)
        machine.put(buffer + 80, back)
        for number in range(10):
            machine.write(buffer + 96 + 16 * number, machine.xmm(6 + number).to_bytes(16, "little"))
    else:
        for number, register in enumerate(SAVED_32):
            machine.put(buffer + 4 * number, machine.register(register))
        machine.put(buffer + 16, machine.stack)
        machine.put(buffer + 20, back)
    return 0


def _restore(crt: Runtime, buffer: int, value: int) -> Elsewhere:
    machine = crt.machine
    if machine.is_64:
        for number, register in enumerate(SAVED_64):
            if register:
                machine.set_register(register, machine.number(buffer + 8 * number))
        for number in range(10):
            data = machine.read(buffer + 96 + 16 * number, 16)
            machine.set_xmm(6 + number, int.from_bytes(data, "little"))
        _go(machine, machine.number(buffer + 80), machine.number(buffer + 16), "rax", value)
    else:
        for number, register in enumerate(SAVED_32):
            machine.set_register(register, machine.number(buffer + 4 * number))
        _go(machine, machine.number(buffer + 20), machine.number(buffer + 16), "eax", value)
    return ELSEWHERE


def _go(machine: Machine, target: int, stack: int, register: str, value: int) -> None:
    machine.set_register(register, (value or 1) & 0xFFFFFFFF)
    machine.stack = stack + machine.size
    machine.jump(target)


def _set_signal(crt: Runtime, number: int, handler: int) -> int:
    if number not in SIGNALS:
        return crt.fail(EINVAL)
    old = crt.process.signals.get(number, SIG_DFL)
    crt.process.signals[number] = handler
    return old


def _raise(crt: Runtime, number: int) -> Steps:
    if number not in SIGNALS:
        return crt.fail(EINVAL)
    handler = crt.process.signals.get(number, SIG_DFL)
    if handler == SIG_DFL:
        crt.streams.flush_all()
        return end_process(crt)
    if handler != SIG_IGN:
        crt.process.signals[number] = SIG_DFL
        yield GuestCall(handler, (number,))
    return 0


# Sorting.


def _sort(*, context: bool) -> Answer:
    """``qsort``, and ``qsort_s``, whose comparison gets a context."""

    def answer(
        crt: Runtime, base: int, count: int, size: int, compare: int, given: int = 0
    ) -> Generator[GuestCall, int, int]:
        if not base or not size or count * size > MAX_SORTED:
            return crt.fail(EINVAL)
        data = crt.machine.read(base, count * size)
        items = [data[start : start + size] for start in range(0, len(data), size)]
        scratch = crt.heap.allocate(2 * size)
        ordered = yield from _merged(crt, items, (scratch, compare, (given,) if context else ()))
        crt.machine.write(base, b"".join(ordered))
        crt.heap.release(scratch)
        return 0

    return answer


def _merged(
    crt: Runtime, items: list[bytes], how: tuple[int, int, tuple[int, ...]]
) -> Generator[GuestCall, int, list[bytes]]:
    """Merge sort from below: the comparisons are the program's."""
    runs = [[item] for item in items]
    while len(runs) > 1:
        merged: list[list[bytes]] = []
        for number in range(0, len(runs), 2):
            pair = runs[number : number + 2]
            merged.append(pair[0] if len(pair) == 1 else (yield from _merge(crt, pair[0], pair[1], how)))
        runs = merged
    return runs[0] if runs else []


def _merge(
    crt: Runtime, left: list[bytes], right: list[bytes], how: tuple[int, int, tuple[int, ...]]
) -> Generator[GuestCall, int, list[bytes]]:
    scratch, compare, context = how
    result: list[bytes] = []
    one = two = 0
    while one < len(left) and two < len(right):
        size = len(left[one])
        crt.machine.write(scratch, left[one] + right[two])
        order = signed((yield GuestCall(compare, (*context, scratch, scratch + size))))
        if order <= 0:
            result.append(left[one])
            one += 1
        else:
            result.append(right[two])
            two += 1
    return result + left[one:] + right[two:]


def _search(*, context: bool, linear: bool = False) -> Answer:
    def answer(
        crt: Runtime, key: int, base: int, count: int, size: int, compare: int, given: int = 0
    ) -> Generator[GuestCall, int, int]:
        if linear:
            count = crt.machine.number(count, 4)
        first = (given,) if context else ()
        low, high = 0, count
        while low < high:
            middle = low if linear else (low + high) // 2
            place = base + middle * size
            order = signed((yield GuestCall(compare, (*first, key, place))))
            if order == 0:
                return place
            low, high = (low, middle) if order < 0 and not linear else (middle + 1, high)
        return 0

    return answer


# Random numbers: the generator of Microsoft's runtimes.


def _seed(crt: Runtime, seed: int) -> int:
    crt.process.random = seed
    return 0


def _random(crt: Runtime) -> int:
    crt.process.random = (crt.process.random * 214013 + 2531011) & 0xFFFFFFFF
    return crt.process.random >> 16 & 0x7FFF


def _random_s(crt: Runtime, target: int) -> int:
    crt.machine.put(target, _random(crt) << 17 ^ _random(crt) << 2 ^ _random(crt), 4)
    return 0


# Threads.


def _begin_thread(
    crt: Runtime, start: int, argument: int, *, suspended: bool = False, target: int = 0
) -> int:
    handle, thread = crt.emu.create_thread(
        start, argument, crt.emu.get_current_process(), thread_type="thread", is_suspended=suspended
    )
    if thread is None:
        return 0
    crt.machine.put(target, thread.get_id(), 4)
    return int(handle)


def _begin(crt: Runtime, start: int, _stack: int, argument: int) -> int:
    return _begin_thread(crt, start, argument) or -1


def _begin_ex(
    crt: Runtime, _security: int, _stack: int, start: int, argument: int, flags: int, target: int
) -> int:
    return _begin_thread(crt, start, argument, suspended=bool(flags & 4), target=target)


def _end_thread(crt: Runtime, *code: int) -> Steps:
    yield from crt.emu.leave_thread()
    yield Leave(lambda: crt.emu.scheduler.end(code[0] if code else 0))
    return 0


_jump = functools.partial(Function, answer=_save)

FUNCTIONS: dict[str, Function] = {
    "_setjmp": _jump("pp"),
    "_setjmpex": _jump("pp"),
    "setjmp": _jump("pp"),
    "_setjmp3": _jump("pp"),
    "__intrinsic_setjmp": _jump("pp"),
    "__intrinsic_setjmpex": _jump("pp"),
    "longjmp": Function("pi", _restore),
    "signal": Function("ip", _set_signal),
    "raise": Function("i", _raise),
    "qsort": Function("pppp", _sort(context=False)),
    "qsort_s": Function("ppppp", _sort(context=True)),
    "bsearch": Function("ppppp", _search(context=False)),
    "bsearch_s": Function("pppppp", _search(context=True)),
    "_lfind": Function("ppppp", _search(context=False, linear=True)),
    "srand": Function("u", _seed),
    "rand": Function("", _random),
    "rand_s": Function("p", _random_s),
    "_beginthread": Function("pup", _begin),
    "_beginthreadex": Function("puppup", _begin_ex),
    "_endthread": Function("", _end_thread),
    "_endthreadex": Function("u", _end_thread),
}
"""Functions by name."""
