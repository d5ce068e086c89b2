"""CryptoAPI's numbers (``wincrypt.h``, ``winerror.h``), and which provider has which algorithm."""

from __future__ import annotations

from typing import Final

BAD_UID, BAD_HASH, BAD_KEY, BAD_LEN, BAD_DATA = (0x80090001 + number for number in range(5))
BAD_SIGNATURE, BAD_ALGID, BAD_FLAGS, BAD_TYPE = 0x80090006, 0x80090008, 0x80090009, 0x8009000A
BAD_KEY_STATE, BAD_HASH_STATE, NO_KEY, EXISTS = 0x8009000B, 0x8009000C, 0x8009000D, 0x8009000F
BAD_PROV_TYPE, BAD_KEYSET, NOT_DEFINED = 0x80090014, 0x80090016, 0x80090019
"""``NTE_…``"""

KEYX, SIGN = 0xA400, 0x2400
PAIRS: Final = {1: KEYX, 2: SIGN, KEYX: KEYX, SIGN: SIGN}
"""``AT_KEYEXCHANGE``, ``AT_SIGNATURE`` and the algorithms that they stand for."""

HMAC: Final = 0x8009
HASHES: Final = {
    0x8001: "MD2",
    0x8002: "MD4",
    0x8003: "MD5",
    0x8004: "SHA1",
    0x800C: "SHA256",
    0x800D: "SHA384",
    0x800E: "SHA512",
}
CIPHERS: Final = {
    0x6601: ("DES", 64),
    0x6602: ("RC2", 128),
    0x6603: ("3DES", 192),
    0x6609: ("3DES_112", 128),
    0x660E: ("AES", 128),
    0x660F: ("AES", 192),
    0x6610: ("AES", 256),
    0x6801: ("RC4", 128),
}
"""Name, and bits of a key of which nothing is said."""

NEWER: Final = frozenset((0x660E, 0x660F, 0x6610, 0x800C, 0x800D, 0x800E))
"""What the providers of ``PROV_RSA_FULL`` lack."""

PROV_RSA_FULL: Final = 1
BASE: Final = "Microsoft Base Cryptographic Provider v1.0"
AES: Final = "Microsoft Enhanced RSA and AES Cryptographic Provider"
PROVIDERS: Final = {
    PROV_RSA_FULL: ("Microsoft Strong Cryptographic Provider", BASE, f"Microsoft Enhanced{BASE[14:]}"),
    2: ("Microsoft RSA Signature Cryptographic Provider",),
    3: ("Microsoft Base DSS Cryptographic Provider",),
    12: ("Microsoft RSA SChannel Cryptographic Provider",),
    13: (
        "Microsoft Enhanced DSS and Diffie-Hellman Cryptographic Provider",
        "Microsoft Base DSS and Diffie-Hellman Cryptographic Provider",
    ),
    18: ("Microsoft DH SChannel Cryptographic Provider",),
    24: (AES, f"{AES} (Prototype)"),
}
"""Which there are of each type; a program that names none gets the first one."""


def has(kind: int, algorithm: int) -> bool:
    """Whether a provider of that type knows an algorithm."""
    known = algorithm in HASHES or algorithm in CIPHERS or algorithm in PAIRS or algorithm == HMAC
    return known and not (kind == PROV_RSA_FULL and algorithm in NEWER)


def default_bits(provider: str, algorithm: int) -> int:
    """Bits of a key of which a program says nothing."""
    if algorithm in PAIRS:
        return 512 if provider == BASE else 1024
    name, bits = CIPHERS[algorithm]
    return 40 if provider == BASE and name in ("RC2", "RC4") else bits
