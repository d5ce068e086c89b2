"""``python -m drakcelery.engines.speakeasy_guest``: one run. A job comes on stdin, states go to stdout."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from drakcelery.engines import confinement, privileges
from drakcelery.engines.confinement import Lack
from drakcelery.engines.speakeasy_guest.configuration import build, for_container
from drakcelery.engines.speakeasy_guest.job import Account, GuestJob, State, state_line
from drakcelery.engines.speakeasy_guest.record.calls import hooked_functions
from drakcelery.engines.speakeasy_guest.record.dumps import Dumps
from drakcelery.engines.speakeasy_guest.record.journal import Journal
from drakcelery.engines.speakeasy_guest.record.pcap import Capture
from drakcelery.engines.speakeasy_guest.record.recorder import Recorder
from drakcelery.engines.speakeasy_guest.record.traffic import Traffic
from drakcelery.errors import is_full
from drakcelery.model.text import clean

if TYPE_CHECKING:
    from drakcelery.engines.speakeasy_guest.windows import Windows

MAX_HOOKS = 4 * 1024 * 1024
"""Bytes of a hook list that are read."""

STOP_AGAIN = 0.05
"""Seconds between two tries to stop the emulator: one between two instructions may be lost."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a guest takes along when it is locked in: files that it cannot reach from there."""

    sample: bytes
    hooked: frozenset[str] | None
    """The functions on the job's hook list; None if it has none."""
    memory: int
    """What of the memory limit the program may have: half of what is left. Beyond, its calls fail."""


def enter(job: GuestJob) -> tuple[Inputs, list[Lack]]:
    """Go to where the output goes, and give up all that is not needed from there.

    Speakeasy comes in after the limits are set, and before Python's own files can be read only.

    Returns:
        what was read before, and what this machine lacks to confine us.

    Raises:
        OSError: a file cannot be read, or what every kernel can do failed.
    """
    privileges.die_with(job.parent)
    lacks = confinement.limit(memory=job.memory_limit, file=job.file_limit, cpu=job.cpu_limit)
    # jsonschema loads it if it is there, for 0.9 s, and Speakeasy's schema has no use for it
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type] # its import fails, as documented
    importlib.import_module("drakcelery.engines.speakeasy_guest.windows")
    os.chdir(Path(job.log).parent)
    inputs = Inputs(
        sample=Path(job.sample).read_bytes(),
        hooked=_hooked(job.hooks),
        memory=max(job.memory_limit - confinement.address_space(), 0) // 2,
    )
    return inputs, lacks + confinement.lock_down(job.parent)


class Guest:
    """The emulated Windows of one job, and what it writes into the working directory."""

    def __init__(self, job: GuestJob, inputs: Inputs) -> None:
        from drakcelery.engines.speakeasy_guest.windows import Windows

        self._job = job
        self._sample = inputs.sample
        self.journal = Journal(
            Path(Path(job.log).name),
            plugins=job.plugins,
            limit=job.file_limit,
            context=lambda: self.windows.identity(),
            on_trouble=lambda: self.windows.halt(),
        )
        self.capture = Capture(Path(Path(job.pcap).name), limit=job.file_limit)
        self.dumps = Dumps(
            Path(Path(job.dumps).name),
            journal=self.journal,
            single_limit=job.dump_limit,
            total_limit=job.dumps_limit,
        )
        recorder = Recorder(
            journal=self.journal,
            traffic=Traffic(journal=self.journal, capture=self.capture),
            dumps=self.dumps,
            hooked=inputs.hooked,
        )
        recorder.folder = job.guest.desktop
        config = build(job.guest)
        if job.container:
            config = for_container(config, job.container, job.command_line())
        config["max_instructions"] = job.max_instructions
        self.windows: Windows = Windows(config, job=job, recorder=recorder, memory=inputs.memory)

    def run(self) -> tuple[str, Account]:
        """Load and run the sample, and dump its memory. Returns why it ended early, if so, and the rest."""
        module = self.windows.load(Path(self._job.sample).name, self._sample, self._job.command_line())
        over = threading.Event()
        watch = threading.Thread(target=_stop_on_signal, args=(self.windows, over), daemon=True)
        watch.start()
        confinement.forbid_processes()
        _say(State.STARTED)
        astray = ""
        try:
            self.windows.run_module(module, emulate_children=True)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # the emulator went astray; what it has is still worth keeping
            astray = f"on {type(error).__name__}: {error}"
        finally:
            over.set()
        self.windows.dump_all()
        broken = self._why_broken(astray)
        reasons = (*broken, self.capture.trouble or "", self._why_less(), *self.windows.not_followed)
        return "; ".join(filter(None, reasons)), self.account(complete=not broken)

    def account(self, *, complete: bool) -> Account:
        """What the run came to."""
        tally = self.windows.tally
        return Account(
            complete=complete,
            in_start_up=tally.in_start_up,
            calls=tally.calls,
            missing=tuple(tally.missing()),
        )

    def _why_broken(self, astray: str) -> list[str]:
        """Why the emulation ended before the program or the time did; nothing where it did not."""
        windows, reasons = self.windows, []
        if self.journal.trouble:
            reasons.append(self.journal.trouble)
        if windows.ran_out and not windows.stopping.is_set():
            reasons.append(f"stopped after {self._job.max_instructions} instructions")
        # Of the run that was stopped an error says nothing
        ended = [run for run in windows.runs if not (windows.stopping.is_set() and run is windows.curr_run)]
        failed = next((run for run in ended if run.error), None)
        if failed is not None:
            error = failed.error
            why = f"when {failed.type} ended on {error.get('type')} at {error.get('pc')}"
            reasons.append(windows.tally.broke_off(clean(why, 200)))
        if astray:
            reasons.append(windows.tally.broke_off(clean(astray, 200)))
        return reasons

    def _why_less(self) -> str:
        """What of the program was not run, or would not run on Windows, though it ended."""
        if self.windows.missing_export:
            return f"the DLL has no export {self._job.export}"
        if self.windows.refused and self._job.export:
            return f"its DllMain refused to be loaded: Windows would not call {self._job.export}"
        return ""


def main() -> int:
    """Run the job that stdin holds. Exit code 0: the states on stdout tell the rest."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    job = GuestJob.from_json(sys.stdin.buffer.readline())
    guest = None
    try:
        inputs, lacks = enter(job)
        guest = Guest(job, inputs)
        _say(State.READY, "; ".join(f"{lack.measure}: {lack.why}" for lack in lacks))
        detail, account = guest.run()
    except MemoryError:
        account = guest.account(complete=False) if guest else Account()
        del guest
        gc.collect()
        _say(State.FINISHED, f"the emulator ran out of its {job.memory_limit} bytes of memory", account)
        return 0
    except Exception as error:  # noqa: BLE001  # whatever a hostile file causes becomes a sentence
        is_ours = guest is None or is_full(error)
        _say(State.BROKEN if is_ours else State.REJECTED, f"{type(error).__name__}: {error}")
        return 0
    failure = guest.journal.failure or guest.capture.failure or guest.dumps.failure
    if failure:
        _say(State.BROKEN, str(failure))
    else:
        _say(State.FINISHED, detail, account)
    return 0


def _say(state: State, detail: str = "", account: Account | None = None) -> None:
    os.write(sys.stdout.fileno(), state_line(state, detail, account))


def _stop_on_signal(windows: Windows, over: threading.Event) -> None:
    """Wait for the engine's SIGTERM, then stop the emulator until it has stopped."""
    signal.sigwait({signal.SIGTERM})
    while not over.wait(STOP_AGAIN):
        windows.halt()


def _hooked(path: str | None) -> frozenset[str] | None:
    if path is None:
        return None
    with Path(path).open("rb") as file:
        return hooked_functions(file.read(MAX_HOOKS).decode("utf-8", "replace"))


if __name__ == "__main__":
    sys.exit(main())
