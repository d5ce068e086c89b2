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
_DOT, _COLON = re.compile(r"(?<!\[)\.(?!\])"), re.compile(r"(?<!\[):(?!\])")
_KNOWN = re.compile(r"(?:https?|ftps?)$", re.IGNORECASE)
_WITHOUT_T = str.maketrans("tT", "xX")


def shown(value: object, limit: int = LONG) -> str:
    """*value* for a terminal or a page, defanged; of a long one the middle is left out."""
    text = value if isinstance(value, str) else str(value)
    if len(text) > limit:
        head = limit * 2 // 3
        text = f"{text[:head]}…{text[head - limit + 1 :]}"
    return _LINK.sub(_defanged, clean(text, limit))


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
