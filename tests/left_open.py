"""A plugin of pytest: names the module whose tests leave something open, a file or a process, say.

What is garbage is found some time later, by a collection in the middle of any other test, which then fails.
Sockets are left out: a client of Redis that is garbage closes its own, in an order that Python chooses.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import traceback
import tracemalloc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def _nothing_left_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """After the last test of a module, what it left as garbage is collected, and says so if it was open.

    What is left then is never looked at again: so a collection takes some hundredths of a second.
    """
    yield
    with unraisable() as said:
        gc.collect()
    gc.freeze()
    name = request.node.name
    assert not said, "\n".join((f"left open by a test of {name}; PYTHONTRACEMALLOC=20 says where:", *said))


@contextlib.contextmanager
def unraisable() -> Iterator[list[str]]:
    """What is raised within the block where nobody can catch it, as text."""
    said: list[str] = []
    before = sys.unraisablehook

    def note(about: sys.UnraisableHookArgs) -> None:
        what = "".join(traceback.format_exception_only(about.exc_type, about.exc_value)).strip()
        said.append("\n  ".join((f"{about.object!r}: {what}", *_made(about.object))))

    sys.unraisablehook = note
    try:
        yield said
    finally:
        sys.unraisablehook = before


def _made(what: object) -> list[str]:
    """The lines of code by which it was made, the last one last, if they are traced."""
    made = tracemalloc.get_object_traceback(what)
    return made.format() if made is not None else []
