"""One table of the C runtime's functions, for all of the DLLs that have them."""

from __future__ import annotations

from drakcelery.engines.speakeasy_guest.calling import stdcall
from drakcelery.engines.speakeasy_guest.crt import (
    characters,
    control,
    cplusplus,
    floating,
    folders,
    for_cplusplus,
    locale,
    lowio,
    maths,
    memory,
    numbers,
    paths,
    printing,
    processes,
    scanning,
    scopes,
    start_up,
    state,
    stdio,
    strings,
    throwing,
    times,
    type_information,
)
from drakcelery.engines.speakeasy_guest.crt.abi import Function
from drakcelery.engines.speakeasy_guest.crt.lent_buffers import has_code
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime
from drakcelery.engines.speakeasy_guest.crt.variables import MAKERS

FUNCTIONS: dict[str, Function] = {
    **characters.FUNCTIONS,
    **control.FUNCTIONS,
    **cplusplus.FUNCTIONS,
    **floating.FUNCTIONS,
    **folders.FUNCTIONS,
    **for_cplusplus.FUNCTIONS,
    **locale.FUNCTIONS,
    **lowio.FUNCTIONS,
    **maths.FUNCTIONS,
    **memory.FUNCTIONS,
    **numbers.FUNCTIONS,
    **paths.FUNCTIONS,
    **printing.FUNCTIONS,
    **processes.FUNCTIONS,
    **scanning.FUNCTIONS,
    **scopes.FUNCTIONS,
    **start_up.FUNCTIONS,
    **state.FUNCTIONS,
    **stdio.FUNCTIONS,
    **strings.FUNCTIONS,
    **throwing.FUNCTIONS,
    **times.FUNCTIONS,
    **type_information.FUNCTIONS,
}
"""Functions by name."""

OPERATORS = ("??2@", "??3@")
"""How the decorated names of C++'s new and delete begin; MFC exports them too."""

SHARED_MODULES = ("ntdll", "ntoskrnl")
"""Modules of Windows that export some of them too."""


def is_crt(module: str) -> bool:
    """Whether a DLL is a C runtime, or exports functions of one."""
    return stdcall.is_cdecl(module) or module.lower() in SHARED_MODULES


def find(module: str, name: str) -> Function | None:
    """The function that an import names, or None. Operators new and delete are these wherever they are."""
    if not is_crt(module) and not name.startswith(OPERATORS):
        return None
    return FUNCTIONS.get(name) or _address_of_variable(name)


def _address_of_variable(name: str) -> Function | None:
    """``__p__fmode`` and the like."""
    variable = name.removeprefix("__p_")
    if variable == name or not is_variable(variable):
        return None
    return Function("", lambda crt: crt.variables.address(variable))


def is_variable(name: str) -> bool:
    """Whether an import of that name is data."""
    return name in MAKERS


def link_variables(runtime: Runtime, imports: dict[int, tuple[str, str]]) -> None:
    """Write the addresses of imported variables into a program's import slots, and of code of its own."""
    for slot, (module, name) in imports.items():
        address = variable(runtime, module, name) or _code(runtime, module, name)
        if address:
            runtime.machine.put(slot, address)


def _code(runtime: Runtime, module: str, name: str) -> int:
    """The address of code that does a function's work mostly without a call; 0 for other functions."""
    if not stdcall.is_cdecl(module) or not has_code(name):
        return 0
    return runtime.streams.lent.code(name, int(runtime.machine.emu.get_proc(module, name)))


def variable(runtime: Runtime, module: str, name: str) -> int:
    """The address of what a DLL exports, where it is a C runtime's and data; 0 for anything else."""
    if not stdcall.is_cdecl(module) or not is_variable(name):
        return 0
    if name == "_iob":
        for number in range(3):
            runtime.streams.standard(number)
    return runtime.variables.address(name)
