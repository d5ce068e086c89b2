"""RSA keys in the forms that Windows gives them: CryptoAPI's with the low byte first, CNG's the other way."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from Crypto.PublicKey import RSA

PUBLIC, PRIVATE = 0x6, 0x7
"""``PUBLICKEYBLOB`` and ``PRIVATEKEYBLOB``."""

HEADER: Final = struct.Struct("<BBHI")
"""``BLOBHEADER``: kind, version, nothing, algorithm."""

RSA_NUMBERS: Final = struct.Struct("<4sII")
CNG_NUMBERS: Final = struct.Struct("<4sIIIII")
LEAST_BITS, MOST_BITS = 384, 4096
"""Of a key; Windows makes longer ones too, which would take us a minute."""


def generate(bits: int, random: Callable[[int], bytes]) -> Any:
    """A new pair of keys. Raises ValueError for too many or too few *bits*."""
    if not LEAST_BITS <= bits <= MOST_BITS:
        raise ValueError(f"keys have {LEAST_BITS} to {MOST_BITS} bits")
    return _generated(bits, random) if bits < 1024 else RSA.generate(bits, randfunc=random)


def _generated(bits: int, random: Callable[[int], bytes]) -> Any:
    """The short ones that nobody should use; the library makes none."""
    from Crypto.Util import number

    exponent = 65537
    while True:
        first = number.getPrime(bits - bits // 2, randfunc=random)
        second = number.getPrime(bits // 2, randfunc=random)
        product = first * second
        if product.bit_length() == bits and number.GCD(exponent, (first - 1) * (second - 1)) == 1:
            private = number.inverse(exponent, (first - 1) * (second - 1))
            return RSA.construct((product, exponent, private, first, second), consistency_check=False)


def export(key: Any, kind: int, algorithm: int) -> bytes:
    """A blob of CryptoAPI."""
    size = key.size_in_bytes()
    half = -(-size // 2)
    magic = b"RSA2" if kind == PRIVATE else b"RSA1"
    parts = [(key.n, size)]
    if kind == PRIVATE:
        exponents = key.d % (key.p - 1), key.d % (key.q - 1), pow(key.q, -1, key.p)
        parts += [(number, half) for number in (key.p, key.q, *exponents)] + [(key.d, size)]
    head = HEADER.pack(kind, 2, 0, algorithm) + RSA_NUMBERS.pack(magic, size * 8, key.e)
    return head + b"".join(number.to_bytes(length, "little") for number, length in parts)


def read(blob: bytes) -> Any:
    """The key in a blob of CryptoAPI. Raises ValueError where there is none."""
    place = HEADER.size + RSA_NUMBERS.size
    if len(blob) < place:
        raise ValueError("too short")
    magic, bits, exponent = RSA_NUMBERS.unpack_from(blob, HEADER.size)
    size, half = bits // 8, -(-bits // 16)
    lengths = (size, half, half, half, half, half, size) if magic == b"RSA2" else (size,)
    if magic not in (b"RSA1", b"RSA2") or len(blob) < place + sum(lengths):
        raise ValueError("no RSA key")
    numbers = []
    for length in lengths:
        numbers.append(int.from_bytes(blob[place : place + length], "little"))
        place += length
    return _construct(numbers[0], exponent, *numbers[1:3], *numbers[6:])


def _construct(product: int, exponent: int, *private: int) -> Any:
    if not private:
        return RSA.construct((product, exponent), consistency_check=False)
    first, second = private[:2]
    power = private[2] if len(private) > 2 else pow(exponent, -1, (first - 1) * (second - 1))
    return RSA.construct((product, exponent, power, first, second), consistency_check=False)


def export_cng(key: Any, *, private: bool) -> bytes:
    """A blob of CNG: ``BCRYPT_RSAKEY_BLOB`` and its numbers."""
    size = key.size_in_bytes()
    exponent = key.e.to_bytes(-(-key.e.bit_length() // 8), "big")
    half = -(-size // 2) if private else 0
    head = CNG_NUMBERS.pack(b"RSA2" if private else b"RSA1", size * 8, len(exponent), size, half, half)
    primes = key.p.to_bytes(half, "big") + key.q.to_bytes(half, "big") if private else b""
    return bytes(head + exponent + key.n.to_bytes(size, "big") + primes)


def read_cng(blob: bytes) -> Any:
    """The key in a blob of CNG. Raises ValueError where there is none."""
    if len(blob) < CNG_NUMBERS.size:
        raise ValueError("too short")
    magic, _, *lengths = CNG_NUMBERS.unpack_from(blob)
    if magic not in (b"RSA1", b"RSA2", b"RSA3") or len(blob) < CNG_NUMBERS.size + sum(lengths):
        raise ValueError("no RSA key")
    place, numbers = CNG_NUMBERS.size, []
    for length in lengths:
        numbers.append(int.from_bytes(blob[place : place + length], "big"))
        place += length
    private = numbers[2:] if all(numbers[2:]) else []
    return _construct(numbers[1], numbers[0], *private)
