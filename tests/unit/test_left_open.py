"""What tests leave open is found."""

from __future__ import annotations

import gc
import socket

from tests.left_open import unraisable


class Holder:
    """Holds a connection, and itself: nothing but a collection finds it."""

    def __init__(self, held: socket.socket | None) -> None:
        self.held, self.me = held, self


def test_an_open_socket_in_a_cycle() -> None:
    """It is named; what holds nothing open is not."""
    Holder(socket.socket())
    with unraisable() as said:
        gc.collect()
    assert [text.startswith("<socket.socket") and "unclosed" in text for text in said] == [True]
    Holder(None)
    with unraisable() as said:
        gc.collect()
    assert said == []
