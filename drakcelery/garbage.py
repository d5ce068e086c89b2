"""Keeps Python's garbage collection from searching what was imported, which is never garbage.

Measured with CPython 3.11: to import :mod:`drakcelery.celery` and to end took 0.76 s of processor time. A
quarter of it went into collections of modules, functions and classes, most of it when the process ended; with
:func:`spare` it takes 0.52 s.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
from collections.abc import Iterator

MANY = 10_000
"""New objects between two collections. Python's 700 make hundreds of collections of one start."""


def spare() -> None:
    """Collect less often, and nothing once this process ends: its memory goes back as a whole.

    For the first line of a program, before it imports what it needs.
    """
    gc.set_threshold(MANY)
    atexit.register(gc.freeze)


@contextlib.contextmanager
def none() -> Iterator[None]:
    """No collection while much is built that stays.

    The largest report takes 0.2 instead of 0.6 s of processor time to read. Where threads have such blocks at
    the same time, collections begin again as soon as one of them ends.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """As :func:`none`, and what is there at the end is not searched later either.

    With four of the largest reports in memory one collection takes 0.4 s of processor time, and each further
    report made some. What is in cycles at the end is never freed: this is for what has none, and seldom.
    """
    gc.collect()  # what is garbage by now would stay
    with none():
        yield
        gc.freeze()
