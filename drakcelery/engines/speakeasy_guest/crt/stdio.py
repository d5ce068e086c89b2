"""Streams: ``fopen``, ``fread``, ``fputs`` and their kin."""

from __future__ import annotations

from drakcelery.engines.speakeasy_guest.crt.abi import Answer, Function
from drakcelery.engines.speakeasy_guest.crt.descriptors import EBADF, EINVAL
from drakcelery.engines.speakeasy_guest.crt.machine import MAX_BLOCK, to_units
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime
from drakcelery.engines.speakeasy_guest.crt.state import constant
from drakcelery.engines.speakeasy_guest.crt.streams import IO_EOF, IO_ERROR, Stream, mode_flags

EOF = -1
WEOF = 0xFFFF
UNBUFFERED = 4
"""``_IONBF``."""


def open_stream(crt: Runtime, path: str, mode: str) -> int:
    """A stream for a file by its name; 0 if that cannot be."""
    flags = mode_flags(mode, crt.machine.number(crt.variables.address("_fmode"), 4))
    if flags is None:
        return crt.fail(EINVAL, 0)
    number = crt.files.open(path, flags)
    return 0 if number < 0 else crt.streams.open(number, flags)


def _open(width: int) -> Answer:
    def answer(crt: Runtime, path: int, mode: int, *_share: int) -> int:
        return open_stream(crt, crt.machine.name(path, width), crt.machine.text(mode, width))

    return answer


def _open_s(width: int) -> Answer:
    def answer(crt: Runtime, target: int, path: int, mode: int) -> int:
        address = open_stream(crt, crt.machine.name(path, width), crt.machine.text(mode, width))
        crt.machine.put(target, address)
        return 0 if address else crt.machine.number(crt.variables.address("errno"), 4)

    return answer


def _reopen(width: int) -> Answer:
    def answer(crt: Runtime, path: int, mode: int, address: int) -> int:
        stream = crt.streams.get(address)
        flags = mode_flags(crt.machine.text(mode, width), 0)
        if stream is None or flags is None:
            return 0
        crt.streams.flush(stream)
        number = crt.files.open(crt.machine.name(path, width), flags)
        if number < 0:
            return 0
        crt.files.duplicate(number, stream.number)
        crt.files.close(number)
        return address

    return answer


def _fdopen(width: int) -> Answer:
    def answer(crt: Runtime, number: int, mode: int) -> int:
        flags = mode_flags(crt.machine.text(mode, width), 0)
        if flags is None or crt.files.get(number) is None:
            return crt.fail(EBADF, 0)
        return crt.streams.open(number, flags)

    return answer


def _close(crt: Runtime, address: int) -> int:
    stream = crt.streams.get(address)
    return EOF if stream is None else crt.streams.close(stream)


def _flush(crt: Runtime, address: int) -> int:
    if not address:
        crt.streams.flush_all()
        return 0
    stream = crt.streams.get(address)
    return EOF if stream is None else crt.streams.flush(stream)


def _write(crt: Runtime, buffer: int, size: int, count: int, address: int) -> int:
    stream = crt.streams.get(address)
    if stream is None or not size or not count:
        return 0
    return crt.streams.write(stream, crt.machine.read(buffer, size * count)) // size


def _read(crt: Runtime, buffer: int, size: int, count: int, address: int) -> int:
    stream = crt.streams.get(address)
    if stream is None or not size or not count:
        return 0
    data = crt.streams.read(stream, min(size * count, MAX_BLOCK))
    crt.machine.write(buffer, data)
    return len(data) // size


def _read_s(crt: Runtime, buffer: int, room: int, size: int, count: int, address: int) -> int:
    return _read(crt, buffer, size, min(count, room // size if size else 0), address)


def put_character(crt: Runtime, code: int, address: int, width: int) -> int:
    """Write one character; it, or ``EOF``."""
    stream = crt.streams.get(address)
    if stream is None:
        return EOF if width == 1 else WEOF
    code &= 0xFF if width == 1 else 0xFFFF
    crt.streams.write_text(stream, chr(code), width)
    if width == 1:
        crt.streams.lend(stream)
    return code


def _put(width: int) -> Answer:
    return lambda crt, code, address: put_character(crt, code, address, width)


def _put_standard(width: int) -> Answer:
    return lambda crt, code: put_character(crt, code, crt.streams.standard(1), width)


def _puts(width: int, *, standard: bool) -> Answer:
    def answer(crt: Runtime, text: int, address: int = 0) -> int:
        stream = crt.streams.get(crt.streams.standard(1) if standard else address)
        if stream is None:
            return EOF
        crt.streams.write_text(stream, crt.machine.text(text, width) + ("\n" if standard else ""), width)
        return 0

    return answer


def read_character(crt: Runtime, stream: Stream, width: int) -> int:
    """The next character, or ``EOF``."""
    size = width if width == 1 or _is_wide(crt, stream) else 1
    data = crt.streams.read(stream, size)
    return int.from_bytes(data, "little") if len(data) == size else EOF


def _is_wide(crt: Runtime, stream: Stream) -> bool:
    descriptor = crt.files.get(stream.number)
    return descriptor is not None and (not descriptor.is_text or descriptor.encoding == "utf-16-le")


def _get(width: int, *, standard: bool = False) -> Answer:
    def answer(crt: Runtime, address: int = 0) -> int:
        stream = crt.streams.get(crt.streams.standard(0) if standard else address)
        code = EOF if stream is None else read_character(crt, stream, width)
        if width == 1 and stream is not None:
            crt.streams.lend(stream)
        return WEOF if code == EOF and width == 2 else code

    return answer


def _unget(width: int) -> Answer:
    def answer(crt: Runtime, code: int, address: int) -> int:
        stream = crt.streams.get(address)
        if stream is None or code in (EOF, WEOF):
            return EOF if width == 1 else WEOF
        size = width if width == 1 or _is_wide(crt, stream) else 1
        crt.streams.push_back(stream, to_units(chr(code & (0xFF if size == 1 else 0xFFFF)), size))
        return code

    return answer


def _gets(width: int) -> Answer:
    def answer(crt: Runtime, buffer: int, room: int, address: int) -> int:
        stream = crt.streams.get(address)
        if stream is None or room < 1:
            return 0
        text = ""
        while len(text) < room - 1 and not text.endswith("\n"):
            code = read_character(crt, stream, width)
            if code == EOF:
                break
            text += chr(code)
        if not text:
            return 0
        crt.machine.put_text(buffer, text, width)
        return buffer

    return answer


def _gets_standard(_crt: Runtime, _buffer: int, *_room: int) -> int:
    return 0  # nobody types anything


def _seek(crt: Runtime, address: int, offset: int, whence: int) -> int:
    stream = crt.streams.get(address)
    return -1 if stream is None else crt.streams.seek(stream, offset, whence)


def _rewind(crt: Runtime, address: int) -> int:
    return _seek(crt, address, 0, 0)


def _position(crt: Runtime, address: int) -> int:
    stream = crt.streams.get(address)
    return -1 if stream is None else crt.streams.position(stream)


def _get_position(crt: Runtime, address: int, target: int) -> int:
    position = _position(crt, address)
    crt.machine.put(target, position, 8)
    return 0 if position >= 0 else -1


def _set_position(crt: Runtime, address: int, source: int) -> int:
    return _seek(crt, address, crt.machine.number(source, 8), 0)


def _flag(bit: int) -> Answer:
    def answer(crt: Runtime, address: int) -> int:
        stream = crt.streams.get(address)
        return 0 if stream is None else stream.flags & bit

    return answer


def _clear(crt: Runtime, address: int) -> int:
    stream = crt.streams.get(address)
    if stream is not None:
        crt.streams.clear(stream)
    return 0


def _number(crt: Runtime, address: int) -> int:
    stream = crt.streams.get(address)
    return -1 if stream is None else stream.number


def _set_buffer(crt: Runtime, address: int, _buffer: int, mode: int = 0, _size: int = 0) -> int:
    stream = crt.streams.get(address)
    if stream is not None:
        stream.unbuffered = mode == UNBUFFERED
    return 0


FUNCTIONS: dict[str, Function] = {
    "fopen": Function("ss", _open(1)),
    "_wfopen": Function("ww", _open(2)),
    "_fsopen": Function("ssi", _open(1)),
    "_wfsopen": Function("wwi", _open(2)),
    "fopen_s": Function("pss", _open_s(1)),
    "_wfopen_s": Function("pww", _open_s(2)),
    "freopen": Function("ssp", _reopen(1)),
    "_wfreopen": Function("wwp", _reopen(2)),
    "_fdopen": Function("is", _fdopen(1)),
    "_wfdopen": Function("iw", _fdopen(2)),
    "fclose": Function("p", _close),
    "_fclose_nolock": Function("p", _close),
    "_fcloseall": Function("", lambda crt: crt.streams.flush_all()),
    "fflush": Function("p", _flush),
    "_fflush_nolock": Function("p", _flush),
    "_flushall": Function("", lambda crt: crt.streams.flush_all()),
    **dict.fromkeys(("fwrite", "_fwrite_nolock"), Function("pppp", _write)),
    **dict.fromkeys(("fread", "_fread_nolock"), Function("pppp", _read)),
    "fread_s": Function("ppppp", _read_s),
    **dict.fromkeys(("fputc", "putc", "_flsbuf", "_fputc_nolock", "_putc_nolock"), Function("ip", _put(1))),
    **dict.fromkeys(("fputwc", "putwc", "_flswbuf", "_fputwc_nolock"), Function("ip", _put(2))),
    **dict.fromkeys(("putchar", "_fputchar"), Function("i", _put_standard(1))),
    **dict.fromkeys(("putwchar", "_fputwchar"), Function("i", _put_standard(2))),
    "fputs": Function("sp", _puts(1, standard=False)),
    "fputws": Function("wp", _puts(2, standard=False)),
    "puts": Function("s", _puts(1, standard=True)),
    "_putws": Function("w", _puts(2, standard=True)),
    **dict.fromkeys(("fgetc", "getc", "_filbuf", "_fgetc_nolock", "_getc_nolock"), Function("p", _get(1))),
    **dict.fromkeys(("fgetwc", "getwc", "_filwbuf", "_fgetwc_nolock"), Function("p", _get(2))),
    "getchar": Function("", _get(1, standard=True)),
    "getwchar": Function("", _get(2, standard=True)),
    "ungetc": Function("ip", _unget(1)),
    "ungetwc": Function("ip", _unget(2)),
    "fgets": Function("pip", _gets(1)),
    "fgetws": Function("pip", _gets(2)),
    "gets": Function("p", _gets_standard),
    "gets_s": Function("pp", _gets_standard),
    "_getws": Function("p", _gets_standard),
    **dict.fromkeys(("fseek", "_fseek_nolock"), Function("pii", _seek)),
    **dict.fromkeys(("_fseeki64", "fseeko64", "_fseeki64_nolock"), Function("pqi", _seek)),
    "rewind": Function("p", _rewind),
    "ftell": Function("p", _position),
    **dict.fromkeys(("_ftelli64", "ftello64", "_ftelli64_nolock"), Function("p>q", _position)),
    "fgetpos": Function("pp", _get_position),
    "fsetpos": Function("pp", _set_position),
    "feof": Function("p", _flag(IO_EOF)),
    "ferror": Function("p", _flag(IO_ERROR)),
    **dict.fromkeys(("clearerr", "clearerr_s"), Function("p", _clear)),
    "_fileno": Function("p", _number),
    "setvbuf": Function("ppip", _set_buffer),
    "setbuf": constant("pp", 0),
    "perror": constant("s", 0),
    "_wperror": constant("w", 0),
    "_setmaxstdio": Function("i", lambda _crt, number: number),
    "_getmaxstdio": Function("", lambda _crt: 512),
}
"""Functions by name."""
