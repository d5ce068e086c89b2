"""What DRAKVUF writes: its log, as it buffers it, and memory dumps, as its memdump plugin names them."""

from __future__ import annotations

import os

from tests.xen.tools.bare import Path, dumps, loads, sha256
from tests.xen.tools.drakvuf_options import PLUGINS
from tests.xen.tools.injection import timestamp
from tests.xen.tools.machine import Machine

TYPE_CHECKING = False  # as in bare.py
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

WRITES_AS = {"syscalls": ("syscall", "sysret"), "procdump2": ("procdump",)}
"""Plugins whose lines bear another name than the plugin's."""

SAMPLE = r"\Device\HarddiskVolume2\Users\janusz\Desktop\malwar.exe"
BLOCK = 4096


class Log:
    """stdout. Lines of plugins wait until there are more than 4 KiB of them; printf has a buffer of its own
    that goes out before them. What waits is lost where the process is killed."""

    def __init__(self) -> None:
        self._printed = bytearray()
        self._lines = bytearray()

    def printf(self, data: bytes) -> None:
        """Through C's stdio: whole blocks go out as they fill."""
        self._printed += data
        whole = len(self._printed) // BLOCK * BLOCK
        _write(1, bytes(self._printed[:whole]))
        del self._printed[:whole]

    def line(self, data: bytes) -> None:
        """Through a plugin's printer."""
        self._lines += data
        if len(self._lines) > BLOCK:
            self.flush()

    def flush(self) -> None:
        """All that waits."""
        _write(1, bytes(self._printed))
        _write(1, bytes(self._lines))
        self._printed.clear()
        self._lines.clear()

    def forget(self) -> None:
        """What waits is lost."""
        self._printed.clear()
        self._lines.clear()


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except OSError:  # a full disk: the real one loses the rest of its buffer, and goes on
            return


def encode(entry: Mapping[str, object]) -> bytes:
    """A line as jsonfmt.h prints it: ``Plugin`` first, no spaces."""
    plugin = {"Plugin": entry["Plugin"]}
    return dumps({**plugin, **entry}, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


class Recording:
    """What was ordered by ``play`` for this guest, or the built-in one."""

    def __init__(self, machine: Machine, vm: str, plugins: Iterable[str]) -> None:
        silent = _line_names(PLUGINS) | {"inject"}
        silent -= _line_names(plugins)
        directory = machine.state / "recordings" / vm
        if not directory.is_dir():
            directory = machine.state / "recordings" / "any"
        self.dumps: list[tuple[str, bytes]] = []
        self.seconds = 0.0
        log = directory / "log"
        lines = log.read_bytes().splitlines(keepends=True) if log.exists() else built_in()
        self.lines = [line for line in lines if _plugin(line) not in silent]
        if directory.is_dir():
            self.seconds = float(machine.read(f"recordings/{directory.name}/seconds.json", 0))
            for path in (directory / "dumps").entries():
                self.dumps.append((path.name.partition("-")[2], path.read_bytes()))
        else:
            self.dumps.append(("400000", b"MZ" + b"\0" * 4094))


def _line_names(plugins: Iterable[str]) -> set[str]:
    return {name for plugin in plugins for name in WRITES_AS.get(plugin, (plugin,))}


def _plugin(line: bytes) -> str | None:
    """The plugin of a line; None if it is not one of DRAKVUF's."""
    try:
        return str(loads(line)["Plugin"])
    except (ValueError, KeyError, TypeError):
        return None


def built_in() -> list[bytes]:
    """A line or two of the plugins that DRAKVUF Sandbox enables, and of syscalls."""
    common = {
        "TimeStamp": timestamp(),
        "PID": 4104,
        "PPID": 1820,
        "TID": 4108,
        "UserId": 1,
        "ProcessName": SAMPLE,
    }
    loaded = {"Plugin": "apimon", "Event": "dll_loaded", "Rva": {"Sleep": 1}, "DllBase": "0x77000000"}
    own: list[tuple[str, str, dict[str, object]]] = [
        ("apimon", "NtClose", {"Event": "api_called", "CalledFrom": "0x401000", "Arguments": ["Arg0=0x1"]}),
        ("clipboardmon", "NtUserGetClipboardData", {}),
        ("exmon", "KiDispatchException", {"ExceptionCode": 3221225477}),
        (
            "filetracer",
            "NtCreateFile",
            {"FileName": r"\??\C:\Users\janusz\Desktop\note.txt", "Status": "0x0"},
        ),
        ("procmon", "NtTerminateProcess", {"ExitPid": 4104, "ExitStatus": "0x0", "ExitStatusStr": "SUCCESS"}),
        ("regmon", "NtOpenKey", {"Key": r"\REGISTRY\MACHINE\SOFTWARE"}),
        ("socketmon", "TcpCreateAndConnectTcbComplete", {"RemoteIp": "192.0.2.1", "RemotePort": 443}),
        ("syscall", "NtClose", {"Module": "nt", "Syscall": 15, "NArgs": 1}),
        ("sysret", "NtClose", {"Module": "nt", "Syscall": 15, "Ret": 0}),
        ("tlsmon", "SslGenerateSessionKeys", {"client_random": "01" * 32, "master_key": "02" * 48}),
    ]
    lines = [
        encode({"Plugin": plugin, **common, "Method": method, "EventUID": "0x1", **rest})
        for plugin, method, rest in own
    ]
    spaced = (dumps({**loaded, "DllName": "kernel32.dll", "PID": 4104}) + "\n").replace('{"', '{ "')
    return [*lines, spaced.replace("}\n", " }\n").encode()]


def write_dump(directory: Path, base: str, content: bytes, sequence: int) -> bytes | None:
    """Write a dump and its metadata into *directory*; the log's line, or None if it cannot be written."""
    name = f"{base}_{sha256(content)[:16]}"
    part = directory / "dump.tmp"
    try:
        part.write_bytes(content)
        os.rename(part, directory / name)  # noqa: PTH104 - without pathlib
    except OSError:
        return None
    metadata = {
        "Method": "NtFreeVirtualMemory",
        "DumpReason": "Interesting region",
        "DumpAddress": f"0x{base}",
        "DumpSize": hex(len(content)),
        "PID": 4104,
        "PPID": 1820,
        "ProcessName": SAMPLE,
        "DataFileName": name,
        "SequenceNumber": sequence,
    }
    (directory / f"memdump.{sequence:06d}.metadata").write_text(dumps(metadata) + "\n")
    line = {"Plugin": "memdump", "TimeStamp": timestamp(), "PID": 4104, "Method": "NtFreeVirtualMemory"}
    rest = {
        "DumpReason": "Interesting region",
        "DumpPID": 4104,
        "DumpAddr": base,
        "DumpSize": hex(len(content)),
    }
    return encode({**line, **rest, "DumpFilename": name, "DumpsCount": sequence})


def huge(size: int) -> None:
    """Write *size* bytes of lines to stdout, in big blocks."""
    line = encode(
        {"Plugin": "procmon", "TimeStamp": timestamp(), "Method": "NtOpenProcess", "Pad": "x" * 400}
    )
    block = line * (1024**2 // len(line))
    while size > 0:
        _write(1, block)
        size -= len(block)


def huge_line(size: int) -> None:
    """Write one line of *size* bytes that never ends."""
    _write(1, b'{"Plugin":"procmon","Pad":"')
    block = b"x" * 1024**2
    while size > 0:
        _write(1, block)
        size -= len(block)


def huge_stderr(size: int) -> None:
    """Write *size* bytes of what upsets terminals and line readers."""
    block = b"\x1b]0;title\x07\x1b[2J\r\x00\xff\xfe[stderr without an end]" * 1024
    while size > 0:
        _write(2, block)
        size -= len(block)


def hostile_dumps(directory: Path, elsewhere: Path) -> None:
    """Names and kinds of files that a reader of the dump directory must survive; links lead *elsewhere*."""
    outside = elsewhere / "outside"
    outside.write_bytes(b"secret of the host")
    os.symlink("/etc/passwd", directory / "10000000_0123456789abcdef")  # noqa: PTH211 - without pathlib
    os.symlink(outside, directory / "20000000_0123456789abcdef")  # noqa: PTH211 - without pathlib
    os.symlink(directory, directory / "30000000_0123456789abcdef")  # noqa: PTH211 - without pathlib
    os.mkfifo(directory / "40000000_0123456789abcdef")
    os.mkdir(directory / "50000000_0123456789abcdef")  # noqa: PTH102 - without pathlib
    (directory / "-rf").write_bytes(b"option")
    (directory / "60000000_\x1b[31m\n0123456789abcde").write_bytes(b"escape")
    raw = os.fsencode(directory) + b"/70000000_\xff\xfe23456789abcdef"
    descriptor = os.open(raw, os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(descriptor, b"no UTF-8")
    os.close(descriptor)
