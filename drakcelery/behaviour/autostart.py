"""Places from which Windows starts something by itself. Pure.

The list follows MITRE ATT&CK's T1547, T1546, T1543 and T1037, and Microsoft's documentation of each key.
"""

from __future__ import annotations

import re

_KEYS = {
    "Run key": r"\\CurrentVersion\\(?:Policies\\Explorer\\)?Run(?:Services)?(?:Once(?:Ex)?)?(?:\\|$)",
    "Winlogon": r"\\CurrentVersion\\Winlogon(?:\\Notify|$)",
    "Active Setup": r"\\Active Setup\\Installed Components\\",
    "Image File Execution Options": r"\\Image File Execution Options\\",
    "SilentProcessExit": r"\\SilentProcessExit\\",
    "AppInit_DLLs": r"\\CurrentVersion\\Windows$",
    "AppCertDlls": r"\\Session Manager\\AppCertDlls",
    "BootExecute": r"\\Control\\Session Manager$",
    "Service": r"\\(?:ControlSet\d{3}|CurrentControlSet)\\Services\\[^\\]+(?:\\Parameters)?$",
    "Command Processor": r"\\Command Processor$",
    "Shell Folders": r"\\CurrentVersion\\Explorer\\(?:User )?Shell Folders$",
    "Browser Helper Object": r"\\Explorer\\Browser Helper Objects\\",
    "LSA": r"\\Control\\Lsa(?:\\OSConfig)?$",
    "Print monitor": r"\\Control\\Print\\Monitors\\",
    "Scheduled task": r"\\Schedule\\TaskCache\\(?:Tree|Tasks)\\",
    "Logon script": r"\\Environment$",
    "Screen saver": r"\\Control Panel\\Desktop$",
    "COM server": r"\\CLSID\\\{[^\\]+\}\\(?:InprocServer32|LocalServer32|TreatAs)$",
}
_VALUES = {
    "Winlogon": {"shell", "userinit", "taskman", "vmapplet", "system", "dllname", "gpextensions"},
    "AppInit_DLLs": {"appinit_dlls", "load", "run", "loadappinit_dlls", "iconservicelib"},
    "BootExecute": {"bootexecute", "setupexecute", "execute", "pendingfilerenameoperations"},
    "Image File Execution Options": {"debugger", "globalflag", "verifierdlls"},
    "SilentProcessExit": {"monitorprocess"},
    "Service": {"imagepath", "servicedll", "start", "failurecommand"},
    "Command Processor": {"autorun"},
    "Shell Folders": {"startup", "common startup"},
    "LSA": {"authentication packages", "security packages", "notification packages"},
    "Logon script": {"userinitmprlogonscript"},
    "Screen saver": {"scrnsave.exe"},
}
"""Of these keys only some values count."""
_FILES = {
    "Startup folder": r"\\Start Menu\\Programs\\Startup\\",
    "Scheduled task": r"\\Windows\\(?:System32\\|SysWOW64\\)?Tasks\\",
    "Logon script": r"\\System32\\GroupPolicy\\(?:Machine|User)\\Scripts\\",
    "Word or Excel startup": r"\\Microsoft\\(?:Word\\STARTUP|Excel\\XLSTART)\\",
    "PowerShell profile": r"\\(?:WindowsPowerShell|PowerShell)\\(?:.*_)?profile\.ps1$",
}
_KEY_PATTERNS = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _KEYS.items()}
_FILE_PATTERNS = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _FILES.items()}

_EXECUTABLE = re.compile(
    r"\.(?:exe|dll|sys|scr|com|cpl|ocx|drv|msi|msp|jar|bat|cmd|ps1|psm1|vbs|vbe|js|jse|wsf|wsh|hta|lnk|pif|chm|xll"
    r"|wll|application|appx|msix|reg|inf|sct|py|iqy|url)$",
    re.IGNORECASE,
)


def of_key(key: str, value_name: str) -> str | None:
    """The autostart place that a registry value is, if it is one."""
    for name, pattern in _KEY_PATTERNS.items():
        if pattern.search(key) is not None:
            values = _VALUES.get(name)
            if values is None or value_name.lower() in values:
                return name
    return None


def of_file(path: str) -> str | None:
    """The autostart place that a file is in, if it is in one."""
    return next((name for name, pattern in _FILE_PATTERNS.items() if pattern.search(path)), None)


def is_executable(path: str) -> bool:
    """Whether Windows runs a file of this name, by itself or with one of its programs."""
    return _EXECUTABLE.search(path) is not None
