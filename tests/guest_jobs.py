"""Jobs for the emulator's guest program."""

from __future__ import annotations

import dataclasses

from drakcelery.engines.speakeasy_guest.job import GuestJob
from drakcelery.model.emulated_guest import EmulatedGuest


def guest_job(**more: object) -> GuestJob:
    """A job for the guest program."""
    values: dict[str, object] = {
        field.name: 1 if field.type == "int" else "" for field in dataclasses.fields(GuestJob)
    }
    others = {"plugins": ("apimon",), "hooks": None, "guest": EmulatedGuest(processes=("x.exe",))}
    return GuestJob(**{**values, **others, **more})  # type: ignore[arg-type]  # by name
