"""Speakeasy's Windows, made to go on where it would stop, and to tell what happens while it happens."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import Any

from speakeasy.winenv import arch

from drakcelery.engines.speakeasy_guest.apis import network
from drakcelery.engines.speakeasy_guest.apis.api import Answer
from drakcelery.engines.speakeasy_guest.apis.completion import Ports
from drakcelery.engines.speakeasy_guest.apis.protection import Pages
from drakcelery.engines.speakeasy_guest.apis.table import find_own
from drakcelery.engines.speakeasy_guest.apis.virtual_memory import Allocations
from drakcelery.engines.speakeasy_guest.calling import stdcall
from drakcelery.engines.speakeasy_guest.calling.guest_calls import MODULE as GUEST_CALL
from drakcelery.engines.speakeasy_guest.calling.guest_calls import Elsewhere, Outcome
from drakcelery.engines.speakeasy_guest.configuration import SHELL_PID
from drakcelery.engines.speakeasy_guest.crt import table as crt
from drakcelery.engines.speakeasy_guest.crt.host import WithRuntime
from drakcelery.engines.speakeasy_guest.crypto.objects import Objects
from drakcelery.engines.speakeasy_guest.job import GuestJob
from drakcelery.engines.speakeasy_guest.launch import split
from drakcelery.engines.speakeasy_guest.machine import cpuid, memory, timestamps
from drakcelery.engines.speakeasy_guest.machine.clock import Clock
from drakcelery.engines.speakeasy_guest.machine.hive import Hive
from drakcelery.engines.speakeasy_guest.machine.shared_data import SharedData
from drakcelery.engines.speakeasy_guest.naming import image_name
from drakcelery.engines.speakeasy_guest.programs import images
from drakcelery.engines.speakeasy_guest.programs.image import Image
from drakcelery.engines.speakeasy_guest.programs.processes import WithProcesses
from drakcelery.engines.speakeasy_guest.record.calls import FRAME_HANDLERS, Call, context, value_of_unknown
from drakcelery.engines.speakeasy_guest.record.recorder import Recorder
from drakcelery.engines.speakeasy_guest.record.tally import Tally

LOWEST = 0x10000
"""Windows has nothing below, so that programs tell numbers from addresses by it."""


class Windows(WithRuntime, WithProcesses):
    """One emulated Windows that runs one program."""

    def __init__(self, config: dict[str, Any], *, job: GuestJob, recorder: Recorder, memory: int) -> None:
        self.guest = job.guest
        self.allocations = Allocations()
        self.clock = Clock(self)
        self.crypto = Objects()
        self.pages = Pages()
        self.ports = Ports()
        super().__init__(config, argv=split(job.arguments))
        self.regman = Hive(self.get_registry_config())
        self.recorder = self.profiler = recorder
        self.export = job.export
        self.missing_export = self.ran_out = False
        self.stopping = threading.Event()
        self.tally = Tally()
        self._memory_limit = memory
        self._executed: set[int] = set()
        self._ran: set[int] = set()
        recorder.traffic.resolve = lambda name: self.netman.name_lookup(name.lower()) or ""
        recorder.locate = self.locate
        recorder.traffic.request_of = lambda handle: network.request_of(self, handle)
        self.add_api_hook(self._guard, "*", "*")
        self.add_dyn_code_hook(self._code_executed)

    # Before the run.

    def load(self, name: str, sample: bytes, command_line: str) -> Any:
        """Load *sample*, as a file called *name*, and set what it sees as its command line."""
        if not sample:
            raise ValueError("the file is empty")
        module = self.load_module(name, sample)
        self.recorder.bits = self.get_ptr_size() * 8
        self.command_line = command_line
        return module

    def load_module(
        self, path: str | None = None, data: bytes | None = None, first_time_setup: bool = True
    ) -> Any:
        """Load a program: the sample, or a child once the one before it is over and its memory dumped."""
        if self.image is not None:
            self.dump_all()
            self.libraries.forget()
        self.image = super().load_module(path, data, first_time_setup)
        cpuid.look_after(self, self.image)
        timestamps.look_after(self, self.image)
        self._ran = memory.watch_data(self, self.image)
        return self.image

    def load_pe(self, path: str | None = None, data: bytes = b"", **more: Any) -> Any:
        """Parse a program; nothing is looked for under its name. The program sees its own headers.

        Its imports get addresses one behind the other: with Speakeasy's gaps of four, those of a program
        with a thousand imports would run into what GetProcAddress gives.
        """
        pe = Image(data=images.in_whole_sectors(data), imp_step=1, **more)
        table = images.section_table(data)
        pe.mapped_image = pe.mapped_image[: table.start] + data[table] + pe.mapped_image[table.stop :]
        pe.path = path or ""
        return pe

    def _init_name(self, path: str | None, data: bytes | None = None) -> None:
        """Call the program as its file is called; only one without a name is called after its hash."""
        super()._init_name(path, None if path else data)

    def setup_user_shared_data(self) -> None:
        """Have the page that every program sees, and not only the kernel's."""
        super().setup_user_shared_data()
        self.shared_data = SharedData(self)

    def prepare_module_for_emulation(self, module: Any, all_entrypoints: bool) -> None:
        """Queue the entry point, and the export that was asked for after it."""
        self.missing_export = not self.prepare(module, self.export, all_entrypoints)

    def identity(self) -> dict[str, Any]:
        """The process and thread that run now, as log fields."""
        process, thread = self.curr_process, self.curr_thread
        path = getattr(process, "path", "") or f"{self.guest.desktop}{self.file_name}"
        pid = process.get_id() if process else 0
        return context(
            image_name(path), pid, thread.get_id() if thread else 0, self.parents.get(pid, SHELL_PID)
        )

    # While it runs.

    def halt(self) -> None:
        """Stop permanently; may be called from another thread, and again until it is seen."""
        self.stopping.set()
        self.run_queue.clear()
        self.child_processes.clear()
        self.emu_eng.stop()

    def handle_import_func(self, dll: str, name: str) -> None:
        """Answer one API call: ours, Speakeasy's, or a step over it; then it may be another thread's turn."""
        self._handle_call(dll, name)
        if not self.run_complete and not self.stopping.is_set():
            self.scheduler.count_call()

    def _handle_call(self, dll: str, name: str) -> None:
        if self.stopping.is_set():
            self.halt()
            return
        if dll == GUEST_CALL:
            self.guest_calls.returned(name)
            return
        name = stdcall.name_of(dll, name)
        call = Call(module=dll, name=name, called_from=self.get_ret_address())
        self.recorder.begin(call)
        self.shared_data.update()
        if self.answers(call):
            return
        own = find_own(name)
        if own is not None:
            call.name, api = own
            self.tally.add(call)
            convention = arch.CALL_CONV_CDECL if api.cdecl else arch.CALL_CONV_STDCALL
            self._answer(call, api.answer, api.words, convention)
        elif self._knows(dll, name):
            self.tally.add(call)
            super().handle_import_func(dll, name)
        else:
            self._step_over(call)

    def log_api(self, _pc: int, imp_api: str, rv: int | None, argv: list[Any]) -> None:
        """Speakeasy's note that a call has returned."""
        call = self.recorder.call
        if call is not None:
            call.name = imp_api.rpartition(".")[2]
        self.recorder.end(argv, rv)

    def has_function(self, dll: str, name: str) -> bool:
        """Whether a program may find the function in the library: see :func:`stdcall.may_exist`."""
        name = stdcall.name_of(dll, name)
        return (
            crt.find(dll, name) is not None
            or find_own(name) is not None
            or self._knows(dll, name)
            or stdcall.may_exist(self.words, dll, name, bits=self.recorder.bits)
        )

    def _knows(self, dll: str, name: str) -> bool:
        _, handler = self.api.get_export_func_handler(dll, name)
        if handler is None:
            _, handler = self.normalize_import_miss(dll, name)
        return handler is not None and not name.startswith(FRAME_HANDLERS)

    def _answer(self, call: Call, answer: Answer, words: int, convention: int) -> None:
        argv = self.get_func_argv(convention, words)
        call.raw = list(argv)

        def finish(value: Outcome, problem: str | None) -> None:
            call.problem = problem
            self.recorder.begin(call)
            if isinstance(value, Elsewhere):
                self.recorder.end(argv, 0)
                return
            self.recorder.end(argv, value)
            self.do_call_return(words, call.called_from, value, conv=convention)

        value: Outcome = 0
        problem = None
        try:
            answered = answer(self, call.name, argv)
        except Exception as error:  # noqa: BLE001  # a bad pointer of the program must not end the run
            problem = f"{type(error).__name__}: {error}"[:200]
        else:
            if isinstance(answered, Generator):
                after = self.processor.after_return(
                    call.called_from, words if convention == arch.CALL_CONV_STDCALL else 0
                )
                self.guest_calls.begin(answered, after, finish)
                return
            value = answered
        finish(value, problem)

    def _step_over(self, call: Call) -> None:
        """Return from a function that nobody knows, mostly with 0; the log says so."""
        call.unsupported = True
        words, convention = 0, arch.CALL_CONV_CDECL
        if not stdcall.is_cdecl(call.module):
            convention = arch.CALL_CONV_STDCALL
            words = self._words_of(call)
        self.tally.add(call)
        argv = self.get_func_argv(convention, min(words, 16))
        call.raw = list(argv)
        value = value_of_unknown(call.name)
        self.recorder.end(argv, value)
        self.do_call_return(words, call.called_from, value, conv=convention)

    def _words_of(self, call: Call) -> int:
        words = stdcall.words_of(self.words, call.name)
        if words is not None:
            return words
        if self.get_ptr_size() != 4:
            return 0  # its caller takes them back
        words = stdcall.words_restored_by_caller(bytes(self.mem_read(call.called_from, 6)))
        call.guessed = words is None
        return words or 0

    def _guard(self, _emu: Any, api: str, handler: Any, argv: list[Any]) -> int | None:
        """Around each of Speakeasy's handlers: one that raises returns 0 instead of ending the run."""
        call = self.recorder.call
        raw = [item for item in argv if isinstance(item, int)]
        if call is not None:
            call.raw = raw
        if api.lower().startswith("advapi32.reg") and argv and argv[0] >> 32 == 0xFFFFFFFF:
            argv[0] &= 0xFFFFFFFF  # a predefined key, sign-extended; Speakeasy knows it in 32 bits only
        try:
            value = handler(argv)
        except Exception as error:  # noqa: BLE001  # Speakeasy's handlers raise anything on what they do not foresee
            if call is not None:
                call.problem = f"{type(error).__name__}: {error}"[:200]
            return 0
        return int(value) if isinstance(value, int) else None

    def on_emu_complete(self) -> None:
        """The last run is over; ``ran_out`` when the number of instructions ended it."""
        if not self.emu_complete:
            ended = self.run_complete or self.stopping.is_set() or self.curr_run.error
            self.ran_out = self.ran_out or not ended
        super().on_emu_complete()

    # Memory.

    def get_valid_ranges(self, size: int, addr: int | None = None) -> tuple[int, int]:
        """The first free range from *addr* on, in pages; Speakeasy's own search takes hours at times.

        Raises:
            MemoryError: the program has all it may have, or there is no room.
        """
        return memory.free_range(self, size, LOWEST if addr is None else addr, self._memory_limit)

    def get_address_map(self, address: int) -> Any:
        """The block with an address in it; Speakeasy would look at the oldest of thousands first."""
        return next((one for one in reversed(self.maps) if one.base <= address < one.base + one.size), None)

    def watch_code(self, base: int, size: int) -> None:
        """Tell when what the program asked for is executed from its beginning."""
        self._set_dyn_code_hook(base, size)

    def _code_executed(self, block: Any) -> None:
        """Memory that the program asked for runs: dump it before it can change itself."""
        base = block.get_base()
        if base not in self._executed:
            self._executed.add(base)
            memory.dump(self, block, reason="Code executed in allocated memory", method="ExecuteMemory")

    def dump_all(self) -> None:
        """At the end of a program: what is worth to keep of its memory."""
        self.close_runtime()
        self.sections.end()
        for block, reason in memory.worth_keeping(self):
            memory.dump(self, block, reason=reason, method="FinishAnalysis")
        memory.dump_heap(self)
        if self.image is not None:
            memory.dump_changed(self, self.image, self._ran)
        for library in self.libraries.images():
            memory.dump_changed(self, library, library.ran)
