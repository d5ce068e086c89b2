"""A pool process ends at once, and with its worker, even if that ended before it could ask for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.reference import ROOT

BEGIN = """
import os
from billiard.process import current_process
from drakcelery import celery

current_process()._parent_pid = {parent}
celery._die_with_the_worker()
os.write(1, b"begins")
"""
END = """
from celery.concurrency.prefork import process_destructor
from drakcelery import celery

process_destructor(pid=1, exitcode=7)
print("goes on")
"""


@pytest.mark.parametrize(
    ("parent", "expected"),
    [("os.getppid()", (0, "begins")), ("os.getpid()", (1, "")), ("None", (0, "begins"))],
)
def test_a_pool_process_of_a_dead_worker_does_not_begin(parent: str, expected: tuple[int, str]) -> None:
    """Its parent is another process by now: nobody would end it, and it would hold the host's lock."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN.format(parent=parent)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == expected, done.stderr


def test_a_pool_process_ends_at_once() -> None:
    """With the status that it was to end with, and without billiard's second of waiting."""
    done = subprocess.run([sys.executable, "-c", END], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (7, ""), done.stderr
