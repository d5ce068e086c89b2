"""Mathematics: as Python computes it; what is not defined is NaN, what is too large infinite."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

from drakcelery.engines.speakeasy_guest.crt.abi import Answer, Function
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime

EDOM, ERANGE = 33, 34

ONE: dict[str, Callable[[float], float]] = {
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "asin": math.asin,
    "acos": math.acos,
    "atan": math.atan,
    "sinh": math.sinh,
    "cosh": math.cosh,
    "tanh": math.tanh,
    "asinh": math.asinh,
    "acosh": math.acosh,
    "atanh": math.atanh,
    "exp": math.exp,
    "expm1": math.expm1,
    "exp2": lambda x: math.pow(2, x),
    "log": math.log,
    "log2": math.log2,
    "log10": math.log10,
    "log1p": math.log1p,
    "sqrt": math.sqrt,
    "cbrt": lambda x: math.copysign(math.pow(abs(x), 1 / 3), x),
    "ceil": lambda x: _rounded(x, math.ceil),
    "floor": lambda x: _rounded(x, math.floor),
    "trunc": lambda x: _rounded(x, math.trunc),
    "round": lambda x: math.copysign(_rounded(abs(x) + 0.5, math.floor), x),
    "rint": lambda x: _rounded(x, round),
    "nearbyint": lambda x: _rounded(x, round),
    "fabs": math.fabs,
    "tgamma": math.gamma,
    "lgamma": math.lgamma,
    "erf": math.erf,
    "erfc": math.erfc,
}
TWO: dict[str, Callable[[float, float], float]] = {
    "pow": math.pow,
    "atan2": math.atan2,
    "fmod": math.fmod,
    "hypot": math.hypot,
    "copysign": math.copysign,
    "fmax": max,
    "fmin": min,
    "remainder": math.remainder,
    "nextafter": math.nextafter,
    "fdim": lambda x, y: max(x - y, 0.0),
}


def _rounded(value: float, how: Callable[[float], int]) -> float:
    return float(how(value)) if math.isfinite(value) else value


def _computed(function: Callable[..., float]) -> Answer:
    def answer(crt: Runtime, *values: float) -> float:
        try:
            return function(*values)
        except OverflowError:
            crt.fail(ERANGE)
            return math.inf
        except ValueError:
            crt.fail(EDOM)
            return -math.inf if values[0] == 0 else math.nan

    return answer


def _family() -> dict[str, Function]:
    table = {}
    for name, function in ONE.items():
        table[name] = Function("d>d", _computed(function))
        table[f"{name}f"] = Function("f>f", _computed(function))
    for name, pair in TWO.items():
        table[name] = Function("dd>d", _computed(pair))
        table[f"{name}f"] = Function("ff>f", _computed(pair))
    return table


def _split_whole(crt: Runtime, value: float, whole: int) -> float:
    fraction, part = math.modf(value)
    crt.machine.write(whole, _double(part))
    return fraction


def _split_exponent(crt: Runtime, value: float, exponent: int) -> float:
    fraction, power = math.frexp(value)
    crt.machine.put(exponent, power, 4)
    return fraction


def _double(value: float) -> bytes:
    return struct.pack("<d", value)


def _scaled(crt: Runtime, value: float, exponent: int) -> float:
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        crt.fail(ERANGE)
        return math.copysign(math.inf, value)


def _class(_crt: Runtime, value: float) -> int:
    if math.isnan(value):
        return 2
    return 1 if math.isinf(value) else 0 if value == 0 else -1


def _divided(_crt: Runtime, value: int, divisor: int) -> int:
    """``div``: quotient and remainder in one 64-bit result."""
    if not divisor:
        return 0
    quotient = int(math.copysign(abs(value) // abs(divisor), value * divisor)) if value else 0
    rest = value - quotient * divisor
    return (rest & 0xFFFFFFFF) << 32 | quotient & 0xFFFFFFFF


def _rotated(bits: int, *, left: bool) -> Answer:
    mask = (1 << bits) - 1

    def answer(_crt: Runtime, value: int, shift: int) -> int:
        shift = (shift if left else bits - shift) % bits
        return (value << shift | (value & mask) >> (bits - shift)) & mask

    return answer


def _whole(value: float) -> int:
    return int(value) if math.isfinite(value) else -(1 << 63)


FUNCTIONS: dict[str, Function] = {
    **_family(),
    "abs": Function("i", lambda _crt, value: abs(value)),
    "labs": Function("i", lambda _crt, value: abs(value)),
    **dict.fromkeys(("llabs", "_abs64"), Function("q>q", lambda _crt, value: abs(value))),
    "_cabs": Function("dd>d", _computed(math.hypot)),
    "_hypot": Function("dd>d", _computed(math.hypot)),
    "_copysign": Function("dd>d", _computed(math.copysign)),
    "_chgsign": Function("d>d", lambda _crt, value: -value),
    "modf": Function("dp>d", _split_whole),
    "frexp": Function("dp>d", _split_exponent),
    "ldexp": Function("di>d", _scaled),
    "scalbn": Function("di>d", _scaled),
    "_finite": Function("d", lambda _crt, value: int(math.isfinite(value))),
    "_isnan": Function("d", lambda _crt, value: int(math.isnan(value))),
    **dict.fromkeys(("_dclass", "_ldclass"), Function("d", _class)),
    "_fdclass": Function("f", _class),
    "_dsign": Function("d", lambda _crt, value: 0x8000 if math.copysign(1, value) < 0 else 0),
    **dict.fromkeys(("lround", "lrint"), Function("d", lambda _crt, value: _whole(round(value)))),
    **dict.fromkeys(("lroundf", "lrintf"), Function("f", lambda _crt, value: _whole(round(value)))),
    **dict.fromkeys(("llround", "llrint"), Function("d>q", lambda _crt, value: _whole(round(value)))),
    **dict.fromkeys(("div", "ldiv"), Function("ii>q", _divided)),
    **dict.fromkeys(("_rotl", "_lrotl"), Function("ui", _rotated(32, left=True))),
    **dict.fromkeys(("_rotr", "_lrotr"), Function("ui", _rotated(32, left=False))),
    "_rotl64": Function("qi>q", _rotated(64, left=True)),
    "_rotr64": Function("qi>q", _rotated(64, left=False)),
    "_byteswap_ulong": Function("u", lambda _crt, value: int.from_bytes(value.to_bytes(4, "little"), "big")),
    "_byteswap_ushort": Function(
        "u", lambda _crt, value: int.from_bytes((value & 0xFFFF).to_bytes(2, "little"), "big")
    ),
}
"""Functions by name."""
