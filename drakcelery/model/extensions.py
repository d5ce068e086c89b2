"""Extensions of samples: which of them have a command that starts them in the guest, and what that is.

They stand apart from how a file is read, so that who only checks an extension needs no parser of programs.
"""

from __future__ import annotations

import re

WORD = frozenset({"doc", "docb", "docm", "docx", "dot", "dotm", "dotx", "rtf"})
EXCEL = frozenset({"xla", "xlam", "xls", "xlsb", "xlsm", "xlsx", "xlt", "xltm", "xltx"})
POWERPOINT = frozenset({"pot", "potm", "potx", "ppam", "pps", "ppsm", "ppsx", "ppt", "pptm", "pptx"})

_OPEN = 'cmd.exe /C start "" %f'
"""With what the guest has for files of that kind; as DRAKVUF Sandbox v0.21 starts what it does not know."""

COMMANDS = {
    **dict.fromkeys(("exe", "bat", "cmd", "com"), "%f"),
    "ps1": "powershell.exe -executionpolicy bypass -File %f",
    **dict.fromkeys(("js", "jse", "vbs", "vbe", "wsf", "wsh"), "wscript.exe %f"),
    **dict.fromkeys(("hta", "html", "htm"), "mshta.exe %f"),
    "msi": "msiexec.exe /qb /i %f",
    "jar": "javaw.exe -jar %f",
    "chm": "hh.exe %f",
    **dict.fromkeys(("lnk", "pdf", "swf"), _OPEN),
    **dict.fromkeys(WORD, "cmd.exe /C start winword.exe /t %f"),
    **dict.fromkeys(EXCEL, "cmd.exe /C start excel.exe /t %f"),
    **dict.fromkeys(POWERPOINT, "cmd.exe /C start powerpnt.exe /t %f"),
}
"""By extension; ``%f`` stands for the path in the guest."""

EXTENSIONS = frozenset(COMMANDS) | {"dll"}
"""Every extension that drakcelery knows how to start: all that karton-classifier sends as win32, and more."""

PLAIN_EXTENSION = re.compile(r"[a-z0-9]{1,16}")
"""What an extension has to be where a start command says what becomes of the file."""

ENCRYPTED_OFFICE = "xlsx"
"""The extension for an encrypted Office document that has none: which program it is for is encrypted, too.

Only Excel opens one without asking, where the password is the one that it uses itself ("VelvetSweatshop").
"""


def is_encrypted_office(magic: str) -> bool:
    """Whether *magic*, libmagic's words, are those for an Office document that is encrypted as a whole."""
    return magic.startswith("CDFV2 Encrypted")
