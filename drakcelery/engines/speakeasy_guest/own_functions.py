"""Which functions we answer instead of Speakeasy, by the name or number of an import."""

from __future__ import annotations

from drakcelery.engines.speakeasy_guest import (
    automation_apis,
    console_apis,
    disk_apis,
    exception_apis,
    file_apis,
    folder_apis,
    lock_apis,
    machine_apis,
    module_apis,
    network_apis,
    registry_apis,
    shell_apis,
    sspi_apis,
    storage_apis,
    system_apis,
    text_apis,
    thread_apis,
    version_apis,
    virtual_memory,
    wait_apis,
)
from drakcelery.engines.speakeasy_guest.apis import Api
from drakcelery.engines.speakeasy_guest.naming import without_width

MODULES = (
    *(automation_apis, console_apis, disk_apis, exception_apis, file_apis),
    *(folder_apis, lock_apis, machine_apis, module_apis, network_apis, registry_apis),
    *(shell_apis, sspi_apis, storage_apis, system_apis, text_apis, thread_apis),
    *(version_apis, virtual_memory, wait_apis),
)
OWN: dict[str, Api] = {name: api for module in MODULES for name, api in module.APIS.items()}
"""Functions that we answer instead of Speakeasy, keyed by name without ``A`` or ``W``."""


def find_own(name: str) -> tuple[str, Api] | None:
    """Our function for an import, and its name."""
    if name.startswith("Zw"):
        name = f"Nt{name[2:]}"
    api = OWN.get(without_width(name)) or OWN.get(name)
    return None if api is None else (name, api)
