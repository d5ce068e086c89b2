"""Security packages (SSPI): a program finds the functions, and that this Windows has no package.

The order of the functions is that of ``SecurityFunctionTable`` in Microsoft's sspi.h.
"""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put

LIBRARY: Final = "secur32"
VERSION: Final = 1
"""``SECURITY_SUPPORT_PROVIDER_INTERFACE_VERSION``."""

SEC_E_SECPKG_NOT_FOUND: Final = 0x80090305
FUNCTIONS: Final = (
    *("EnumerateSecurityPackages*", "QueryCredentialsAttributes*", "AcquireCredentialsHandle*"),
    *(
        "FreeCredentialsHandle",
        "",
        "InitializeSecurityContext*",
        "AcceptSecurityContext",
        "CompleteAuthToken",
    ),
    *("DeleteSecurityContext", "ApplyControlToken", "QueryContextAttributes*", "ImpersonateSecurityContext"),
    *("RevertSecurityContext", "MakeSignature", "VerifySignature", "FreeContextBuffer"),
    *("QuerySecurityPackageInfo*", "", "", "ExportSecurityContext", "ImportSecurityContext*"),
    *("AddCredentials*", "", "QuerySecurityContextToken", "EncryptMessage", "DecryptMessage"),
)
"""Empty for a reserved place, ``*`` for A or W."""


def _interface(emu: Any, name: str, _argv: list[Any]) -> int:
    """``InitSecurityInterface``: a table of all functions."""
    size = emu.get_ptr_size()
    place = emu.heap_alloc((len(FUNCTIONS) + 1) * size, heap="sspi")
    emu.mem_write(place, VERSION.to_bytes(4, "little"))
    for number, function in enumerate(FUNCTIONS, 1):
        known = emu.get_proc(LIBRARY, function.replace("*", name[-1])) if function else 0
        emu.write_ptr(place + number * size, known)
    return int(place)


def _no_package(_emu: Any, _name: str, _argv: list[Any]) -> int:
    return SEC_E_SECPKG_NOT_FOUND


def _packages(emu: Any, _name: str, argv: list[Any]) -> int:
    put(emu, argv[0], 0, 4)
    put(emu, argv[1], emu.heap_alloc(emu.get_ptr_size(), heap="sspi"), emu.get_ptr_size())
    return 0


APIS = {
    "InitSecurityInterface": Api(words=0, answer=_interface),
    "EnumerateSecurityPackages": Api(words=2, answer=_packages),
    "QuerySecurityPackageInfo": Api(words=2, answer=_no_package),
    "AcquireCredentialsHandle": Api(words=9, answer=_no_package),
}
