"""What keeps a guest in, from this host and from other guests: drakrun's chains of iptables.

drakrun makes them on the first vm-start after boot, without a lock, and silently undoes them after a failure.
So vm-start runs alone until they are there, and its success is not enough: the rules are checked, and without
them no sample runs. If a rule is missing, drakcelery does not touch the firewall; it says how to repair it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import structlog

from drakcelery import safe_files
from drakcelery.engines.drakvuf import ipv6
from drakcelery.engines.drakvuf.firewall import Rules, Standing, forwards, lacking, read_rules
from drakcelery.engines.drakvuf.tool_output import printable
from drakcelery.engines.drakvuf.tools import Tools
from drakcelery.errors import Blame, EngineError

log = structlog.get_logger(__name__)


POLL_SECONDS = 0.1
"""Seconds between two looks of a process that waits for its turn."""

UNMADE_SECONDS = 60.0
"""Seconds after a vm-start that left no chain at all until another is tried; only a vm-start makes them."""

MOST_NOTED = 64 * 1024
"""Bytes of the note."""


class Network:
    """The network of this host's guests, for any process. Keeps nothing in memory."""

    def __init__(
        self, tools: Tools, directory: Path, *, between: Callable[[], bool], closed: bool, wait: float
    ) -> None:
        """*directory* is only this worker's; it holds the lock, and a note of why no sample may run.

        *between* says whether this drakrun keeps guests from each other, *closed* whether no guest has a
        network; *wait*: seconds that one may wait for its turn to start a guest.
        """
        self._tools = tools
        self._directory = directory
        self._between = between
        self._closed = closed
        self._wait = wait

    @property
    def _note(self) -> Path:
        return self._directory / "network.broken"

    def _standing(self, rules: Rules) -> Standing:
        return rules.standing(between=self._between(), shut=self._closed and forwards())

    def rules(self) -> Rules:
        """The present rules. Raises :class:`EngineError` if iptables does not list them."""
        return read_rules(self._tools)

    @contextlib.contextmanager
    def entrance(self, check: Callable[[], object]) -> Iterator[None]:
        """Within this block a guest may be started: beside others if the network is complete, otherwise
        alone.

        *check* is called again and again while this one waits for others, and may raise.

        Raises:
            EngineError: no vm-start could make the network whole; or it takes too long.
        """
        with contextlib.ExitStack() as turn:
            if self._standing(self.rules()) is not Standing.STANDS:  # or it is being made
                turn.enter_context(self._alone(check))
                rules = self.rules()
                standing = self._standing(rules)
                if standing is Standing.BROKEN:
                    raise self._refuse(rules)
                if standing is Standing.STANDS:
                    turn.close()
            yield

    def verify(self, bridge: str, *, closed: bool) -> None:
        """Make sure that the guest on *bridge* is kept from this host, and all guests from each other.

        *closed*: this guest has no network, and nothing that it sends may be forwarded.

        Raises:
            EngineError: they are not, whatever vm-start has said.
        """
        rules = self.rules()
        if self._standing(rules) is not Standing.STANDS:
            raise self._refuse(rules)
        if not rules.keeps(bridge):
            raise EngineError(
                f"nothing keeps the guest from this host: iptables has no DRAKRUN_INP -i {bridge} -j DROP, "
                "which vm-start makes",
                blames=Blame.HOST,
            )
        ipv6.verify(bridge)
        if closed and forwards() and not rules.is_shut:
            raise EngineError(lacking(rules, between=False, shut=True), blames=Blame.HOST)

    def suspect(self, trouble: str) -> None:
        """Check whether the network made a vm-start fail, which reported *trouble*.

        Raises:
            EngineError: it was.
        """
        rules = self.rules()
        standing = self._standing(rules)
        if standing is Standing.BROKEN or (standing is Standing.UNMADE and "iptables" in trouble):
            raise self._refuse(rules, f"; {trouble}")

    def _refuse(self, rules: Rules, more: str = "") -> EngineError:
        sentence = f"{self._sentence(rules)}{more}"
        self._note_obstacle(sentence)
        return EngineError(sentence, blames=Blame.HOST)

    def _sentence(self, rules: Rules) -> str:
        return lacking(rules, between=self._between(), shut=self._closed and forwards())

    def check(self) -> str | None:
        """Find out whether the network is complete, and note why not. None if it is, or has yet to be
        made."""
        try:
            self._check()
        except EngineError as error:
            with contextlib.suppress(OSError):  # without the note the reason is still returned
                self._note_obstacle(str(error))
            return str(error)
        except OSError as error:
            return f"{self._note}: {error}"
        return self.obstacle()

    def _check(self) -> None:
        rules = self.rules()
        standing = self._standing(rules)
        if standing is Standing.BROKEN:
            with self._lock_file() as file:
                if not _locked(file):
                    return  # it is being made
                rules = self.rules()
                standing = self._standing(rules)
        if standing is Standing.BROKEN:
            self._note_obstacle(self._sentence(rules))
        elif standing is Standing.STANDS or self._is_old():
            self._note.unlink(missing_ok=True)

    def obstacle(self) -> str | None:
        """Why no sample may run on this host, by the last look of any process."""
        try:
            return printable(safe_files.read(self._note, most=MOST_NOTED).decode("utf-8", "replace"))
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"{self._note}: {error}"

    def _note_obstacle(self, sentence: str) -> None:
        if self.obstacle() != sentence:
            log.error("guests_not_isolated", error=sentence)
        safe_files.close_directory(self._directory)
        safe_files.replace(self._note, sentence.encode(), durable=False)

    def _is_old(self) -> bool:
        try:
            # If the clock was set back, the note would count as new for too long
            return abs(time.time() - self._note.lstat().st_mtime) > UNMADE_SECONDS
        except FileNotFoundError:
            return True

    @contextlib.contextmanager
    def _alone(self, check: Callable[[], object]) -> Iterator[None]:
        """No other process on this host starts a guest meanwhile. The kernel releases the lock when its
        holder ends."""
        deadline = time.monotonic() + self._wait
        with self._lock_file() as file:
            check()
            while not _locked(file):
                if time.monotonic() > deadline:
                    raise EngineError(
                        "the network of this host's guests is being made for the first time since its "
                        f"boot, and was not within {self._wait:.0f} s",
                        blames=Blame.HOST,
                    )
                time.sleep(POLL_SECONDS)
                check()
            yield

    @contextlib.contextmanager
    def _lock_file(self) -> Iterator[IO[str]]:
        safe_files.close_directory(self._directory)
        descriptor = safe_files.open_regular(self._directory / "network.lock", os.O_RDWR | os.O_CREAT)
        with os.fdopen(descriptor, "a") as file:
            try:
                yield file
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)  # a process that was forked meanwhile has it open as well


def _locked(file: IO[str]) -> bool:
    """Whether the lock is ours now; False if another process has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
