"""``drakrun``: the commands of DRAKVUF Sandbox that work on one VM. It runs ``xl`` and ``injector``."""

from __future__ import annotations

import os
import sys
import time

from tests.xen.tools import drakrun_vm
from tests.xen.tools.bare import SIG_IGN, SIGINT, Path, quote, signal
from tests.xen.tools.clickish import Abort, Command, UsageError, integer
from tests.xen.tools.drakrun_cmdline import base_cmdline
from tests.xen.tools.drakvuf_options import version as drakvuf_version
from tests.xen.tools.injection import vmi_info
from tests.xen.tools.machine import CALLER, Machine, not_simulated, say
from tests.xen.tools.xl import hang

TYPE_CHECKING = False  # as in bare.py
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Handler = Callable[[Machine, dict[str, str], list[str]], int]

VM_ID = {"--vm-id": "vm-id"}
UTF16_LIMIT = 2048
"""Bytes of a drakshell command line, with its two bytes of end."""
INJECTOR_SECONDS = 60


def log(level: str, text: str) -> None:
    """A line of drakrun's log, on stderr."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    say(f"[{stamp},{int(now % 1 * 1000):03d}][{level}] {text}")


def main(machine: Machine, argv: list[str]) -> int:
    """Run drakrun; the exit status. What is not caught ends as a traceback, as there."""
    path, words = "drakrun", list(argv)
    commands = _commands(machine)
    command: Command | None = None
    try:
        command, handler, words = _find(path, commands, words)
        if command is None:
            return not_simulated(f"drakrun {' '.join(argv)}")
        values, arguments = command.parse(words)
        return handler(machine, values, arguments)
    except UsageError as error:
        return (command or Command(path)).complain(error)
    except (Abort, KeyboardInterrupt):
        say("Aborted!")
        return 1


def _commands(machine: Machine) -> dict[str, tuple[Command, Handler]]:
    cmdline = {**VM_ID, "--cmd": "cmd"}
    if machine.newest:
        cmdline |= {"--method": "method", "--working-dir": "working-dir"}
    known: dict[str, tuple[Command, Handler]] = {
        "vm-start": (Command("drakrun vm-start", VM_ID), _vm_start),
        "vm-stop": (Command("drakrun vm-stop", VM_ID), _vm_stop),
        "drakvuf-cmdline": (Command("drakrun drakvuf-cmdline", cmdline), _drakvuf_cmdline),
        "drakshell": (Command("drakrun drakshell", VM_ID, ["cmd*"]), _drakshell),
        "injector copy": (Command("drakrun injector copy", {}, ["src", "dst"]), _injector_copy),
    }
    if machine.newest:
        known["version"] = (Command("drakrun version"), _version)
    return known


REAL = {
    *("analyze", "install", "make-profile", "modify-vm0", "mount"),
    *("postinstall", "postprocess", "s3-storage", "snapshot", "worker"),
}
"""Commands that drakrun has and this does not."""


def _find(
    path: str, commands: dict[str, tuple[Command, Handler]], words: list[str]
) -> tuple[Command | None, Handler, list[str]]:
    """The command that *words* begin with, and the rest. Raises :class:`UsageError`."""
    for length in (1, 2):
        found = commands.get(" ".join(words[:length]))
        if found and len(words) >= length:
            return found[0], found[1], words[length:]
    if not words or words[0].startswith("-"):
        Command(path).parse(words)
        raise UsageError("Missing command.")
    if words[0] in REAL or words[:2] == ["injector", "exec"]:
        return None, _vm_start, words
    raise UsageError(f"No such command '{words[1] if words[0] == 'injector' and words[1:] else words[0]}'.")


def _vm_start(machine: Machine, values: dict[str, str], _: list[str]) -> int:
    drakrun_vm.restore(machine, integer(values, "vm-id", 1), log)
    return 0


def _vm_stop(machine: Machine, values: dict[str, str], _: list[str]) -> int:
    drakrun_vm.load(machine)
    drakrun_vm.destroy(machine, integer(values, "vm-id", 1), log, "drakrun vm-stop")
    return 0


def _target(argument: str) -> tuple[str | None, str]:
    # The group is inside the repetition there, vm-(\d)+: - of vm-12 it keeps the 2
    vm, colon, path = argument.partition(":")
    digits = vm.removeprefix("vm-")
    return (digits[-1], path) if colon and vm != digits and digits.isdecimal() else (None, argument)


def _injector_copy(machine: Machine, _: dict[str, str], arguments: list[str]) -> int:
    source, target = (_target(argument) for argument in arguments)
    if (source[0] is None) == (target[0] is None):
        say("Incorrect target, files can be copied between VM and host only")
        raise Abort
    if source[0] is not None:
        return not_simulated("drakrun injector copy from the VM")
    vm = f"vm-{target[0]}"
    asked = arguments[1].partition(":")[0]
    if asked != vm:
        machine.warn(f"drakrun: injector copy to {asked} goes to {vm}")
    drakrun_vm.load(machine)
    if machine.guest(vm) is None:
        say("VM is not running")
        raise Abort
    path = Path(os.path.realpath(source[1]))
    if not path.is_file():
        say(f"{path} is not a file or doesn't exist")
        raise Abort
    guest_path = target[1].replace("/", "\\")
    if arguments[1].endswith(("/", "\\", "%", ".")):
        guest_path = f"{guest_path.removesuffix('.').rstrip(chr(92))}\\{path.name}"
    import subprocess

    try:
        done = inject(machine, vm, str(path), guest_path)
    except subprocess.CalledProcessError as error:
        say(f"Injector stopped with error code {error.returncode}")
        say(error.stdout.decode(errors="ignore"))
        say(error.stderr.decode(errors="ignore"))
        raise Abort from None
    sys.stdout.write(done.stdout.decode(errors="ignore") + "\n")
    return 0


def inject(machine: Machine, vm: str, local: str, remote: str) -> subprocess.CompletedProcess[bytes]:
    """Run the injector to write a file. Raises CalledProcessError."""
    import subprocess

    info = vmi_info(machine)
    words = [str(machine.bin / "injector"), "-o", "json", "-d", vm]
    words += ["-r", str(machine.lib / "profiles" / "kernel.json"), "-i", str(info["inject_pid"])]
    words += ["-k", hex(int(info["vmi_offsets"]["kpgd"], 16)), "-m", "writefile"]
    if info.get("inject_tid") is not None:
        words += ["-I", str(info["inject_tid"])]
    words += ["-e", remote, "-B", local]
    environment = {**os.environ, CALLER: "drakrun injector copy"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        try:
            output, errors = process.communicate(timeout=INJECTOR_SECONDS)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait(INJECTOR_SECONDS)
            raise
        finally:
            if process.poll() is None:
                process.kill()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words, output, errors)
    return subprocess.CompletedProcess(words, process.returncode, output, errors)


def _drakvuf_cmdline(machine: Machine, values: dict[str, str], _: list[str]) -> int:
    vm = f"vm-{integer(values, 'vm-id', 1)}"
    drakrun_vm.load(machine)
    told(machine, vm)
    method, directory = values.get("method", "createproc"), values.get("working-dir")
    words = base_cmdline(machine, vm, values.get("cmd"), method, directory)
    sys.stdout.write(" ".join(quote(word) for word in words) + "\n")
    return 0


def told(machine: Machine, vm: str) -> None:
    """Fail at the base command line as ordered."""
    order = machine.take("drakrun drakvuf-cmdline", vm=vm)
    if order is not None and order["how"] == "hangs":
        hang()
    if order is not None:
        raise RuntimeError("Failed to extract Drakvuf version from 'drakvuf -h' command.")


def _drakshell(machine: Machine, values: dict[str, str], arguments: list[str]) -> int:
    vm = f"vm-{integer(values, 'vm-id', 1)}"
    drakrun_vm.load(machine)
    if machine.guest(vm) is None:
        say("VM is not running")
        raise Abort
    log("INFO", f"Process terminated with exit code {shell(machine, vm, arguments, has_stdin=True)}")
    return 0


def shell(machine: Machine, vm: str, arguments: list[str], *, has_stdin: bool) -> int:
    """Run a command in the guest; its exit code. *has_stdin*: it gets what this process has."""
    order = machine.take("drakrun drakshell", vm=vm)
    how = order["how"] if order else None
    if how == "fails":
        log("WARNING", "Failed to connect to drakshell: [Errno 2] No such file or directory")
        log("INFO", "Injecting drakshell...")
        raise FileNotFoundError(2, "No such file or directory")
    log("INFO", "Drakshell active on: {'pid': 1820, 'tid': 2044}")
    command = _joined(arguments)
    if len(command.encode("utf-16le")) + 2 > UTF16_LIMIT:
        raise RuntimeError("Command line too long")
    if has_stdin and _is_at_its_end(0):
        machine.warn("drakrun drakshell: stdin is at its end, and floods the guest with empty messages")
    if how == "hangs":
        signal(SIGINT, SIG_IGN)  # it asks the guest to end the process, and waits on
        hang()
    with machine.locked():
        guest = machine.guest(vm)
        if guest is not None:
            machine.save_guest({**guest, "commands": [*guest["commands"], command]})
    return int(order["details"].get("code", 1)) if order else 0


def _joined(words: list[str]) -> str:
    """A command line that Windows splits into these words."""
    if all(words) and not set(' \t"').intersection(*words):
        return " ".join(words)
    import subprocess

    return subprocess.list2cmdline(words)


def _is_at_its_end(descriptor: int) -> bool:
    import select

    return bool(select.select([descriptor], [], [], 0)[0]) and not os.read(descriptor, 1)


def _version(machine: Machine, _values: dict[str, str], _arguments: list[str]) -> int:
    log("INFO", f"DRAKVUF Sandbox version: {machine.version}")
    log("INFO", f"DRAKVUF version: {drakvuf_version(machine)}")
    log("INFO", " - Debug build: False")
    log("INFO", f" - ShellExecute verb support: {machine.newest}")
    log("INFO", f" - 64-bit clr.dll profile support: {machine.newest}")
    return 0
