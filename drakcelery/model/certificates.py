"""What went wrong with TLS, in words: which certificate, and which setting is about it. Pure.

Facts: libraries hand OpenSSL's words on in various errors, but all quote them: ``[SSL: REASON] what: details
(_ssl.c:1000)``. What the other side finds comes as an alert (RFC 8446, 6) in REASON. With TLS 1.3 a server
that wants a certificate says so only after the handshake, so a client meets the alert when it reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_WORDS = re.compile(r"\[SSL: (?P<reason>[A-Z0-9_]+)\](?: certificate verify failed: (?P<details>[^(]*))?")
_UNVERIFIED = "CERTIFICATE_VERIFY_FAILED"
_OTHER_NAME = ("Hostname mismatch", "IP address mismatch")
_NOT_NOW = ("certificate has expired", "certificate is not yet valid")
_NONE_SHOWN = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE")
"""Alerts of a server that wants a certificate and has got none."""
_REFUSED = (
    "UNKNOWN_CA",
    "CERTIFICATE_UNKNOWN",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED",
    "DECRYPT_ERROR",
)
"""Alerts of a server that does not take ours."""
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


@dataclass(frozen=True, kw_only=True)
class TlsFault:
    """Reads on from ``S3 at …``; the remedy is a sentence."""

    said: str
    remedy: str


def tls_fault(error: BaseException, *, section: str | None, plain: str) -> TlsFault | None:
    """What *error*, or what it comes from, has to do with TLS; None if nothing.

    *section* is that of the settings; None: the broker of its own, which has all in its URL. *plain* says how
    to do without TLS there.
    """
    found = next((match for one in _chain(error) if (match := _WORDS.search(str(one)))), None)
    if found is None:
        return None
    if found["reason"] == _UNVERIFIED:
        return _of_its_certificate((found["details"] or "it cannot be verified").strip(" ."), section)
    return _of_an_alert(found["reason"], section, plain)


def _keys(section: str | None, keys: str) -> str:
    return f"{keys} in the query of [celery] broker_url" if section is None else f"[{section}] {keys}"


def _of_its_certificate(details: str, section: str | None) -> TlsFault:
    if details.startswith(_OTHER_NAME):
        place = "[celery] broker_url" if section is None else f"[{section}]"
        return TlsFault(
            said=f"has a certificate for another name: {details}",
            remedy=f"Write the name that stands in its certificate into {place}, or get it another one.",
        )
    if details.startswith(_NOT_NOW):
        return TlsFault(
            said=f"has a certificate that is not valid now: {details}",
            remedy="Renew the server's certificate; if it is good, set this machine's clock right.",
        )
    key = _keys(section, "ssl_ca_certs")
    return TlsFault(
        said=f"has a certificate that nobody vouches for whom this machine trusts: {details}",
        remedy=f"Name the certificate of its authority, a file in PEM form: {key}.",
    )


def _of_an_alert(reason: str, section: str | None, plain: str) -> TlsFault:
    own = _keys(section, "ssl_certfile and ssl_keyfile")
    if reason.endswith(_REFUSED):
        return TlsFault(
            said=f"does not accept our certificate ({reason})",
            remedy=f"Name a valid certificate, of an authority that the server trusts, and its key: {own}.",
        )
    if reason.endswith(_NONE_SHOWN):
        return TlsFault(
            said=f"demands a certificate of its clients ({reason})",
            remedy=f"Name a certificate, of an authority that the server trusts, and its key: {own}.",
        )
    if reason in _NO_TLS:
        return TlsFault(said=f"does not speak TLS ({reason})", remedy=f"Name its port for TLS, or {plain}.")
    return TlsFault(
        said=f"and this machine find no way to speak TLS ({reason})",
        remedy="Compare which versions of TLS and which ciphers both take.",
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """*error*, and the errors that it wraps or comes from, each once."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [getattr(one, "reason", None), one.__cause__, one.__context__, *one.args]
