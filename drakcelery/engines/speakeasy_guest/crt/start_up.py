"""What runs before and after ``main``: arguments, environment, constructors, ``atexit`` and ``exit``."""

from __future__ import annotations

from drakcelery.engines.speakeasy_guest.calling.guest_calls import ELSEWHERE, Elsewhere, GuestCall, Steps
from drakcelery.engines.speakeasy_guest.crt.abi import Function
from drakcelery.engines.speakeasy_guest.crt.descriptors import EINVAL, ERANGE
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime

MAX_INITIALISERS = 65536
MAX_AT_EXIT = 65536
SIGABRT, IGNORE = 22, 1
"""The signal of ``abort``, and the handler that is none (``SIG_IGN``)."""


def _main_arguments(width: int) -> Function:
    names = ("__argv", "_environ", "__initenv") if width == 1 else ("__wargv", "_wenviron", "__winitenv")

    def answer(crt: Runtime, count: int, vector: int, environment: int, _wild: int, _mode: int) -> int:
        machine, variables = crt.machine, crt.variables
        machine.put(count, machine.number(variables.address("__argc"), 4), 4)
        machine.put(vector, machine.number(variables.address(names[0])))
        machine.put(environment, machine.number(variables.address(names[1])))
        variables.set_pointer(names[2], machine.number(variables.address(names[1])))
        return 0

    return Function("pppip", answer)


def _initialise(crt: Runtime, begin: int, end: int) -> Steps:
    yield from _run_all(crt, begin, end, until_failure=False)
    return 0


def _initialise_checked(crt: Runtime, begin: int, end: int) -> Steps:
    return (yield from _run_all(crt, begin, end, until_failure=True))


def _run_all(crt: Runtime, begin: int, end: int, *, until_failure: bool) -> Steps:
    size = crt.machine.size
    for number in range(min(max(end - begin, 0) // size, MAX_INITIALISERS)):
        function = crt.machine.number(begin + number * size)
        if function:
            result = (yield GuestCall(function)) & 0xFFFFFFFF
            if result and until_failure:
                return result
    return 0


# The end of the program.


def _at_exit(crt: Runtime, function: int) -> int:
    if len(crt.process.at_exit) < MAX_AT_EXIT:
        crt.process.at_exit.append(function)
    return 0


def _on_exit(crt: Runtime, function: int) -> int:
    _at_exit(crt, function)
    return function


def _on_exit_of_dll(crt: Runtime, function: int, begin: int, end: int) -> int:
    machine = crt.machine
    size = machine.size
    first, last = machine.number(begin), machine.number(end)
    old = machine.read(first, max(last - first, 0))
    fresh = crt.heap.allocate(len(old) + size)
    machine.write(fresh, old + function.to_bytes(size, "little"))
    machine.put(begin, fresh)
    machine.put(end, fresh + len(old) + size)
    return function


def _run_at_exit(crt: Runtime) -> Steps:
    while crt.process.at_exit:
        yield GuestCall(crt.process.at_exit.pop())
    crt.streams.flush_all()
    return 0


def _exit(crt: Runtime, _status: int) -> Steps:
    yield from _run_at_exit(crt)
    yield from crt.emu.libraries.detach_all()
    return end_process(crt)


def _exit_at_once(crt: Runtime, _status: int) -> Elsewhere:
    return end_process(crt)


def _abort(crt: Runtime) -> Steps:
    """The program's handler for ``SIGABRT`` has its say; where it returns, all is over."""
    handler = crt.process.signals.pop(SIGABRT, 0)
    if handler > IGNORE:
        yield GuestCall(handler, (SIGABRT,))
    crt.streams.flush_all()
    return end_process(crt)


def _give_up(crt: Runtime) -> Elsewhere:
    crt.streams.flush_all()
    return end_process(crt)


def end_process(crt: Runtime) -> Elsewhere:
    """The program runs no further."""
    crt.emu.exit_process()
    return ELSEWHERE


# Tables of functions for the end (UCRT): three pointers each, first, last, end.


def _initialise_table(crt: Runtime, table: int) -> int:
    if not table:
        return -1
    crt.machine.write(table, bytes(3 * crt.machine.size))
    return 0


def _register(crt: Runtime, table: int, function: int) -> int:
    size = crt.machine.size
    if not table:
        return -1
    first, last = crt.machine.number(table), crt.machine.number(table + size)
    old = crt.machine.read(first, last - first) if first else b""
    fresh = crt.heap.allocate(len(old) + size)
    if not fresh:
        return -1
    crt.machine.write(fresh, old + function.to_bytes(size, "little"))
    for number, value in enumerate((fresh, fresh + len(old) + size, fresh + len(old) + size)):
        crt.machine.put(table + number * size, value)
    return 0


def _execute_table(crt: Runtime, table: int) -> Steps:
    size = crt.machine.size
    first, last = crt.machine.number(table), crt.machine.number(table + size)
    functions = [crt.machine.number(place) for place in range(first, last, size)][-MAX_AT_EXIT:]
    crt.machine.write(table, bytes(3 * size))
    for function in reversed(functions):
        if function:
            yield GuestCall(function)
    return 0


# The environment.


def _find(crt: Runtime, name: str) -> str | None:
    return crt.variables.environment().get(name.upper())


def _get_environment(width: int) -> Function:
    def answer(crt: Runtime, name: int) -> int:
        value = _find(crt, crt.machine.name(name, width))
        return 0 if value is None else crt.variables.text(value, width)

    return Function("s" if width == 1 else "w", answer)


def _get_environment_s(width: int) -> Function:
    def answer(crt: Runtime, length: int, buffer: int, room: int, name: int) -> int:
        value = _find(crt, crt.machine.name(name, width))
        crt.machine.put(length, 0 if value is None else len(value) + 1)
        if buffer and room:
            crt.machine.put_name(buffer, "" if value is None or len(value) >= room else value, width)
        return ERANGE if buffer and value is not None and len(value) >= room else 0

    return Function("ppps" if width == 1 else "pppw", answer)


def _duplicate_environment(width: int) -> Function:
    def answer(crt: Runtime, buffer: int, length: int, name: int) -> int:
        value = _find(crt, crt.machine.name(name, width))
        fresh = 0
        if value is not None:
            fresh = crt.heap.allocate((len(value) + 1) * width)
            crt.machine.put_name(fresh, value, width)
        crt.machine.put(buffer, fresh)
        crt.machine.put(length, 0 if value is None else len(value) + 1)
        return 0

    return Function("pps" if width == 1 else "ppw", answer)


def _set_environment(crt: Runtime, name: str, value: str) -> int:
    if not name:
        return crt.fail(EINVAL)
    environment = crt.emu.get_env()
    for key in [key for key in environment if key.upper() == name.upper()]:
        del environment[key]
    if value:
        crt.emu.set_env(name, value)
    crt.variables.environment_changed()
    return 0


def _put_environment(width: int) -> Function:
    def answer(crt: Runtime, text: int) -> int:
        name, _, value = crt.machine.name(text, width).partition("=")
        return _set_environment(crt, name, value)

    return Function("s" if width == 1 else "w", answer)


def _put_environment_s(width: int) -> Function:
    def answer(crt: Runtime, name: int, value: int) -> int:
        result = _set_environment(crt, crt.machine.name(name, width), crt.machine.name(value, width))
        return EINVAL if result else 0

    return Function("ss" if width == 1 else "ww", answer)


def _pointer_in(name: str) -> Function:
    return Function("", lambda crt: crt.machine.number(crt.variables.address(name)))


def _program(width: int) -> Function:
    name = "_pgmptr" if width == 1 else "_wpgmptr"

    def answer(crt: Runtime, target: int) -> int:
        crt.machine.put(target, crt.machine.number(crt.variables.address(name)))
        return 0

    return Function("p", answer)


def _nothing(result: int = 0) -> Function:
    return Function("", lambda _crt: result)


def _windows_command_line(name: str, width: int) -> Function:
    """``_get_narrow_winmain_command_line``: what follows the program's name."""

    def answer(crt: Runtime) -> int:
        address = crt.machine.number(crt.variables.address(name))
        line = crt.machine.text(address, width)
        end = line.find('"', 1) + 1 if line.startswith('"') else line.find(" ")
        end = len(line) if end <= 0 else end
        end += len(line[end:]) - len(line[end:].lstrip(" \t"))
        return address + end * width

    return Function("", answer)


FUNCTIONS: dict[str, Function] = {
    "__getmainargs": _main_arguments(1),
    "__wgetmainargs": _main_arguments(2),
    "_initterm": Function("pp", _initialise),
    "_initterm_e": Function("pp", _initialise_checked),
    "atexit": Function("p", _at_exit),
    "_crt_atexit": Function("p", _at_exit),
    "_crt_at_quick_exit": _nothing(),
    "_onexit": Function("p", _on_exit),
    "__dllonexit": Function("ppp", _on_exit_of_dll),
    "_initialize_onexit_table": Function("p", _initialise_table),
    "_register_onexit_function": Function("pp", _register),
    "_execute_onexit_table": Function("p", _execute_table),
    "exit": Function("i", _exit),
    "_exit": Function("i", _exit_at_once),
    "_Exit": Function("i", _exit_at_once),
    "quick_exit": Function("i", _exit_at_once),
    "_amsg_exit": Function("i", _exit_at_once),
    "_cexit": Function("", _run_at_exit),
    "_c_exit": _nothing(),
    "abort": Function("", _abort),
    "terminate": Function("", _abort),
    "?terminate@@YAXXZ": Function("", _abort),
    "_purecall": Function("", _abort),
    "__std_terminate": Function("", _abort),
    "_invoke_watson": Function("", _give_up),
    "_invalid_parameter_noinfo_noreturn": Function("", _give_up),
    "_assert": Function("", _abort),
    "_wassert": Function("", _abort),
    "getenv": _get_environment(1),
    "_wgetenv": _get_environment(2),
    "getenv_s": _get_environment_s(1),
    "_wgetenv_s": _get_environment_s(2),
    "_dupenv_s": _duplicate_environment(1),
    "_wdupenv_s": _duplicate_environment(2),
    "_putenv": _put_environment(1),
    "_wputenv": _put_environment(2),
    "_putenv_s": _put_environment_s(1),
    "_wputenv_s": _put_environment_s(2),
    "_get_initial_narrow_environment": _pointer_in("_environ"),
    "_get_initial_wide_environment": _pointer_in("_wenviron"),
    "_get_narrow_winmain_command_line": _windows_command_line("_acmdln", 1),
    "_get_wide_winmain_command_line": _windows_command_line("_wcmdln", 2),
    "_get_pgmptr": _program(1),
    "_get_wpgmptr": _program(2),
    "_configure_narrow_argv": _nothing(),
    "_configure_wide_argv": _nothing(),
    "_initialize_narrow_environment": _nothing(),
    "_initialize_wide_environment": _nothing(),
    "_register_thread_local_exe_atexit_callback": _nothing(),
}
"""Functions by name."""
