"""The table of the functions that the emulator's guest answers itself."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections import Counter
from types import ModuleType

import pytest

from drakcelery.engines.speakeasy_guest import apis, crypto


@pytest.fixture(scope="module")
def modules() -> tuple[ModuleType, ...]:
    """Those of the table, imported here: it takes a second in each process that collects tests."""
    with warnings.catch_warnings():  # of Unicorn's bindings
        warnings.simplefilter("ignore")
        from drakcelery.engines.speakeasy_guest.apis import table
    return tuple(table.MODULES)


def test_every_module_is_in_the_table(modules: tuple[ModuleType, ...]) -> None:
    """A module that is not listed answers nothing, and nothing else says so."""
    packages = (apis, crypto)
    names = [
        f"{one.__name__}.{found.name}" for one in packages for found in pkgutil.iter_modules(one.__path__)
    ]
    with_functions = {name for name in names if hasattr(importlib.import_module(name), "APIS")}
    assert len(with_functions) > 30
    assert with_functions == {one.__name__ for one in modules}


def test_no_function_is_answered_twice(modules: tuple[ModuleType, ...]) -> None:
    """Of two, the later module in the list would win."""
    answered = Counter(name for module in modules for name in module.APIS)
    assert [name for name, count in answered.items() if count > 1] == []
