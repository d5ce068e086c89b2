"""Questions about HTTP: headers that are added to a request, and what is known of its answer."""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis import texts
from drakcelery.engines.speakeasy_guest.apis.api import MAX_TEXT, Api, put, read_text, text_argument
from drakcelery.engines.speakeasy_guest.apis.network import request_of
from drakcelery.engines.speakeasy_guest.machine.ansi import ANSI

NUMBER: Final = 0x20000000
"""``HTTP_QUERY_FLAG_NUMBER``: the answer is one of four bytes."""

KNOWN: Final = 0xFFFF
CONTENT_TYPE, CONTENT_LENGTH, STATUS_CODE, STATUS_TEXT, RAW, RAW_LINES = 1, 5, 19, 20, 21, 22
"""``HTTP_QUERY_…`` and ``WINHTTP_QUERY_…``."""

ERROR_INSUFFICIENT_BUFFER, ERROR_HEADER_NOT_FOUND = 122, 12150
LAN: Final = 0x12
"""``INTERNET_CONNECTION_LAN`` and ``INTERNET_RAS_INSTALLED``."""

ALL: Final = 0xFFFFFFFF
"""Length of headers that end with a zero."""


def _headers(emu: Any, place: int, length: int, *, wide: bool) -> str:
    if not place:
        return ""
    if length & ALL == ALL:
        return read_text(emu, place, wide=wide)
    data = bytes(emu.mem_read(place, min(length & ALL, MAX_TEXT) * (2 if wide else 1)))
    return data.decode("utf-16-le" if wide else ANSI, "replace").rstrip("\0")


def _add(emu: Any, name: str, argv: list[Any]) -> int:
    """``HttpAddRequestHeaders``: kept until the request is sent."""
    argv[1] = _headers(emu, argv[1], argv[2], wide=name.endswith("W"))
    emu.added_headers[argv[0]] = f"{emu.added_headers.get(argv[0], '')}{argv[1].strip()}\r\n"
    return 1


def _send(emu: Any, name: str, argv: list[Any]) -> int:
    """``HttpSendRequest`` with the headers that were added before."""
    wide = name.endswith("W")
    own = _headers(emu, argv[1], argv[2], wide=wide).strip()
    text = emu.added_headers.pop(argv[0], "") + (f"{own}\r\n" if own else "")
    if text:
        data = texts.ended(text, wide=wide)
        argv[1], argv[2] = emu.mem_map(len(data), tag="api.HttpSendRequest"), ALL
        emu.mem_write(argv[1], data)
    else:
        argv[1] = 0
    return int(emu.original("wininet", name, argv) or 0)


def _answered(emu: Any, handle: int, kind: int) -> str | None:
    """A part of the answer to a request; None for one that it does not have."""
    _, body = request_of(emu, handle)
    lines = ["HTTP/1.1 200 OK", "Content-Type: application/octet-stream", f"Content-Length: {len(body)}"]
    return {
        CONTENT_TYPE: "application/octet-stream",
        CONTENT_LENGTH: str(len(body)),
        STATUS_CODE: "200",
        STATUS_TEXT: "OK",
        RAW: "\0".join((*lines, "")),
        RAW_LINES: "\r\n".join((*lines, "", "")),
    }.get(kind)


def _query(emu: Any, handle: int, level: int, target: int, size: int, *, wide: bool) -> int:
    text = _answered(emu, handle, level & KNOWN)
    if text is None:
        emu.set_last_error(ERROR_HEADER_NOT_FOUND)
        return 0
    if level & NUMBER and text.isdigit():
        put(emu, target, int(text), 4)
        put(emu, size, 4, 4)
        return 1
    data = texts.ended(text, wide=wide)
    width = 2 if wide else 1
    room = int.from_bytes(emu.mem_read(size, 4), "little")
    if not target or room < len(data):
        put(emu, size, len(data), 4)
        emu.set_last_error(ERROR_INSUFFICIENT_BUFFER)
        return 0
    emu.mem_write(target, data)
    put(emu, size, len(data) - width, 4)
    return 1


def _http_query(emu: Any, name: str, argv: list[Any]) -> int:
    return _query(emu, argv[0], argv[1], argv[2], argv[3], wide=name.endswith("W"))


def _winhttp_query(emu: Any, _name: str, argv: list[Any]) -> int:
    return _query(emu, argv[0], argv[1], argv[3], argv[4], wide=True)


def _read(emu: Any, name: str, argv: list[Any]) -> int:
    """``InternetReadFile``: nothing, where no answer is known."""
    handler = emu.api.mods.get("wininet")
    request = handler.netman.get_wininet_object(argv[0]) if handler else None
    if request is None or not hasattr(request, "get_response") or request.get_response() is None:
        put(emu, argv[3], 0, 4)
        return 1
    return int(emu.original("wininet", name, argv) or 0)


def _check_connection(emu: Any, name: str, argv: list[Any]) -> int:
    """Windows connects to the server, and says whether it could."""
    emu.recorder.log_check(text_argument(emu, name, argv, 0))
    return 1


def _connected(emu: Any, _name: str, argv: list[Any]) -> int:
    put(emu, argv[0], LAN, 4)
    return 1


APIS = {
    "HttpAddRequestHeaders": Api(words=4, answer=_add),
    "HttpSendRequest": Api(words=5, answer=_send),
    "HttpQueryInfo": Api(words=5, answer=_http_query),
    "WinHttpQueryHeaders": Api(words=6, answer=_winhttp_query),
    "InternetReadFile": Api(words=4, answer=_read),
    "InternetCheckConnection": Api(words=3, answer=_check_connection),
    "InternetGetConnectedState": Api(words=2, answer=_connected),
    "InternetGetConnectedStateEx": Api(words=4, answer=_connected),
}
