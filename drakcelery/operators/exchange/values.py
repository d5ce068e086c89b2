"""What a sample chose, as STIX 2.1 and MISP accept it; None for what they could not. Pure."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

import idna

from drakcelery.model.text import REPLACEMENT, clean, storable

LONGEST = 4096
"""Characters of a value."""
MOST_PORT = 65535
MOST_PID = 0xFFFF_FFFF
EPOCH = datetime.fromtimestamp(0, tz=UTC)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LAST_SECOND = 253_402_300_799
"""Of the year 9999, which RFC 3339 ends with."""
_SCHEMES = ("http", "https", "ftp")
_LONGEST_HOST = 253
_NO_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SAFE = "!$&'()*+,;=:@/%"
"""What RFC 3986 allows in a path, beside letters, digits and what is never escaped."""
_HIVES = {"\\registry\\machine": "HKEY_LOCAL_MACHINE", "\\registry\\user": "HKEY_USERS"}
_ROOT = re.compile(r"\\registry\\(?:machine|user)(?=\\|$)", re.IGNORECASE)
_SHORT_HIVE = re.compile(r"^HKLM|HKCC|HKCR|HKCU|HKU|^hklm|hkcc|hkcr|hkcu|hku")
"""What the schemas of STIX 2.1 refuse, anywhere in a key but for the first: they mean abbreviated hives."""
_ENGINE = re.compile(r"(?P<name>.*?)[\s-]+v?(?P<version>\d[\w.+~-]*)", re.ASCII)
_NO_PRODUCT = re.compile(r"[^a-z0-9]+")


def text(value: str | None, limit: int = LONGEST) -> str | None:
    """*value* as UTF-8 and databases can hold it, bounded; None if nothing is left."""
    kept = storable(value or "").replace("\x00", REPLACEMENT)
    return (kept if len(kept) <= limit else kept[: limit - 1] + "…") or None


def line(value: str | None, limit: int = LONGEST) -> str | None:
    """*value* in a line without spaces around it, and without control characters; None if nothing is left."""
    return clean(value or "", limit).strip() or None


def moment(seconds: float | None) -> datetime | None:
    """A time; None for one that no calendar has."""
    if seconds is None or not 0 <= seconds <= _LAST_SECOND:
        return None
    return datetime.fromtimestamp(seconds, tz=UTC)


def sha256(value: str | None) -> str | None:
    """A hash in lower case."""
    found = _SHA256.fullmatch((value or "").lower())
    return found[0] if found else None


def address(value: str) -> str | None:
    """An address of IPv4 or IPv6, in its usual form."""
    try:
        found = ipaddress.ip_address(value)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.scope_id is not None:
        return None
    return found.compressed if found.version == 4 or "." not in found.compressed else found.exploded


def host(value: str) -> str | None:
    """The name of a host in lower case, as DNS has it; None for an address, and for what is no name."""
    name = value.strip().rstrip(".").lower()
    if not name or len(name) > _LONGEST_HOST or address(name):
        return None
    try:
        found = idna.encode(name).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        return None
    # The last label of a name is no number: RFC 3696, section 2
    return found if len(found) <= _LONGEST_HOST and not found.rpartition(".")[2].isdigit() else None


def url(value: str) -> str | None:
    """A URL of HTTP or FTP as RFC 3986 has it: what may not stand there is escaped."""
    given = storable(value)
    if len(given) > LONGEST:
        return None
    try:
        parts = urlsplit(given)
        port = parts.port
    except ValueError:
        return None
    place = host(parts.hostname or "") or address(parts.hostname or "")
    if parts.scheme not in _SCHEMES or place is None:
        return None
    user, at, _ = parts.netloc.rpartition("@")
    where = f"[{place}]" if ":" in place else place
    where = f"{_escaped(user, '')}{at}{where}" + (f":{port}" if port is not None else "")
    query = f"?{_escaped(parts.query, '?')}" if parts.query else ""
    fragment = f"#{_escaped(parts.fragment, '?')}" if parts.fragment else ""
    return f"{parts.scheme}://{where}{_escaped(parts.path, '')}{query}{fragment}"


def _escaped(part: str, more: str) -> str:
    return _NO_ESCAPE.sub("%25", quote(part, safe=_SAFE + more))


def whole_hive(value: str) -> str:
    """A key with the whole name of its hive."""
    return _ROOT.sub(lambda root: _HIVES[root[0].lower()], value, count=1)


def registry_key(value: str) -> str | None:
    """A key as STIX has it; None for one that its schemas refuse."""
    key = text(whole_hive(value))
    return None if key is None or _SHORT_HIVE.search(key) else key


def engine(name: str) -> tuple[str, str | None]:
    """What analysed, by name and version: ``drakvuf 1.1-8107f11``, ``emulator speakeasy-1.5.11``."""
    found = _ENGINE.fullmatch(name.strip())
    product = _NO_PRODUCT.sub("-", (found["name"] if found else name).lower()).strip("-")
    return product[:64] or "unknown", found["version"] if found else None
