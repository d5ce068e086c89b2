"""A certificate for the embedded SeaweedFS' own ports, which have no passwords: only clients with its key get
in.

It is self-signed, and valid for 127.0.0.1 (X.509, RFC 5280), with a key of the curve P-256.
"""

from __future__ import annotations

import datetime
import secrets

from Crypto.Hash import SHA256
from Crypto.IO import PEM
from Crypto.PublicKey import ECC
from Crypto.Signature import DSS
from Crypto.Util.asn1 import DerInteger, DerObjectId

VALID = datetime.timedelta(days=3650)
"""A stack may run for a long time; its next start makes another certificate."""
EARLY = datetime.timedelta(days=1)
"""The certificate begins earlier, since the clock may be set back meanwhile."""

_BOOLEAN, _BITS, _OCTETS, _UTF8, _SEQUENCE, _SET = 0x01, 0x03, 0x04, 0x0C, 0x30, 0x31
_SHORT_TIME, _TIME = 0x17, 0x18
_VERSION, _EXTENSIONS, _IP_ADDRESS = 0xA0, 0xA3, 0x87
"""Tags of ASN.1, and those that RFC 5280 gives a meaning."""
_COMMON_NAME, _ALTERNATIVE_NAME, _CONSTRAINTS = "2.5.4.3", "2.5.29.17", "2.5.29.19"
_ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2"
_TRUE = b"\xff"


def make(name: str, *, now: datetime.datetime) -> tuple[str, str]:
    """(certificate, key), both as PEM, for somebody called *name*, from *now* on."""
    key = ECC.generate(curve="P-256")
    algorithm = _sequence(_identifier(_ECDSA_WITH_SHA256))
    subject = _sequence(_der(_SET, _sequence(_identifier(_COMMON_NAME), _der(_UTF8, name.encode()))))
    signed = _sequence(
        _der(_VERSION, _integer(2)),  # which is called 3
        _integer(secrets.randbits(63) | 1),
        algorithm,
        subject,
        _sequence(_time(now - EARLY), _time(now + VALID)),
        subject,
        key.public_key().export_key(format="DER"),
        _der(_EXTENSIONS, _extensions()),
    )
    signature = DSS.new(key, "fips-186-3", encoding="der").sign(SHA256.new(signed))
    whole = _sequence(signed, algorithm, _der(_BITS, b"\0" + signature))
    private = key.export_key(format="PEM")
    return f"{PEM.encode(whole, 'CERTIFICATE')}\n", f"{private}\n"


def _extensions() -> bytes:
    """Extensions: the address, and that it is its own authority."""
    address = _sequence(_der(_IP_ADDRESS, bytes([127, 0, 0, 1])))
    authority = _sequence(_der(_BOOLEAN, _TRUE))
    return _sequence(
        _sequence(_identifier(_ALTERNATIVE_NAME), _der(_OCTETS, address)),
        _sequence(_identifier(_CONSTRAINTS), _der(_BOOLEAN, _TRUE), _der(_OCTETS, authority)),
    )


def _der(tag: int, content: bytes) -> bytes:
    """A value of ASN.1: tag, length, content."""
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size, "big") + content


def _sequence(*parts: bytes) -> bytes:
    return _der(_SEQUENCE, b"".join(parts))


def _identifier(dotted: str) -> bytes:
    return bytes(DerObjectId(dotted).encode())


def _integer(number: int) -> bytes:
    return bytes(DerInteger(number).encode())


def _time(moment: datetime.datetime) -> bytes:
    """A time with two digits of the year, as long as the RFC allows that."""
    utc = moment.astimezone(datetime.UTC)
    if utc.year < 2050:
        return _der(_SHORT_TIME, utc.strftime("%y%m%d%H%M%SZ").encode())
    return _der(_TIME, utc.strftime("%Y%m%d%H%M%SZ").encode())
