"""What the tests of the heart work with: a real host in this process, and its faults."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol

import pytest

from drakcelery import artifacts
from drakcelery.ledger import Ledger
from drakcelery.model.analysis import Stage, State
from drakcelery.settings.sections import DrakcelerySection
from drakcelery.storage import Storage
from tests.bench import Bench, bench

__all__ = ("bench",)


class Trip(Protocol):
    """Do a stage that breaks off with an error, in the midst of its work."""

    def __call__(
        self,
        bench: Bench,
        stage: Stage,
        error: BaseException,
        *,
        first: Callable[[], object] = ...,
        uid: str = ...,
    ) -> None:
        """*first* is done before the error is raised."""


@pytest.fixture
def trip(monkeypatch: pytest.MonkeyPatch) -> Trip:
    """The work of a stage raises, once, what it is told: in its engine, its packing, S3 or the ledger."""

    def do(
        bench: Bench,
        stage: Stage,
        error: BaseException,
        *,
        first: Callable[[], object] = lambda: None,
        uid: str = "a-1",
    ) -> None:
        with breaking(monkeypatch, bench, stage, error, first):
            bench.do(stage, uid=uid)

    return do


@contextmanager
def breaking(
    monkeypatch: pytest.MonkeyPatch,
    bench: Bench,
    stage: Stage,
    error: BaseException,
    first: Callable[[], object],
) -> Iterator[None]:
    """The work of *stage* does *first*, then raises *error*."""
    engine = type(bench.context.engine)
    where: dict[Stage, tuple[Any, str]] = {
        Stage.PREPARE: (engine, "prepare"),
        Stage.RUN: (engine, "run"),
        Stage.COLLECT: (artifacts, "collect"),
        Stage.UPLOAD: (Storage, "upload_all"),
        Stage.PUBLISH: (Ledger, "publish"),
    }
    owner, name = where[stage]
    with monkeypatch.context() as patched:

        def fail(*_: object, **__: object) -> NoReturn:
            patched.undo()
            first()
            raise error

        patched.setattr(owner, name, fail)
        yield


def begin(bench: Bench, stage: Stage, *, uid: str = "a-1") -> None:
    """An analysis that has come as far as *stage*."""
    bench.open(uid)
    bench.do(*tuple(Stage)[: tuple(Stage).index(stage)], uid=uid)


def go_on(bench: Bench, *, uid: str = "a-1") -> None:
    """Do what is left of the current attempt; it ends published."""
    record = bench.record(uid)
    assert record.following is not None
    bench.do(*tuple(Stage)[tuple(Stage).index(record.following) :], uid=uid)
    assert bench.record(uid).state is State.PUBLISHED


def settings_with(bench: Bench, **ours: Any) -> Bench:
    """The same host with other values in ``[drakcelery]``."""
    settings = bench.context.settings
    section = DrakcelerySection.model_validate(settings.drakcelery.model_dump() | ours)
    changed = settings.model_copy(update={"drakcelery": section})
    return dataclasses.replace(bench, context=dataclasses.replace(bench.context, settings=changed))
