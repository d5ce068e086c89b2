"""How many words a 32-bit Windows function takes from the stack.

The callee cleans the stack in stdcall, so stepping over a function the emulator lacks needs that number;
with a wrong one the caller's next ``ret`` goes astray. The numbers are facts of the Windows ABI, kept in
``stdcall.txt``.
"""

from __future__ import annotations

from importlib import resources

SUB_ESP = (b"\x83\xec", b"\x81\xec")
"""``sub esp, imm8`` and ``sub esp, imm32``: what gcc puts after a stdcall call to keep its frame."""

CDECL_MODULES = ("msvcrt", "msvcr", "msvcp", "vcruntime", "ucrtbase", "api-ms-win-crt")


def load() -> dict[str, int]:
    """The table, keyed by lower-case name."""
    text = resources.files(__package__).joinpath("stdcall.txt").read_text(encoding="ascii")
    table = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            count, *names = line.split()
            table.update(dict.fromkeys((name.lower() for name in names), int(count)))
    return table


def words_of(table: dict[str, int], name: str) -> int | None:
    """The count for function *name*; None if the table does not know it."""
    key = name.lower()
    if key.startswith("zw"):
        key = f"nt{key[2:]}"
    if key in table:
        return table[key]
    return table.get(key[:-1]) if key[-1:] in ("a", "w") else None


def is_cdecl(module: str) -> bool:
    """Whether the functions of *module* leave the stack to their caller."""
    return module.lower().startswith(CDECL_MODULES)


def words_restored_by_caller(code: bytes) -> int | None:
    """What the *code* after a call says: gcc takes back with ``sub esp`` what a stdcall callee removed."""
    if code[:2] == SUB_ESP[0] and len(code) > 2:
        return code[2] // 4
    if code[:2] == SUB_ESP[1] and len(code) > 5:
        return int.from_bytes(code[2:6], "little") // 4 % 64
    return None
