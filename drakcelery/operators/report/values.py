"""What a sample chose, made fit to be shown: printable, bounded, and nothing in it to click on. Pure."""

from __future__ import annotations

import re

from drakcelery.model.text import clean

SHORT = 60
"""Characters of a name among others."""
LONG = 200
LONGEST = 2000
"""Characters of a value where everything is shown."""
_LINK = re.compile(
    r"(?P<scheme>[a-z0-9+.-]{1,16})://(?P<place>(?:(?![a-z0-9+.-]{1,16}://)[^\s/?#\\])*)"
    r"|\bwww\.(?:(?![a-z0-9+.-]{1,16}://)[^\s/?#\\])*",
    re.IGNORECASE,
)
"""With any scheme, and what terminals and wikis take for one. A place ends where a link begins."""
_LONGEST_BEGIN = 19
"""Characters of a scheme and its ``://``."""
_DOT, _COLON = re.compile(r"(?<!\[)\.(?!\])"), re.compile(r"(?<!\[):(?!\])")
_KNOWN = re.compile(r"(?:https?|ftps?)$", re.IGNORECASE)
_WITHOUT_T = str.maketrans("tT", "xX")


def shown(value: object, limit: int = LONG) -> str:
    """*value* for a terminal or a page, defanged; of a long one the middle is left out."""
    text = value if isinstance(value, str) else str(value)
    if len(text) <= limit:
        return _LINK.sub(_defanged, clean(text, limit))
    start = _outside_a_link(text, len(text) - (limit - 1) // 3, reach=limit // 2)
    head = limit - 1 - (len(text) - start)
    return "…".join(_LINK.sub(_defanged, clean(piece, limit)) for piece in (text[:head], text[start:]))


def _outside_a_link(text: str, start: int, *, reach: int) -> int:
    """*start*, or the beginning of the link that it is in: the rest of a scheme or host is another one.

    A link that begins *reach* characters before it, or earlier, stays cut.
    """
    earliest = start - reach
    for link in _LINK.finditer(text, earliest, start + _LONGEST_BEGIN):
        if earliest < link.start() < start < link.end():
            return link.start()
    return start


def _defanged(link: re.Match[str]) -> str:
    """``hxxp://a[.]example``, ``fxp://``, ``ws[:]//``, ``www[.]a[.]example``."""
    scheme, place = link["scheme"], link["place"]
    if scheme is None:
        return _DOT.sub("[.]", link[0])
    known = _KNOWN.search(scheme) is not None
    begin = f"{scheme.translate(_WITHOUT_T)}://" if known else f"{scheme}[:]//"
    return begin + _DOT.sub("[.]", place)


def shown_host(name: str) -> str:
    """The name of a host, or its address, defanged: ``a[.]example``, ``2001[:]db8[:][:]1``."""
    text = _DOT.sub("[.]", shown(name))
    is_ipv6 = text.count(":") > 1
    return _COLON.sub("[:]", text) if is_ipv6 else text
