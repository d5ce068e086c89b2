"""Speakeasy's Windows, whose functions leave the stack as Windows' do."""

from __future__ import annotations

from typing import Any

from speakeasy.winenv import arch

from drakcelery.engines.speakeasy_guest.calling import stdcall
from drakcelery.engines.speakeasy_guest.calling.outermost import Outermost


class TidyStack(Outermost):
    """Cleans the stack of 32-bit programs by our tables, since Speakeasy is wrong about some functions."""

    def __init__(self, config: dict[str, Any], **more: Any) -> None:
        super().__init__(config, **more)
        self.words = stdcall.load()
        self._taken: int | None = None

    def handle_import_func(self, dll: str, name: str) -> None:
        """Let Speakeasy answer a call."""
        self._taken = self._words_taken(dll, name)
        try:
            super().handle_import_func(dll, name)
        finally:
            self._taken = None

    def _words_taken(self, dll: str, name: str) -> int | None:
        """What a 32-bit function takes, where that is known."""
        if self.get_ptr_size() == 8 or stdcall.is_cdecl(dll):
            return None
        return stdcall.words_of(self.words, name)

    def do_call_return(
        self, argc: int, ret_addr: int | None = None, ret_value: int | None = None, conv: int | None = None
    ) -> None:
        """Return from a function."""
        if self._taken is not None:
            argc, conv = self._taken, arch.CALL_CONV_STDCALL
        super().do_call_return(argc, ret_addr, ret_value, conv)
