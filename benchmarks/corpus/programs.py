"""What the corpus holds: ``programs.jsonl``, one program a line."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

MANIFEST = Path(__file__).with_name("programs.jsonl")

KINDS = (
    *("msvc", "mingw", "rust", "go", "delphi", "dart"),
    *("nsis", "inno", "installshield", "7z-sfx", "squirrel", "packed", "autoit", "assembler", "dotnet"),
)
"""What built a program, or what it is where that says more. ``msvc`` is of any age, with any C runtime."""

Manager = Literal["pip", "npm", "apt"]


@dataclass(frozen=True, kw_only=True, order=True)
class Package:
    """A package as its manager knows it."""

    manager: Manager
    name: str
    version: str
    platform: str = ""
    """pip's platform tag where a wheel is for one: ``win32``, ``win_amd64``."""

    @property
    def label(self) -> str:
        """``npm/7zip-bin@5.2.0``."""
        of = f"+{self.platform}" if self.platform else ""
        return f"{self.manager}/{self.name}@{self.version}{of}"


@dataclass(frozen=True, kw_only=True)
class Program:
    """One program of the corpus."""

    package: Package
    file: str
    """Path inside the package."""
    sha256: str
    bits: Literal[32, 64]
    kind: str
    library: bool = False
    """A DLL."""
    starts: bool = True
    """Whether it runs alone on Windows: not a half program, nor one without its package's DLLs."""
    start: str | None = None
    """Start command with ``%f``; None: the file alone."""
    note: str = ""
    """What is known of it."""

    @property
    def name(self) -> str:
        """``npm/7zip-bin@5.2.0/package/win/ia32/7za.exe``: unlike any other's."""
        return f"{self.package.label}/{self.file.removeprefix('./')}"

    @property
    def command(self) -> str:
        """The start command."""
        return self.start or "%f"

    @property
    def suffix(self) -> str:
        """How the file is called in the guest; stubs and templates have endings of their own."""
        ending = PurePosixPath(self.file).suffix.lower()
        return ending if ending in (".exe", ".dll") else ".dll" if self.library else ".exe"


def read(path: Path = MANIFEST) -> list[Program]:
    """All programs.

    Raises:
        ValueError: a line cannot be read, or a word in it is none.
    """
    return [_program(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _program(values: dict[str, Any]) -> Program:
    package = Package(
        manager=values.pop("manager"),
        name=values.pop("package"),
        version=values.pop("version"),
        platform=values.pop("platform", ""),
    )
    try:
        program = Program(package=package, **values)
    except TypeError as error:
        raise ValueError(f"{package.label}: {error}") from None
    if program.kind not in KINDS:
        raise ValueError(f"{program.name}: no kind {program.kind}; there are {', '.join(KINDS)}")
    return program


def line_of(program: Program) -> str:
    """A program as a line of the manifest; what is as usual is left out."""
    package = program.package
    usual = {field.name: field.default for field in dataclasses.fields(Program)}
    values: dict[str, Any] = {
        "manager": package.manager,
        "package": package.name,
        "version": package.version,
        **({"platform": package.platform} if package.platform else {}),
    }
    for name, default in usual.items():
        value = getattr(program, name)
        if name != "package" and value != default:
            values[name] = value
    return json.dumps(values)


QUICK_EACH = 2
"""Programs of each kind and bitness in a quick run."""


def select(
    programs: Iterable[Program], *, kinds: Sequence[str] = (), names: Sequence[str] = (), quick: bool = False
) -> list[Program]:
    """Those of *kinds*, if there are any, whose names match one of *names* (``*`` and ``?``; or a part)."""
    chosen: list[Program] = []
    seen: dict[tuple[str, int, bool], int] = {}
    for program in programs:
        if kinds and program.kind not in kinds:
            continue
        if names and not any(
            pattern in program.name or fnmatch.fnmatch(program.name, pattern) for pattern in names
        ):
            continue
        sort = (program.kind, program.bits, program.library)
        seen[sort] = seen.get(sort, 0) + 1
        if not quick or seen[sort] <= QUICK_EACH:
            chosen.append(program)
    return chosen
