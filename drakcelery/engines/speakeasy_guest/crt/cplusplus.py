"""C++: ``std::exception`` and ``type_info`` of Visual C++'s runtimes, whose names are decorated.

An exception is a virtual table, a pointer to its text, and whether that text is its own. In 32 bit a method
has its object in ecx (letter ``t``) and takes its arguments from the stack.
"""

from __future__ import annotations

from drakcelery.engines.speakeasy_guest.crt.abi import Answer, Function
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime

CLASSES = ("exception", "bad_cast", "bad_typeid", "bad_alloc", "__non_rtti_object")
UNKNOWN = "Unknown exception"


def _set_text(crt: Runtime, fields: int, text: int, *, own: bool) -> None:
    machine = crt.machine
    fresh = text
    if own and text:
        data = machine.string(text, 1, 4096) + b"\0"
        fresh = crt.heap.allocate(len(data))
        machine.write(fresh, data)
    machine.put(fields, fresh)
    machine.put(fields + machine.size, int(own and bool(text)), 1)


def _release_text(crt: Runtime, fields: int) -> None:
    machine = crt.machine
    if machine.number(fields + machine.size, 1):
        crt.heap.release(machine.number(fields))
    machine.write(fields, bytes(machine.size + 1))


def _made(name: str, *, by_reference: bool, own: bool = True) -> Answer:
    """A constructor: with a text (or a reference to one), or without."""

    def answer(crt: Runtime, this: int, text: int = 0, _flag: int = 0) -> int:
        machine = crt.machine
        machine.put(this, crt.variables.address(f"??_7{name}@@6B@"))
        address = machine.number(text) if by_reference and text else text
        _set_text(crt, this + machine.size, address, own=own)
        return this

    return answer


def _copied(name: str) -> Answer:
    def answer(crt: Runtime, this: int, other: int) -> int:
        machine = crt.machine
        machine.put(this, crt.variables.address(f"??_7{name}@@6B@"))
        _set_text(crt, this + machine.size, machine.number(other + machine.size), own=True)
        return this

    return answer


def _destroyed(crt: Runtime, this: int) -> int:
    _release_text(crt, this + crt.machine.size)
    return this


def _deleted(crt: Runtime, this: int, flags: int) -> int:
    _destroyed(crt, this)
    if flags & 1:
        crt.heap.release(this)
    return this


def _what(crt: Runtime, this: int) -> int:
    return crt.machine.number(this + crt.machine.size) or crt.variables.text(UNKNOWN, 1)


def _copy_data(crt: Runtime, source: int, target: int) -> int:
    _set_text(
        crt, target, crt.machine.number(source), own=bool(crt.machine.number(source + crt.machine.size, 1))
    )
    return 0


def _destroy_data(crt: Runtime, data: int) -> int:
    _release_text(crt, data)
    return 0


def _type_name(crt: Runtime, this: int) -> int:
    """``type_info::name``: the decorated name, which lies behind two pointers."""
    return this + 2 * crt.machine.size


def _same_type(crt: Runtime, this: int, other: int) -> int:
    place = 2 * crt.machine.size
    return int(crt.machine.string(this + place, 1, 4096) == crt.machine.string(other + place, 1, 4096))


def _methods(name: str) -> dict[str, Function]:
    """The methods of an exception's class, by their names in 32 and in 64 bit."""
    text = _made(name, by_reference=True)
    table = {}
    for narrow, wide, signature, answer in (
        ("??0{}@@QAE@XZ", "??0{}@@QEAA@XZ", "t", text),
        ("??0{}@@QAE@ABQBD@Z", "??0{}@@QEAA@AEBQEBD@Z", "tp", text),
        ("??0{}@@QAE@ABQBDH@Z", "??0{}@@QEAA@AEBQEBDH@Z", "tpi", _made(name, by_reference=True, own=False)),
        ("??0{}@@QAE@PBD@Z", "??0{}@@QEAA@PEBD@Z", "tp", _made(name, by_reference=False)),
        ("??0{}@@QAE@ABV0@@Z", "??0{}@@QEAA@AEBV0@@Z", "tp", _copied(name)),
        ("??4{}@@QAEAAV0@ABV0@@Z", "??4{}@@QEAAAEAV0@AEBV0@@Z", "tp", _copied(name)),
        ("??1{}@@UAE@XZ", "??1{}@@UEAA@XZ", "t", _destroyed),
        ("??_G{}@@UAEPAXI@Z", "??_G{}@@UEAAPEAXI@Z", "tu", _deleted),
        ("?what@{}@@UBEPBDXZ", "?what@{}@@UEBAPEBDXZ", "t", _what),
    ):
        function = Function(signature, answer, len(signature) - 1)
        table[narrow.format(name)] = table[wide.format(name)] = function
    return table


def _all_methods() -> dict[str, Function]:
    table: dict[str, Function] = {}
    for name in CLASSES:
        table |= _methods(name)
    return table


FUNCTIONS: dict[str, Function] = {
    **_all_methods(),
    "__std_exception_copy": Function("pp", _copy_data),
    "__std_exception_destroy": Function("p", _destroy_data),
    **dict.fromkeys(("??1type_info@@UAE@XZ", "??1type_info@@UEAA@XZ"), Function("t", lambda _crt, _this: 0)),
    **dict.fromkeys(("?name@type_info@@QBEPBDXZ", "?name@type_info@@QEBAPEBDXZ"), Function("t", _type_name)),
    **dict.fromkeys(
        ("??8type_info@@QBE_NABV0@@Z", "??8type_info@@QEBA_NAEBV0@@Z"), Function("tp", _same_type, 1)
    ),
    "__std_type_info_name": Function("pp", lambda crt, data, _list: data + crt.machine.size),
    "__std_type_info_destroy_list": Function("p", lambda _crt, _list: 0),
    "__clean_type_info_names_internal": Function("p", lambda _crt, _list: 0),
}
"""Functions by their decorated names."""
