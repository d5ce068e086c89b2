"""Paths and their parts, and names for temporary files."""

from __future__ import annotations

import ntpath
import string

from drakcelery.engines.speakeasy_guest.crt.abi import Answer, Function
from drakcelery.engines.speakeasy_guest.crt.descriptors import EEXIST, EINVAL, ERANGE
from drakcelery.engines.speakeasy_guest.crt.processes import process_id
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime
from drakcelery.engines.speakeasy_guest.crt.stdio import open_stream


def _full_path(width: int) -> Answer:
    def answer(crt: Runtime, target: int, path: int, room: int) -> int:
        text = crt.files.disk.full(crt.machine.name(path, width) or ".")
        if target and len(text) >= room:
            return crt.fail(ERANGE, 0)
        target = target or crt.heap.allocate((len(text) + 1) * width)
        crt.machine.put_name(target, text, width)
        return target

    return answer


def _parts(path: str) -> tuple[str, str, str, str]:
    drive, rest = ntpath.splitdrive(path)
    slash = max(rest.rfind("\\"), rest.rfind("/")) + 1
    name, extension = ntpath.splitext(rest[slash:])
    return drive, rest[:slash], name, extension


def _split(width: int) -> Answer:
    def answer(crt: Runtime, path: int, *targets: int) -> int:
        for target, part in zip(targets, _parts(crt.machine.name(path, width)), strict=False):
            if target:
                crt.machine.put_name(target, part[:255], width)
        return 0

    return answer


def _split_s(width: int) -> Answer:
    def answer(crt: Runtime, path: int, *targets: int) -> int:
        parts = _parts(crt.machine.name(path, width))
        for target, room, part in zip(targets[0::2], targets[1::2], parts, strict=False):
            if target and room:
                crt.machine.put_name(target, part[: room - 1], width)
        return 0

    return answer


def _join(width: int) -> Answer:
    def answer(crt: Runtime, target: int, *parts: int) -> int:
        drive, folder, name, extension = (crt.machine.name(part, width) for part in parts)
        drive = f"{drive[0]}:" if drive else ""
        folder = f"{folder}\\" if folder and folder[-1] not in "\\/" else folder
        dot = "." if extension and extension[0] != "." else ""
        crt.machine.put_name(target, f"{drive}{folder}{name}{dot}{extension}", width)
        return 0

    return answer


def _temporary_name(width: int) -> Answer:
    def answer(crt: Runtime, target: int, *_prefix: int) -> int:
        crt.process.temporary += 1
        target = target or crt.heap.allocate(64 * width)
        crt.machine.put_name(target, f"\\s{crt.process.temporary:x}.", width)
        return target

    return answer


def _unique(width: int) -> Answer:
    """``_mktemp``: the X's become the process id behind the first letter that is free."""

    def answer(crt: Runtime, template: int, *_room: int) -> int:
        text = crt.machine.name(template, width)
        if not text.endswith("XXXXXX"):  # six of them, by Microsoft's documentation of _mktemp
            return crt.fail(EINVAL, 0)
        for letter in string.ascii_lowercase:
            name = f"{text[:-6]}{letter}{process_id(crt) % 100_000:05d}"
            if crt.files.disk.find(name) is None:
                crt.machine.put_name(template, name, width)
                return template
        return crt.fail(EEXIST, 0)

    return answer


def _unique_s(width: int) -> Answer:
    plain = _unique(width)
    return lambda crt, template, _room: 0 if plain(crt, template) else EINVAL


def _temporary_in(width: int) -> Answer:
    """``_tempnam``: in the folder of ``TMP``, with the prefix that was given."""

    def answer(crt: Runtime, _folder: int, prefix: int) -> int:
        crt.process.temporary += 1
        folder = crt.variables.environment().get("TMP", "C:\\Windows\\Temp").rstrip("\\")
        text = f"{folder}\\{crt.machine.name(prefix, width)[:64]}{crt.process.temporary}"
        target = crt.heap.allocate((len(text) + 1) * width)
        crt.machine.put_name(target, text, width)
        return target

    return answer


def _temporary_file(crt: Runtime) -> int:
    crt.process.temporary += 1
    return open_stream(crt, f"C:\\Windows\\Temp\\s{crt.process.temporary:x}.tmp", "w+b")


def _family() -> dict[str, Function]:
    table = {}
    for width, letter, wide in ((1, "s", ""), (2, "w", "w")):
        table[f"_{wide}fullpath"] = Function(f"p{letter}p", _full_path(width))
        table[f"_{wide}splitpath"] = Function(f"{letter}pppp", _split(width))
        table[f"_{wide}splitpath_s"] = Function(f"{letter}pppppppp", _split_s(width))
        table[f"_{wide}makepath"] = Function(f"p{letter * 4}", _join(width))
        table[f"_{wide}tempnam"] = Function(f"{letter * 2}", _temporary_in(width))
        table[f"_{wide}mktemp"] = Function(letter, _unique(width))
        table[f"_{wide}mktemp_s"] = Function(f"{letter}p", _unique_s(width))
        table["_wtmpnam" if wide else "tmpnam"] = Function("p", _temporary_name(width))
    return table


FUNCTIONS: dict[str, Function] = {**_family(), "tmpfile": Function("", _temporary_file)}
"""Functions by name."""
