"""The Windows that is emulated: Speakeasy's default, without what gives it away or stops programs."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from drakcelery.errors import EngineError
from drakcelery.model.emulated_guest import EmulatedGuest

CONFIGURATION_DATE = 1795910400
"""UNIX time (29 November 2026) of the last change to the configuration below: the snapshot version."""

USUAL = EmulatedGuest()
"""The guest of a profile of which the settings say nothing."""

USER, HOST, FOLDER = USUAL.user, USUAL.computer, USUAL.desktop
"""The last is where the sample lies in that guest."""

SYSTEM_FOLDER = "C:\\Windows\\System32\\"
# As DRAKVUF Sandbox's guests are in 10.0.0.0/8, by which karton-pcap-miner tells the guest from the world
GUEST_ADDRESS = "10.13.1.2"
GUEST_ADDRESS_6 = "fd00:13:1::2"
"""Of the guest where it speaks IPv6: a local one (RFC 4193)."""

RESOLVER_ADDRESS = "10.13.1.1"
DEFAULT_ANSWER = "198.51.100.3"
"""What every unknown host name resolves to (RFC 5737, for documentation); nothing is ever sent there."""

SHELL_PID = 1460
"""Process id of the emulated explorer.exe, which starts the sample."""

_WINDOWS = "Software\\Microsoft\\Windows\\CurrentVersion"
_KEYS = (
    "HKEY_CURRENT_USER\\Software",
    f"HKEY_CURRENT_USER\\{_WINDOWS}",
    f"HKEY_CURRENT_USER\\{_WINDOWS}\\Run",
    f"HKEY_CURRENT_USER\\{_WINDOWS}\\RunOnce",
    f"HKEY_CURRENT_USER\\{_WINDOWS}\\Policies",
    f"HKEY_CURRENT_USER\\{_WINDOWS}\\Internet Settings",
    "HKEY_CURRENT_USER\\Environment",
    "HKEY_LOCAL_MACHINE\\Software",
    f"HKEY_LOCAL_MACHINE\\{_WINDOWS}",
    f"HKEY_LOCAL_MACHINE\\{_WINDOWS}\\Run",
    f"HKEY_LOCAL_MACHINE\\{_WINDOWS}\\RunOnce",
    "HKEY_LOCAL_MACHINE\\Software\\Microsoft\\Windows NT\\CurrentVersion\\Winlogon",
    "HKEY_LOCAL_MACHINE\\Software\\Microsoft\\Cryptography",
    "HKEY_LOCAL_MACHINE\\System\\CurrentControlSet\\Services",
)
"""Keys that every Windows has, and that programs expect to open."""

_NT = "HKEY_LOCAL_MACHINE\\Software\\Microsoft\\Windows NT\\CurrentVersion"
_ROAMING = f"C:\\Users\\{USER}\\AppData\\Roaming"
_VALUES = {
    _NT: {
        "ProductName": "Windows 10 Pro",
        "CurrentVersion": "6.3",
        "CurrentBuild": "19045",
        "CurrentBuildNumber": "19045",
        "EditionID": "Professional",
        "RegisteredOwner": USER,
        "SystemRoot": "C:\\Windows",
        "ProductId": "00330-80000-00000-AA419",
    },
    f"{_NT}\\Winlogon": {"Shell": "explorer.exe", "Userinit": f"{SYSTEM_FOLDER}userinit.exe,"},
    "HKEY_LOCAL_MACHINE\\Software\\Microsoft\\Cryptography": {
        "MachineGuid": "5b4a2cf1-6c5d-4d6e-9d2b-0b7f3a0c1e42"
    },
    f"HKEY_LOCAL_MACHINE\\{_WINDOWS}": {
        "ProgramFilesDir": "C:\\Program Files",
        "CommonFilesDir": "C:\\Program Files\\Common Files",
    },
    f"HKEY_CURRENT_USER\\{_WINDOWS}\\Explorer\\Shell Folders": {
        "AppData": _ROAMING,
        "Desktop": f"C:\\Users\\{USER}\\Desktop",
        "Startup": f"{_ROAMING}\\Microsoft\\Windows\\Start Menu\\Programs\\Startup",
    },
    f"HKEY_LOCAL_MACHINE\\{_WINDOWS}\\Uninstall\\7-Zip": {"DisplayName": "7-Zip 22.01 (x64)"},
    f"HKEY_LOCAL_MACHINE\\{_WINDOWS}\\Uninstall\\Mozilla Firefox": {"DisplayName": "Mozilla Firefox"},
    "HKEY_LOCAL_MACHINE\\Hardware\\Description\\System\\CentralProcessor\\0": {
        "ProcessorNameString": "Intel(R) Core(TM) i5-8400 CPU @ 2.80GHz"
    },
    "HKEY_LOCAL_MACHINE\\Hardware\\Description\\System\\BIOS": {
        "SystemManufacturer": "Dell Inc.",
        "SystemProductName": "OptiPlex 7060",
    },
    "HKEY_LOCAL_MACHINE\\System\\CurrentControlSet\\Control\\ComputerName\\ComputerName": {
        "ComputerName": HOST
    },
}
"""Texts in the registry of every Windows, by key and name."""


_PROFILE = f"C:\\Users\\{USER}"
_POWERSHELL = f"{SYSTEM_FOLDER}WindowsPowerShell\\v1.0\\"
_ENVIRONMENT = {
    "ALLUSERSPROFILE": "C:\\ProgramData",
    "APPDATA": _ROAMING,
    "CommonProgramFiles": "C:\\Program Files\\Common Files",
    "CommonProgramFiles(x86)": "C:\\Program Files (x86)\\Common Files",
    "CommonProgramW6432": "C:\\Program Files\\Common Files",
    "COMPUTERNAME": HOST,
    "ComSpec": "C:\\Windows\\system32\\cmd.exe",
    "DriverData": f"{SYSTEM_FOLDER}Drivers\\DriverData",
    "HOMEDRIVE": "C:",
    "HOMEPATH": f"\\Users\\{USER}",
    "LOCALAPPDATA": f"{_PROFILE}\\AppData\\Local",
    "LOGONSERVER": f"\\\\{HOST}",
    "NUMBER_OF_PROCESSORS": "2",
    "OneDrive": f"{_PROFILE}\\OneDrive",
    "OS": "Windows_NT",
    "Path": ";".join(
        (
            "C:\\Windows\\system32;C:\\Windows;C:\\Windows\\System32\\Wbem",
            f"{_POWERSHELL};{_PROFILE}\\AppData\\Local\\Microsoft\\WindowsApps",
        )
    ),
    "PATHEXT": ".COM;.EXE;.BAT;.CMD;.VBS;.VBE;.JS;.JSE;.WSF;.WSH;.MSC",
    "PROCESSOR_ARCHITECTURE": "AMD64",
    "PROCESSOR_IDENTIFIER": "Intel64 Family 6 Model 158 Stepping 10, GenuineIntel",
    "PROCESSOR_LEVEL": "6",
    "PROCESSOR_REVISION": "9e0a",
    "ProgramData": "C:\\ProgramData",
    "ProgramFiles": "C:\\Program Files",
    "ProgramFiles(x86)": "C:\\Program Files (x86)",
    "ProgramW6432": "C:\\Program Files",
    "PSModulePath": f"C:\\Program Files\\WindowsPowerShell\\Modules;{_POWERSHELL}Modules",
    "PUBLIC": "C:\\Users\\Public",
    "SESSIONNAME": "Console",
    "SystemDrive": "C:",
    "SystemRoot": "C:\\Windows",
    "TEMP": f"{_PROFILE}\\AppData\\Local\\Temp",
    "TMP": f"{_PROFILE}\\AppData\\Local\\Temp",
    "USERDOMAIN": HOST,
    "USERDOMAIN_ROAMINGPROFILE": HOST,
    "USERNAME": USER,
    "USERPROFILE": _PROFILE,
    "windir": "C:\\Windows",
}
"""What every program of Windows 10 finds in its environment, in the order of the names."""

_LIBRARIES = (
    *("version", "winmm", "mpr", "uxtheme", "dwmapi", "comdlg32", "imm32", "msimg32", "winspool"),
    *("kernelbase", "bcryptprimitives", "cryptbase", "sspicli", "wintrust", "wsock32", "powrprof"),
    *("normaliz", "cabinet", "propsys", "shcore", "profapi", "cfgmgr32", "ucrtbase", "hid"),
    *("msi", "shfolder", "imagehlp", "oleacc", "oledlg", "riched20", "usp10", "lz32", "sfc", "pdh"),
    *("credui", "cryptui", "wevtapi", "wldap32", "rasapi32", "rstrtmgr", "mswsock", "srvcli", "samcli"),
)
"""DLLs that every Windows has and Speakeasy's does not: LoadLibrary finds them."""

_OF_64_BITS = ("CommonProgramFiles(x86)", "CommonProgramW6432", "ProgramFiles(x86)", "ProgramW6432")
"""Variables that a 32-bit Windows does not have."""

NEVER_TOLD = 10
"""From this version on the registry's ``CurrentVersion`` stays the one before."""

_PROCESSES_BASE = 0x06000000
_LIBRARIES_BASE = 0x51000000
_LIBRARY_SIZE = 0x100000


def build(guest: EmulatedGuest = USUAL) -> dict[str, Any]:
    """The configuration of *guest* in Speakeasy's form, the same on every run.

    Raises:
        EngineError: Speakeasy is not installed.
    """
    config = _without_files_of_others(json.loads(_default().read_text(encoding="utf-8")))
    config.update(
        description="drakcelery's emulated Windows",
        timeout=0,  # the engine keeps the time; Speakeasy's timer would spin on a thread of its own
        max_api_count=2**62,
        analysis={"memory_tracing": False, "strings": False},
        current_dir=guest.desktop,
        command_line="\0",  # a path that holds this text is taken for the sample itself
        hostname=guest.computer,
        domain="WORKGROUP",
    )
    config["user"].update(name=guest.user, is_admin=guest.elevated)
    config["env"] = {name.lower(): value for name, value in _environment(guest).items()}
    config["modules"]["user_modules"] += _modules()
    config["registry"]["keys"] += _registry(guest)
    if guest.version is not None:
        config["os_ver"].update(zip(("major", "minor", "build"), guest.version, strict=False))
    config["network"]["dns"]["names"] = {
        "default": DEFAULT_ANSWER,
        "localhost": "127.0.0.1",
        guest.computer.lower(): GUEST_ADDRESS,
    }
    config["network"]["adapters"][0].update(ip_address=GUEST_ADDRESS, subnet_mask="255.255.255.0")
    for process in config["processes"]:
        if process["name"] == "explorer":
            process["pid"] = SHELL_PID
    config["processes"][-1:-1] = _further_processes(guest)
    return config


def _further_processes(guest: EmulatedGuest) -> list[dict[str, str]]:
    """Before the last one of Speakeasy's, which is the program itself."""
    return [
        {
            "name": name.removesuffix(".exe"),
            "base_addr": hex(_PROCESSES_BASE + number * _LIBRARY_SIZE),
            "path": f"C:\\Program Files\\{name.removesuffix('.exe')}\\{name}",
        }
        for number, name in enumerate(guest.processes)
    ]


def _environment(guest: EmulatedGuest) -> dict[str, str]:
    named = {
        "COMPUTERNAME": guest.computer,
        "HOMEPATH": f"\\Users\\{guest.user}",
        "LOGONSERVER": f"\\\\{guest.computer}",
        "NUMBER_OF_PROCESSORS": str(guest.processors),
        "USERDOMAIN": guest.computer,
        "USERDOMAIN_ROAMINGPROFILE": guest.computer,
        "USERNAME": guest.user,
    }
    if guest.bits == 32:
        named["PROCESSOR_ARCHITECTURE"] = "x86"
    missing = () if guest.bits == 64 else _OF_64_BITS
    found = {name: named.get(name, guest.located(value)) for name, value in _ENVIRONMENT.items()}
    return {name: value for name, value in found.items() if name not in missing}


def _registry(guest: EmulatedGuest) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = [{"path": key, "values": []} for key in _KEYS]
    for key, texts in _VALUES.items():
        own = {**texts, **_own_values(guest, key)}
        values = [{"name": name, "type": "REG_SZ", "data": guest.located(text)} for name, text in own.items()]
        keys.append({"path": key, "values": values})
    return keys


def _own_values(guest: EmulatedGuest, key: str) -> dict[str, str]:
    """What of a key is this guest's alone."""
    if key.endswith("\\ComputerName"):
        return {"ComputerName": guest.computer}
    if key != _NT:
        return {}
    own = {"RegisteredOwner": guest.user}
    if guest.version is not None:
        major, minor, build, product = guest.version
        version = f"{major}.{minor}" if major < NEVER_TOLD else "6.3"  # which it is on Windows 10 for ever
        own.update(ProductName=product, CurrentVersion=version)
        own.update(CurrentBuild=str(build), CurrentBuildNumber=str(build))
    return own


def _without_files_of_others(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with files of a kind in Windows' own folder only.

    Speakeasy has each EXE and text file that is asked for: settings that no program wrote, full of zeros.
    """
    for file in config["filesystem"]["files"]:
        if file["mode"] == "by_ext":
            file.update(mode="full_path", emu_path=f"c:\\windows\\*.{file.pop('ext')}")
    return config


def _modules() -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "base_addr": hex(_LIBRARIES_BASE + number * _LIBRARY_SIZE),
            "path": f"{SYSTEM_FOLDER}{name}.dll",
        }
        for number, name in enumerate(_LIBRARIES)
    ]


def _default() -> Path:
    """Speakeasy's own configuration; found without importing Speakeasy, which only the guest program does."""
    spec = importlib.util.find_spec("speakeasy")
    if spec is None or not spec.submodule_search_locations:
        raise EngineError("The emulator needs Speakeasy: install drakcelery[emulator].")
    return Path(spec.submodule_search_locations[0]) / "configs" / "default.json"


def for_container(config: dict[str, Any], container: str, command_line: str) -> dict[str, Any]:
    """The configuration for a DLL: *container* (``rundll32.exe``) is the main process."""
    config = copy.deepcopy(config)
    for process in config["processes"]:
        if process.get("is_main_exe"):
            process.update(path=f"{SYSTEM_FOLDER}{container}", command_line=command_line)
    return config


def digest(guest: EmulatedGuest = USUAL) -> str:
    """sha256 of the configuration and of what else makes *guest* another one than usual, hex."""
    told = build(guest) if guest == USUAL else {"configuration": build(guest), "guest": guest.to_json()}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
