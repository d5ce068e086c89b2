"""Small parts of the runtime's state: ``errno``, modes, handlers, locks, floating point control, locale."""

from __future__ import annotations

from drakcelery.engines.speakeasy_guest.crt.abi import Answer, Function
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime

CONTROL_WORD = 0x0009001F
"""``_controlfp``'s default: all exceptions masked, 53 bits, round to nearest."""

ERRORS = {
    0: "No error",
    1: "Operation not permitted",
    2: "No such file or directory",
    9: "Bad file descriptor",
    12: "Not enough space",
    13: "Permission denied",
    17: "File exists",
    20: "Not a directory",
    21: "Is a directory",
    22: "Invalid argument",
    24: "Too many open files",
    28: "No space left on device",
    33: "Domain error",
    34: "Result too large",
    42: "Illegal byte sequence",
}
"""``strerror``'s sentences (C runtime's documentation)."""


def constant(signature: str, result: int) -> Function:
    """A function that always gives *result*."""
    return Function(signature, lambda _crt, *_arguments: result)


def _address(name: str) -> Function:
    return Function("", lambda crt: crt.variables.address(name))


def _read_variable(name: str, size: int = 4) -> Function:
    def answer(crt: Runtime, target: int) -> int:
        crt.machine.put(target, crt.machine.number(crt.variables.address(name), size), size)
        return 0

    return Function("p", answer)


def _set_variable(name: str) -> Function:
    def answer(crt: Runtime, value: int) -> int:
        crt.machine.put(crt.variables.address(name), value, 4)
        return 0

    return Function("i", answer)


def _set_app_type(crt: Runtime, kind: int) -> int:
    crt.process.app_type = kind
    return 0


def _set_invalid_parameter_handler(crt: Runtime, handler: int) -> int:
    old, crt.process.invalid_parameter = crt.process.invalid_parameter, handler
    return old


def _control_s(crt: Runtime, current: int, _value: int, _mask: int) -> int:
    crt.machine.put(current, CONTROL_WORD, 4)
    return 0


def _error_text(width: int) -> Answer:
    def answer(crt: Runtime, number: int) -> int:
        return crt.variables.text(ERRORS.get(number, "Unknown error"), width)

    return answer


def _error_text_s(width: int) -> Answer:
    def answer(crt: Runtime, buffer: int, room: int, number: int) -> int:
        if buffer and room:
            crt.machine.put_text(buffer, ERRORS.get(number, "Unknown error")[: room - 1], width)
        return 0

    return answer


def _stream(crt: Runtime, number: int) -> int:
    return crt.streams.standard(number)


def _stream_table(crt: Runtime) -> int:
    for number in range(3):
        crt.streams.standard(number)
    return crt.variables.address("_iob")


FUNCTIONS: dict[str, Function] = {
    "_errno": _address("errno"),
    "__doserrno": _address("doserrno"),
    "_get_errno": _read_variable("errno"),
    "_set_errno": _set_variable("errno"),
    "_get_doserrno": _read_variable("doserrno"),
    "_set_doserrno": _set_variable("doserrno"),
    "_get_fmode": _read_variable("_fmode"),
    "_set_fmode": _set_variable("_fmode"),
    "_get_osver": _read_variable("_osver"),
    "_get_winver": _read_variable("_winver"),
    "_get_winmajor": _read_variable("_winmajor"),
    "_get_winminor": _read_variable("_winminor"),
    "_get_osplatform": _read_variable("_osplatform"),
    "__pctype_func": Function("", lambda crt: crt.machine.number(crt.variables.address("_pctype"))),
    "__pwctype_func": Function("", lambda crt: crt.machine.number(crt.variables.address("_pwctype"))),
    "___mb_cur_max_func": constant("", 1),
    "___lc_codepage_func": constant("", 1252),
    "___lc_collate_cp_func": constant("", 0),
    "___lc_handle_func": _address("__lc_handle"),
    "___lc_locale_name_func": _address("__lc_handle"),
    "__sys_nerr": _address("_sys_nerr"),
    "__sys_errlist": _address("_sys_errlist"),
    "__iob_func": Function("", _stream_table),
    "__acrt_iob_func": Function("u", _stream),
    "_set_app_type": Function("i", _set_app_type),
    "__set_app_type": Function("i", _set_app_type),
    "_query_app_type": Function("", lambda crt: crt.process.app_type),
    "_set_invalid_parameter_handler": Function("p", _set_invalid_parameter_handler),
    "_get_invalid_parameter_handler": Function("", lambda crt: crt.process.invalid_parameter),
    "_set_thread_local_invalid_parameter_handler": constant("p", 0),
    "_get_thread_local_invalid_parameter_handler": constant("", 0),
    "_invalid_parameter_noinfo": constant("", 0),
    "_set_purecall_handler": constant("p", 0),
    "_get_purecall_handler": constant("", 0),
    "_set_new_handler": constant("p", 0),
    "?_set_new_handler@@YAP6AHI@ZP6AHI@Z@Z": constant("p", 0),
    "?set_new_handler@@YAP6AXXZP6AXXZ@Z": constant("p", 0),
    "_set_new_mode": constant("i", 0),
    "_query_new_mode": constant("", 0),
    "_query_new_handler": constant("", 0),
    "_callnewh": constant("p", 0),
    "_set_abort_behavior": constant("uu", 0),
    "_set_error_mode": constant("i", 0),
    "__setusermatherr": constant("p", 0),
    "_setusermatherr": constant("p", 0),
    "_configthreadlocale": constant("i", 2),
    "_lock": constant("i", 0),
    "_unlock": constant("i", 0),
    "_lock_file": constant("p", 0),
    "_unlock_file": constant("p", 0),
    "_lock_locales": constant("", 0),
    "_unlock_locales": constant("", 0),
    "_controlfp": constant("uu", CONTROL_WORD),
    "_control87": constant("uu", CONTROL_WORD),
    "_controlfp_s": Function("puu", _control_s),
    "_clearfp": constant("", 0),
    "_statusfp": constant("", 0),
    "_clear87": constant("", 0),
    "_fpreset": constant("", 0),
    "fpreset": constant("", 0),
    "__fpe_flt_rounds": constant("", 1),
    "_set_FMA3_enable": constant("i", 0),
    "_get_FMA3_enable": constant("", 0),
    "_set_SSE2_enable": constant("i", 1),
    "_set_output_format": constant("u", 0),
    "_get_output_format": constant("", 0),
    "_set_printf_count_output": constant("i", 0),
    "_get_printf_count_output": constant("", 0),
    "_crt_debugger_hook": constant("i", 0),
    "__crt_debugger_hook": constant("i", 0),
    "_CrtSetReportMode": constant("ii", 0),
    "_CrtSetDbgFlag": constant("i", 0),
    "_XcptFilter": constant("up", 0),
    "_seh_filter_exe": constant("up", 0),
    "_seh_filter_dll": constant("up", 0),
    "__current_exception": _address("_aexit_rtn"),
    "__current_exception_context": _address("_aexit_rtn"),
    "__processing_throw": _address("_aexit_rtn"),
    "__uncaught_exception": constant("", 0),
    "__uncaught_exceptions": constant("", 0),
    "__lconv_init": constant("", 0),
    "__initialize_lconv_for_unsigned_char": constant("", 0),
    "_getmbcp": constant("", 0),
    "_setmbcp": constant("i", 0),
    "strerror": Function("i", _error_text(1)),
    "_wcserror": Function("i", _error_text(2)),
    "strerror_s": Function("ppi", _error_text_s(1)),
    "_wcserror_s": Function("ppi", _error_text_s(2)),
}
"""Functions by name."""
