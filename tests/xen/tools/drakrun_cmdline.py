"""The command line that ``drakrun drakvuf-cmdline`` prints."""

from __future__ import annotations

from tests.xen.tools.injection import vmi_info
from tests.xen.tools.machine import Machine

PROFILES = {
    "native_ntdll_profile": "--json-ntdll",
    "wow64_ntdll_profile": "--json-wow",
    "native_win32k_profile": "--json-win32k",
    "native_kernel32_profile": "--json-kernel32",
    "wow64_kernel32_profile": "--json-wow-kernel32",
    "native_tcpip_profile": "--json-tcpip",
    "native_sspicli_profile": "--json-sspicli",
    "native_kernelbase_profile": "--json-kernelbase",
    "native_iphlpapi_profile": "--json-iphlpapi",
    "native_mpr_profile": "--json-mpr",
    "native_clr_profile": "--json-clr",
    "native_clr_profile_64": "--json-clr-64",
    "native_mscorwks_profile": "--json-mscorwks",
}
"""Profile -> option, in DRAKVUF Sandbox's order; those that exist are passed. The 64-bit one: from 0.21."""


def base_cmdline(
    machine: Machine, vm: str, command: str | None, method: str, directory: str | None
) -> list[str]:
    """The words of the command line. Raises ValueError for an unknown *method*."""
    info = vmi_info(machine)
    profiles = machine.lib / "profiles"
    words = ["drakvuf", "-o", "json", "-F", "-k", hex(int(info["vmi_offsets"]["kpgd"], 16))]
    words += ["-r", str(profiles / "kernel.json"), "-d", vm]
    for name, option in PROFILES.items():
        path = profiles / f"{name}.json"
        if path.exists() and (machine.newest or option != "--json-clr-64"):
            words += [option, str(path)]
    if command is None:
        return words
    words += ["-j", "60", "-i", str(info["inject_pid"])]
    words += _execution(command, method, directory) if machine.newest else ["-e", command]
    if info.get("inject_tid") is not None:
        words += ["-I", str(info["inject_tid"]), "--exit-injection-thread"]
    return words


def _execution(command: str, method: str, directory: str | None) -> list[str]:
    if method not in ("createproc", "shellexec", "runas"):
        raise ValueError(f"Unsupported start_method: {method}")
    if method == "createproc":
        words = ["-m", "createproc", "-e", command]
    else:
        program, *arguments = split(command)
        verb = ["-V", "runas"] if method == "runas" else []
        words = ["-m", "shellexec", *verb, "-e", program]
        if arguments:
            import subprocess

            words += ["-f", subprocess.list2cmdline(arguments)]
    return words if directory is None else [*words, "-c", directory]


def split(command: str) -> list[str]:
    """A Windows command line as its C runtime splits it."""
    words: list[str] = []
    word, quoted, begun, slashes = "", False, False, 0
    for character in command:
        if character == "\\":
            slashes += 1
            continue
        if character == '"':
            word += "\\" * (slashes // 2)
            if slashes % 2:
                word += '"'
            else:
                quoted = not quoted
            begun, slashes = True, 0
            continue
        word += "\\" * slashes
        begun, slashes = begun or bool(word), 0
        if character in " \t" and not quoted:
            if begun:
                words.append(word)
            word, begun = "", False
        else:
            word += character
            begun = True
    word += "\\" * slashes
    return [*words, word] if begun or word else words
