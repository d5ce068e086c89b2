"""Which functions we answer instead of Speakeasy, by the name or number of an import."""

from __future__ import annotations

from drakcelery.engines.speakeasy_guest.apis import (
    apartments,
    automation,
    cabinets,
    clock,
    code_pages,
    completion,
    computer,
    console,
    dialogs,
    dns,
    environment,
    exceptions,
    file_times,
    files,
    folders,
    formatting,
    graphics,
    guids,
    handles,
    heaps,
    hollowing,
    http,
    installer,
    locales,
    locks,
    machine,
    mappings,
    message_loop,
    modules,
    network,
    objects,
    pipes,
    pool,
    process_information,
    profiles,
    protection,
    registry,
    registry_reads,
    resources,
    security,
    shell,
    short_strings,
    socket_states,
    sockets,
    sspi,
    storage,
    system,
    text,
    threads,
    timer_queues,
    toolhelp,
    user,
    version,
    virtual_memory,
    volumes,
    waits,
    window_classes,
    window_procedures,
    window_search,
    windows,
)
from drakcelery.engines.speakeasy_guest.apis.api import Api
from drakcelery.engines.speakeasy_guest.crypto import table as crypto
from drakcelery.engines.speakeasy_guest.naming import without_width

MODULES = (
    *(apartments, automation, cabinets, clock, code_pages, completion, computer, console, dialogs, dns),
    *(
        environment,
        exceptions,
        file_times,
        files,
        folders,
        formatting,
        graphics,
        guids,
        handles,
        heaps,
        hollowing,
    ),
    *(http, installer, locales, locks, machine, mappings, message_loop, modules, network, objects, pipes),
    *(pool, process_information, profiles, protection, registry, registry_reads, resources, security, shell),
    *(
        short_strings,
        socket_states,
        sockets,
        sspi,
        storage,
        system,
        text,
        threads,
        timer_queues,
        toolhelp,
        user,
    ),
    *(version, virtual_memory, volumes, waits, window_classes, window_procedures, window_search, windows),
    *crypto.MODULES,
)
OWN: dict[str, Api] = {name: api for module in MODULES for name, api in module.APIS.items()}
"""Functions that we answer instead of Speakeasy, keyed by name without ``A`` or ``W``."""


def find_own(name: str) -> tuple[str, Api] | None:
    """Our function for an import, and its name."""
    if name.startswith("Zw"):
        name = f"Nt{name[2:]}"
    api = OWN.get(without_width(name)) or OWN.get(name)
    return None if api is None else (name, api)
