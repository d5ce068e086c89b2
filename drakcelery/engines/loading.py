"""Which program files Windows itself does not start, and what answers instead. Pure.

The rules are those of the kernel and of CreateProcess in 64-bit Windows, as far as they are public:
Microsoft's *PE Format*, ``winerror.h``, and what NtCreateSection(SEC_IMAGE) checks in ReactOS
(``ntoskrnl/mm/section.c``) and in Ange Albertini's collection of odd programs (corkami). In case of doubt a
file is started: if Windows would not run it, it shows nothing in any case, and if Windows would, it must not
be missed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from drakcelery.model.emulated_guest import EmulatedGuest

BAD_EXE_FORMAT = 193
MACHINE_MISMATCH = 216
CHILD_NOT_COMPLETE = 129
MODULE_NOT_FOUND = 126
"""``ERROR_BAD_EXE_FORMAT``, ``ERROR_EXE_MACHINE_TYPE_MISMATCH``, ``ERROR_CHILD_NOT_COMPLETE`` ("cannot be
run in Win32 mode") and ``ERROR_MOD_NOT_FOUND`` (also ``STATUS_DLL_NOT_FOUND``) of ``winerror.h``."""

ELEVATION_REQUIRED = 740
"""``ERROR_ELEVATION_REQUIRED``."""

PE32, PE64 = 0x10B, 0x20B
MACHINES = {0x14C: PE32, 0x8664: PE64}
"""``IMAGE_FILE_MACHINE_I386`` and ``IMAGE_FILE_MACHINE_AMD64``, with the optional header of each."""

OTHER_MACHINES = {
    0x1C0: "ARM",
    0x1C2: "ARM",
    0x1C4: "ARM",
    0xAA64: "ARM64",
    0xA641: "ARM64",
    0xA64E: "ARM64",
    0x200: "Itanium",
    0xEBC: "EFI byte code",
    0x166: "MIPS",
    0x184: "Alpha",
    0x1F0: "PowerPC",
    0x5032: "RISC-V",
    0x5064: "RISC-V",
    0x6264: "LoongArch",
}

IMPORTS, RESOURCES = 1, 2
"""``IMAGE_DIRECTORY_ENTRY_IMPORT`` and ``_RESOURCE``."""
MANIFEST = 24
"""The type of resource."""
MOST_MANIFEST = 64 * 1024
"""Bytes of a manifest that are read."""
ASKS_FOR_ADMINISTRATOR = re.compile(
    rb"<(?:\w{1,20}:)?requestedExecutionLevel\s[^>]{0,500}?\blevel\s*=\s*[\"']requireAdministrator[\"']"
)
IMAGE_FILE_EXECUTABLE_IMAGE = 0x2
IMAGE_FILE_DLL = 0x2000
WIN32_SUBSYSTEMS = (2, 3)
"""``IMAGE_SUBSYSTEM_WINDOWS_GUI`` and ``_CUI``."""

OTHER_SUBSYSTEMS = {
    1: "a driver, or another program of Windows' kernel",
    7: "a program for the POSIX subsystem, which Windows has no more",
    9: "a program for Windows CE",
    10: "a program for EFI, which runs before Windows",
    11: "a driver for EFI, which runs before Windows",
    12: "a driver for EFI, which runs before Windows",
    13: "a ROM image for EFI",
    14: "a program for the Xbox",
    16: "a program of Windows' boot",
}

NOT_WINDOWS = re.compile(
    r"(?:lib(?:stdc\+\+|gcc_s_[a-z]+|winpthread|gomp|ssp|gfortran|quadmath|atomic)-\d+|cygwin1|msys-2\.0)\.dll",
    re.IGNORECASE,
)
"""Runtimes of GCC, Cygwin and MSYS: no Windows has them, and a program that needs one brings it along."""

SMALLEST_FILE_ALIGNMENT = 512
PAGE = 0x1000
MOST_IMAGE = 0x77000000
"""Bytes of address space that an image may take at most."""

BASE_GRANULARITY = 0x10000


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Windows does not start the file."""

    why: str
    """Without a full stop."""
    code: int
    """What Windows answers."""


def refused(image: Any, size: int) -> Refused | None:
    """Why Windows does not start pefile's *image*, a file of *size* bytes; None if it does."""
    machine, optional = image.FILE_HEADER.Machine, image.OPTIONAL_HEADER
    if machine not in MACHINES:
        what = OTHER_MACHINES.get(machine, f"an unknown processor ({machine:#x})")
        return Refused(
            why=f"it is a program for {what}, and the guest has an x64 processor", code=MACHINE_MISMATCH
        )
    if wrong := _wrong_headers(image) or _wrong_sections(image, size):
        return Refused(why=wrong, code=BAD_EXE_FORMAT)
    is_dll = bool(image.FILE_HEADER.Characteristics & IMAGE_FILE_DLL)
    if optional.Subsystem not in WIN32_SUBSYSTEMS and (not is_dll or optional.Subsystem in OTHER_SUBSYSTEMS):
        what = OTHER_SUBSYSTEMS.get(optional.Subsystem, f"a program for the subsystem {optional.Subsystem}")
        return Refused(why=f"it is {what}", code=CHILD_NOT_COMPLETE)
    if optional.AddressOfEntryPoint >= _up(optional.SizeOfImage, PAGE):
        return Refused(why="its entry point is outside of it", code=BAD_EXE_FORMAT)
    return None


def lacking(image: Any) -> Refused | None:
    """Why Windows ends pefile's *image* before its first instruction: it needs a DLL that nobody brings.

    Only of those that no Windows has; a program whose imports cannot be read is started.
    """
    try:
        image.parse_data_directories([IMPORTS], import_dllnames_only=True)
        names = [one.dll.decode("ascii", "replace") for one in getattr(image, "DIRECTORY_ENTRY_IMPORT", ())]
    except Exception:  # noqa: BLE001  # pefile raises many things on hostile tables
        return None
    missing = sorted(filter(NOT_WINDOWS.fullmatch, names))
    if not missing:
        return None
    return Refused(
        why=f"it needs {' and '.join(missing)} beside it, which Windows does not have", code=MODULE_NOT_FOUND
    )


def refused_by(image: Any, guest: EmulatedGuest) -> Refused | None:
    """Why *guest* does not start pefile's *image*, which other Windows do; None if it does."""
    if guest.bits == 32 and MACHINES[image.FILE_HEADER.Machine] == PE64:
        return Refused(why="it is a 64-bit program, and the guest is a 32-bit Windows", code=MACHINE_MISMATCH)
    is_dll = image.FILE_HEADER.Characteristics & IMAGE_FILE_DLL
    if not guest.elevated and not is_dll and any(map(ASKS_FOR_ADMINISTRATOR.search, _manifests(image))):
        return Refused(
            why="its manifest asks for an administrator, and the guest's user is not elevated",
            code=ELEVATION_REQUIRED,
        )
    return None


def _manifests(image: Any) -> list[bytes]:
    """The manifests of a program; none where its resources cannot be read."""
    try:
        image.parse_data_directories([RESOURCES])
        entries = image.DIRECTORY_ENTRY_RESOURCE.entries
        kinds = [kind.directory.entries for kind in entries if kind.id == MANIFEST]
        languages = [one for names in kinds for name in names for one in name.directory.entries]
        places = [one.data.struct for one in languages]
        return [image.get_data(one.OffsetToData, min(one.Size, MOST_MANIFEST)) for one in places]
    except Exception:  # noqa: BLE001  # pefile raises many things on hostile tables
        return []


def _wrong_headers(image: Any) -> str | None:
    header, optional = image.FILE_HEADER, image.OPTIONAL_HEADER
    file_alignment, alignment = optional.FileAlignment, optional.SectionAlignment
    if not header.Characteristics & IMAGE_FILE_EXECUTABLE_IMAGE:
        return "its header says that it is not executable"
    if optional.Magic != MACHINES[header.Machine]:
        return "its header is that of the other word size"
    if not (_is_power(file_alignment) and _is_power(alignment)) or file_alignment > alignment:
        return "the alignment of its sections is impossible"
    if file_alignment < SMALLEST_FILE_ALIGNMENT and file_alignment != alignment:
        return "the alignment of its sections in the file is too small"
    if not 0 < optional.SizeOfImage <= MOST_IMAGE or optional.SizeOfHeaders > optional.SizeOfImage:
        return "its size in memory is impossible"
    if optional.ImageBase % BASE_GRANULARITY:
        return "its base address is not a multiple of 64 KiB"
    return None


def _wrong_sections(image: Any, size: int) -> str | None:
    """What is wrong with the places of its sections, in the file and in memory."""
    alignment, end = image.OPTIONAL_HEADER.SectionAlignment, 0
    if len(image.sections) < image.FILE_HEADER.NumberOfSections:
        return "the file ends within its headers"
    for section in image.sections:
        virtual = section.Misc_VirtualSize or section.SizeOfRawData
        stored = min(section.SizeOfRawData, virtual)
        if section.PointerToRawData and stored and section.PointerToRawData + stored > size:
            return "the file is cut off: a section is beyond its end"
        if alignment < PAGE:
            continue  # the file is mapped as it is
        if section.VirtualAddress % alignment or (end and section.VirtualAddress != end):
            return "its sections do not follow one another in memory"
        end = _up(section.VirtualAddress + virtual, alignment)
    if end > _up(image.OPTIONAL_HEADER.SizeOfImage, alignment):
        return "its size in memory is less than its sections need"
    return None


def _is_power(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


def _up(number: int, alignment: int) -> int:
    return -(-number // alignment) * alignment


def unreadable(head: bytes, size: int) -> Refused | None:
    """Why Windows does not start a broken PE that begins with *head*; None if it is no PE at all."""
    header = int.from_bytes(head[0x3C:0x40], "little")
    if head[:2] != b"MZ" or len(head) < 0x40:
        return None
    if head[header : header + 4] == b"PE\0\0":
        return Refused(why="its headers are broken", code=BAD_EXE_FORMAT)
    if header >= size and b"DOS mode" in head:
        return Refused(why="the file is cut off: it ends before its header", code=BAD_EXE_FORMAT)
    return None


_NOWHERE = "so no engine of drakcelery does"
_KINDS = (
    (b"\x7fELF", f"a program for Linux or another Unix (ELF). Windows runs none, {_NOWHERE}"),
    (b"MZ", f"a 16-bit program, for DOS or early Windows. 64-bit Windows runs none, {_NOWHERE}"),
    (b"\xfe\xed\xfa", f"a program for macOS (Mach-O). Windows runs none, {_NOWHERE}"),
    (b"\xcf\xfa\xed\xfe", f"a program for macOS (Mach-O). Windows runs none, {_NOWHERE}"),
    (b"\xce\xfa\xed\xfe", f"a program for macOS (Mach-O). Windows runs none, {_NOWHERE}"),
)


def described(head: bytes, magic: str, extension: str) -> str:
    """A sentence from ``this is`` on: what a file without a PE header is, and where it may run. *magic* is
    from libmagic.

    *extension* is what it is called in the guest.
    """
    if extension not in ("exe", "dll"):
        return f"{magic or 'no program'}. Use a host with the drakvuf engine for it"
    if not head:
        return f"an empty file. Windows starts none, {_NOWHERE}"
    for start, words in _KINDS:
        if head.startswith(start):
            return f"{magic or 'no PE file'}: {words}"
    if "COM executable" in magic or magic.startswith("DOS"):
        return f"{magic}. 64-bit Windows runs no 16-bit programs, {_NOWHERE}"
    return (
        f"{magic or 'no program'}. Windows starts no such file as .{extension}, {_NOWHERE}; under the "
        "extension of a script or a document it may run on a host with the drakvuf engine"
    )
