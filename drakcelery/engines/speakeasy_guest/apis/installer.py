"""The Windows Installer (msi.dll): nothing is installed, and its service does not answer.

Error codes and states: the reference of the Windows Installer, *Error Codes* and *MsiQueryProductState*.
"""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Answer, Api, constant, text_argument

ERROR_SUCCESS, ERROR_INVALID_HANDLE, ERROR_OPEN_FAILED, ERROR_NO_MORE_ITEMS = 0, 6, 110, 259
ERROR_INSTALL_SERVICE_FAILURE, ERROR_UNKNOWN_PRODUCT, ERROR_UNKNOWN_COMPONENT = 1601, 1605, 1607
INSTALLSTATE_UNKNOWN: Final = 0xFFFFFFFF


def _said(value: int) -> Answer:
    """The answer to a call whose first argument is a text, which the log shows."""

    def answer(emu: Any, name: str, argv: list[Any]) -> int:
        text_argument(emu, name, argv, 0)
        return value

    return answer


APIS = {
    "MsiInstallProduct": Api(words=2, answer=_said(ERROR_INSTALL_SERVICE_FAILURE)),
    "MsiConfigureProduct": Api(words=3, answer=_said(ERROR_UNKNOWN_PRODUCT)),
    "MsiConfigureProductEx": Api(words=4, answer=_said(ERROR_UNKNOWN_PRODUCT)),
    "MsiReinstallProduct": Api(words=2, answer=_said(ERROR_UNKNOWN_PRODUCT)),
    "MsiOpenDatabase": Api(words=3, answer=_said(ERROR_OPEN_FAILED)),
    "MsiOpenPackage": Api(words=2, answer=_said(ERROR_INSTALL_SERVICE_FAILURE)),
    "MsiOpenPackageEx": Api(words=3, answer=_said(ERROR_INSTALL_SERVICE_FAILURE)),
    "MsiOpenProduct": Api(words=2, answer=_said(ERROR_UNKNOWN_PRODUCT)),
    "MsiGetProductInfo": Api(words=4, answer=_said(ERROR_UNKNOWN_PRODUCT)),
    "MsiQueryProductState": Api(words=1, answer=_said(INSTALLSTATE_UNKNOWN)),
    "MsiQueryFeatureState": Api(words=2, answer=_said(INSTALLSTATE_UNKNOWN)),
    "MsiGetComponentPath": Api(words=4, answer=_said(INSTALLSTATE_UNKNOWN)),
    "MsiSourceListEnumSources": Api(words=7, answer=_said(ERROR_UNKNOWN_PRODUCT)),
    "MsiEnumProducts": Api(words=2, answer=constant(ERROR_NO_MORE_ITEMS)),
    "MsiEnumProductsEx": Api(words=8, answer=constant(ERROR_NO_MORE_ITEMS)),
    "MsiEnumRelatedProducts": Api(words=4, answer=_said(ERROR_NO_MORE_ITEMS)),
    "MsiEnumClients": Api(words=3, answer=_said(ERROR_UNKNOWN_COMPONENT)),
    "MsiGetSummaryInformation": Api(words=4, answer=constant(ERROR_INVALID_HANDLE)),
    "MsiDatabaseOpenView": Api(words=3, answer=constant(ERROR_INVALID_HANDLE)),
    "MsiCloseHandle": Api(words=1, answer=constant(ERROR_INVALID_HANDLE)),
    "MsiCreateRecord": Api(words=1, answer=constant(0)),
    "MsiSetInternalUI": Api(words=2, answer=constant(5)),  # INSTALLUILEVEL_FULL was set before
}
