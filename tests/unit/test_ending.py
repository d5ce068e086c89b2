"""A command that a signal ends clears away as after Ctrl-C, and dies of that signal."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from drakcelery.cli import ending

WORKS = """
import signal, tempfile, time
from drakcelery.cli import ending
with ending.cleared_away(), tempfile.TemporaryDirectory() as directory:
    try:
        print(directory, flush=True)
        while True:
            time.sleep(0.02)
    finally:
        for number in ending.NUMBERS:
            signal.raise_signal(number)
        print("cleared away")
"""


@pytest.mark.parametrize("number", ending.NUMBERS)
def test_what_a_signal_ends(number: int) -> None:
    """A second one does not interrupt what is cleared away; whoever started it learns of the first."""
    process = subprocess.Popen([sys.executable, "-c", WORKS], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    directory = Path(process.stdout.readline().strip())
    assert directory.is_dir()
    process.send_signal(number)
    out, _ = process.communicate()
    assert (out, process.returncode) == ("cleared away\n", -number)
    assert not directory.exists()


def test_a_signal_that_nohup_ignores() -> None:
    """It stays ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending.cleared_away():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_afterwards_all_is_as_before() -> None:
    """Also where a command has a handler of its own by then, which stays."""
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with ending.cleared_away():
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        with ending.cleared_away():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_in_another_thread() -> None:
    """Where a program calls our command in a thread, it alone says what its signals do."""
    begun: list[bool] = []

    def work() -> None:
        with ending.cleared_away():
            begun.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert begun
