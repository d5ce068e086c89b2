"""``python -m tests.xen.real``: build the machine, boot it, and say how the checks in it went."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.xen.layout import REPOSITORY
from tests.xen.real import image, packages

QEMU = "qemu-system-x86_64"
BUILD = REPOSITORY / "build" / "xen"
PAGE = REPOSITORY / "docs" / "real-xen.md"
XEN = (
    "placeholder console=com1 com1=115200,8n1 dom0_mem=1024M,max:1024M dom0_max_vcpus=1 "
    "smap=0 smep=0 xpti=0 spec-ctrl=0"
)
"""What an emulated Nehalem lacks, or would pay for, is off."""
LINUX = "console=hvc0 quiet panic=1"
LIMIT = 1500
"""Seconds until a machine that hangs is given up."""

TEMPLATE = """\
# The engine and Xen's own xl

`make xen` boots Debian's Xen, kernel and `xl` in QEMU without KVM, and lets the engine `drakvuf` drive that
`xl` with paravirtual guests. DRAKVUF Sandbox's tools and DRAKVUF are simulated. `make xen` also wrote this
page ({what}; {seconds:.0f} s). What each check shows is in `tests/xen/real/checks.py`.

| Check | |
| --- | --- |
{table}

What `xl` answers here; if it refuses, the simulated `xl` of the tests gives the same answer:

```text
{said}
```
"""

_ANSWER = re.compile(
    r"^\$ (xl (?:list|destroy|domid|domname|pause|restore|nonsense)\b.*)\n((?:.*\n)*?-> \d+), ", re.MULTILINE
)
_CHECK = re.compile(r"^\S+checks\.py::(\S+.*?) (PASSED|FAILED|ERROR)", re.MULTILINE)
_END = re.compile(r"^== end (\d+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a boot went."""

    checks: dict[str, str]
    """Name -> PASSED, FAILED or ERROR."""
    passed: bool
    """All of them, and the machine came to its end."""
    seconds: float


def boot(made: image.Image, log: Path) -> float:
    """Run the machine to its end, with its console in *log*; how long that took."""
    begun = time.monotonic()
    command = [
        *(packages.find(QEMU), "-accel", "tcg", "-cpu", "Nehalem", "-m", "1900", "-smp", "1", "-nodefaults"),
        *("-display", "none", "-no-reboot", "-serial", f"file:{log}"),
        *("-kernel", str(made.xen), "-append", XEN),
        *("-initrd", f"{made.kernel} {LINUX},{made.initramfs}"),
    ]
    try:
        subprocess.run(command, check=False, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        sys.stdout.write(f"the machine did not end within {LIMIT} s\n")
    return time.monotonic() - begun


def judge(console: str, seconds: float) -> Result:
    """What the console says."""
    checks = dict(_CHECK.findall(console))
    end = _END.search(console)
    return Result(checks=checks, passed=bool(checks) and end is not None and end[1] == "0", seconds=seconds)


def page(console: str, result: Result) -> str:
    """The page with what came of it."""
    version = re.search(r"\(XEN\) Xen version (.*?\))", console)
    what = version[1] if version else "Xen"
    rows = [f"| `{name}` | {verdict.lower()} |" for name, verdict in result.checks.items()]
    answers = dict.fromkeys(_ANSWER.findall(console))
    said = "\n".join(f"$ {asked}\n{_without_xen(text)}" for asked, text in answers)
    return TEMPLATE.format(what=what, table="\n".join(rows), said=said, seconds=result.seconds)


def _without_xen(text: str) -> str:
    """What the hypervisor itself says in between is left out."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("(XEN)"))


def main() -> int:
    """Do it; 0 where every check passed, or where packages are missing and *needed* was not given."""
    parser = argparse.ArgumentParser(prog="python -m tests.xen.real", description=__doc__)
    parser.add_argument(
        "--needed", action="store_true", help="fail where packages are missing, instead of skipping"
    )
    asked = parser.parse_args()
    try:
        packages.find(QEMU)
        made = image.build(packages.unpacked(BUILD), BUILD)
    except packages.Missing as missing:
        sys.stderr.write(f"make xen is skipped: {missing}\n")
        return int(asked.needed)
    log = BUILD / "console.log"
    log.unlink(missing_ok=True)
    seconds = boot(made, log)
    console = log.read_bytes().decode(errors="replace").replace("\r", "")
    result = judge(console, seconds)
    PAGE.write_text(page(console, result))
    for name, verdict in result.checks.items():
        sys.stdout.write(f"{verdict.lower():7} {name}\n")
    sys.stdout.write(f"{'passed' if result.passed else 'failed'} in {seconds:.0f} s; what it said: {log}\n")
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
