"""Functions that Visual C++ calls with operands on the x87's stack: ``_ftol`` and ``_CIpow`` and their kin.

They are a few instructions of the program's own processor, which for the mathematics call the usual function.
"""

from __future__ import annotations

from drakcelery.engines.speakeasy_guest.calling.guest_calls import ELSEWHERE, Elsewhere
from drakcelery.engines.speakeasy_guest.crt.abi import Answer, Function
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime

TO_INTEGER = bytes.fromhex(
    "55 89e5 83ec0c"  # push ebp; mov ebp, esp; sub esp, 12
    "d97dfe 668b45fe 80cc0c 668945fc d96dfc"  # the control word with both rounding bits: towards zero
    "df7df4 d96dfe"  # fistp qword [ebp-12]; the old control word again
    "8b45f4 8b55f8 c9 c3"  # eax and edx from there; leave; ret
)
ONE = ("83ec08 dd1c24 b8", "ffd0 83c408 c3")
"""``fstp qword [esp]; mov eax, function; call eax``, with room for one operand."""

TWO = ("83ec10 dd5c2408 dd1c24 b8", "ffd0 83c410 c3")
OPERANDS = {"pow": TWO, "atan2": TWO, "fmod": TWO} | dict.fromkeys(
    ("sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "exp", "log", "log10"), ONE
)


def _go(crt: Runtime, name: str, code: bytes) -> Elsewhere:
    address = crt.variables.shared(f"code of {name}", len(code))
    crt.machine.write(address, code)
    crt.machine.jump(address)
    return ELSEWHERE


def _to_integer(crt: Runtime) -> Elsewhere:
    return _go(crt, "_ftol", TO_INTEGER)


def _operation(name: str) -> Answer:
    before, after = map(bytes.fromhex, OPERANDS[name])

    def answer(crt: Runtime) -> Elsewhere:
        function = int(crt.emu.get_proc("msvcrt", name))
        return _go(crt, name, before + function.to_bytes(4, "little") + after)

    return answer


FUNCTIONS: dict[str, Function] = {
    **dict.fromkeys(("_ftol", "_ftol2", "_ftol2_sse"), Function("", _to_integer)),
    **{f"_CI{name}": Function("", _operation(name)) for name in OPERANDS},
}
"""Functions by name; of 32-bit programs only."""
