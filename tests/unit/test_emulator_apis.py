"""The table of the functions that the emulator's guest answers itself."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections import Counter

from drakcelery.engines.speakeasy_guest import apis, crypto

with warnings.catch_warnings():  # of Unicorn's bindings
    warnings.simplefilter("ignore")
    from drakcelery.engines.speakeasy_guest.apis import table


def test_every_module_is_in_the_table() -> None:
    """A module that is not listed answers nothing, and nothing else says so."""
    packages = (apis, crypto)
    names = [
        f"{one.__name__}.{found.name}" for one in packages for found in pkgutil.iter_modules(one.__path__)
    ]
    modules = [one for one in map(importlib.import_module, names) if hasattr(one, "APIS")]
    assert len(modules) > 30
    assert {one.__name__ for one in modules} == {one.__name__ for one in table.MODULES}


def test_no_function_is_answered_twice() -> None:
    """Of two, the later module in the list would win."""
    answered = Counter(name for module in table.MODULES for name in module.APIS)
    assert [name for name, count in answered.items() if count > 1] == []
