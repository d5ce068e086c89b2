"""What the emulated processor cannot do becomes an exception of Windows: bad addresses, zero divisions.

Unicorn stops at the instruction, with its registers as they were before it. The exception is dispatched then,
and the emulator goes on where its handler says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from speakeasy import common
from unicorn import UC_ERR_INSN_INVALID, UcError  # type: ignore[import-untyped]  # without types

from drakcelery.engines.speakeasy_guest.apis.api import PAGE
from drakcelery.engines.speakeasy_guest.apis.protection import Pages
from drakcelery.engines.speakeasy_guest.calling.guest_calls import Elsewhere, GuestCalls, Outcome
from drakcelery.engines.speakeasy_guest.exceptions import handling
from drakcelery.engines.speakeasy_guest.exceptions.contexts import ExceptionRecord
from drakcelery.engines.speakeasy_guest.exceptions.handling import Exceptions
from drakcelery.engines.speakeasy_guest.machine.hooks import SwitchedHooks
from drakcelery.engines.speakeasy_guest.machine.processor import Processor
from drakcelery.engines.speakeasy_guest.scheduling.thread_blocks import ThreadBlocks

MAX_FAULTS: Final = 100_000
"""Faults of one program."""

LEAST_PORTION: Final = 10_000
"""Instructions that the processor emulates at a time, at least, where their number is limited."""

ACCESSES: Final = {
    common.INVALID_MEM_READ: handling.READ,
    common.INVAL_PERM_MEM_READ: handling.READ,
    common.INVALID_MEM_WRITE: handling.WRITE,
    common.INVAL_PERM_MEM_WRITE: handling.WRITE,
    common.INVALID_MEM_EXEC: handling.EXECUTE,
}
INTERRUPTS: Final = {
    0: handling.DIVIDE_BY_ZERO,
    1: handling.SINGLE_STEP,
    3: handling.BREAKPOINT,
    6: handling.ILLEGAL_INSTRUCTION,
    13: handling.ACCESS_VIOLATION,
    0x2D: handling.BREAKPOINT,
}
FAST_FAIL: Final = 0x29
STACK_BUFFER_OVERRUN: Final = 0xC0000409
"""What ``int 29h`` ends a program with."""

COOKIE_INIT_FAILED: Final = 6
TRAP_FLAG: Final = 0x100


@dataclass(frozen=True)
class Fault:
    """What the processor stopped at."""

    code: int
    parameters: tuple[int, ...] = ()
    back: int = 0
    """Bytes by which the program is behind the instruction."""


class Engine(SwitchedHooks):
    """Speakeasy's view of Unicorn, which goes on after a fault that *recover* has dealt with.

    Unicorn does not say how many instructions it has emulated when it stops at a fault. So a number of them
    is used up in portions, and one that a fault cuts short counts as a whole.

    Args:
        recover: where to go on after Unicorn has stopped, for an error or without; None if nowhere. Its
            second argument: whether it may have stopped because a portion was used up.
    """

    def __init__(self, recover: Callable[[UcError | None, bool], int | None]) -> None:
        super().__init__()
        self._recover = recover

    def start(self, addr: int, timeout: int = 0, count: int = 0) -> None:
        """Emulate until the end, *count* instructions at most, or a fault that is none of the program's."""
        place: int | None = addr
        limited = count > 0
        portion = max(count // MAX_FAULTS, min(LEAST_PORTION, count)) if limited else count
        while place is not None and (count > 0 or not limited):
            error = None
            try:
                super().start(place, timeout, portion)
            except UcError as raised:
                error = raised
            count -= portion if limited else 0
            portion = min(portion, count) if limited else portion
            place = self._recover(error, limited)
            if place is None and error is not None:
                raise error


class Faulting(ThreadBlocks):
    """A Windows whose programs see their exceptions."""

    guest_calls: GuestCalls
    exceptions: Exceptions
    pages: Pages

    def __init__(self, config: dict[str, Any], **more: Any) -> None:
        super().__init__(config, **more)
        self.emu_eng = Engine(self._recover)
        self._fault: Fault | None = None
        self._faults = 0

    def start(self) -> None:
        """Run what is queued for a process, whose exceptions nobody handles yet, on a processor as new."""
        self.processor = Processor(self)
        self.processor.reset_floating()
        self.guest_calls = GuestCalls(self)
        self.exceptions = Exceptions(self)
        # Unicorn knows the exact place of a fault only in code that it has translated with such a hook
        self.emu_complete = False  # as it was left by the process before
        hook = self.add_code_hook(lambda _emu, _address, _size, _context: True)
        hook.enable()
        hook.disable()
        super().start()

    def crash(self, record: ExceptionRecord, why: str = "") -> None:
        """Nobody handled an exception: the process is over."""
        what = handling.words(record)
        self.curr_run.error = {
            "type": f"{what}, {why}" if why else f"{what} that nothing handled",
            "pc": f"{record.address:#x}",
        }
        self.guest_calls.pending.clear()
        self.processor.set(self.processor.pc, self.return_hook)
        self._unset_emu_hooks()
        self.exit_process()

    # What Speakeasy's hooks find.

    def _hook_mem_unmapped(self, emu: Any, access: int, address: int, size: int, value: int, ctx: Any) -> Any:
        """An address that is not there: Windows' own are Speakeasy's part, all others are faults."""
        kind = ACCESSES.get(self.emu_eng.mem_access.get(access))
        if kind is None or self._is_windows(address, kind):
            return super()._hook_mem_unmapped(emu, access, address, size, value, ctx)
        code = handling.GUARD_PAGE if self.pages.touched(self, address) else handling.ACCESS_VIOLATION
        self._fault = Fault(code, (kind, address))
        return False

    def _is_windows(self, address: int, kind: int) -> bool:
        """Whether Speakeasy has something at an address where nothing is mapped."""
        start, end = self.get_reserved_ranges()
        if start <= address < end:
            return True
        if kind == handling.EXECUTE and address == self.outermost():
            return True
        if kind != handling.READ:
            return False
        loader = self.curr_process.get_peb_ldr() if self.curr_process else None
        if loader is not None and loader.address <= address < loader.address + loader.sizeof():
            return True
        module = self.get_mod_from_addr(address)
        return module is not None and module.is_decoy()

    def dispatch_seh(self, except_code: int, faulting_address: int | None = None) -> bool:
        """In place of Speakeasy's: an address that it does not know after all."""
        self._fault = Fault(except_code, (handling.EXECUTE, faulting_address or 0))
        self.emu_eng.stop()
        return True

    def _hook_interrupt(self, emu: Any, intnum: int, ctx: Any = ()) -> Any:  # noqa: ARG002  # Speakeasy's signature
        """A trap of the processor, or ``int n``."""
        if self._fault is not None:  # what comes of the first one, such as a double fault
            return True
        if intnum == FAST_FAIL and self.processor.get(self.processor.general[1]) == COOKIE_INIT_FAILED:
            return super()._hook_interrupt(emu, intnum, [])
        code = STACK_BUFFER_OVERRUN if intnum == FAST_FAIL else INTERRUPTS.get(intnum)
        if code is None:
            self._fault = Fault(handling.ACCESS_VIOLATION, (handling.READ, self.processor.mask), 2)
        else:
            self._fault = Fault(code, (0,) if code == handling.BREAKPOINT else ())
        self.emu_eng.stop()
        return True

    # Between two starts of the emulator.

    def _recover(self, error: UcError | None, limited: bool) -> int | None:
        """Where to go on after Unicorn has stopped; None if this is the end, or *error* is our own."""
        fault, self._fault = self._fault, None
        if fault is None and not self.emu_complete and (error is not None or not limited):
            fault = self._unknown(error)
        if self.stopping.is_set() or self.emu_complete:
            return None
        if fault is None:
            return self.processor.get(self.processor.pc) if limited and error is None else None
        self._faults += 1
        registers = self.exceptions.registers()
        pc = registers[self.processor.pc] - self._behind(fault, registers[self.processor.pc])
        registers[self.processor.pc] = pc
        registers["eflags"] &= ~TRAP_FLAG
        self.processor.set("eflags", registers["eflags"])  # a handler does not run in single steps
        record = ExceptionRecord(code=fault.code, address=pc, parameters=fault.parameters)
        self._set_emu_hooks()
        if self._faults > MAX_FAULTS:
            self.crash(record, f"the last of {MAX_FAULTS}")
        elif fault.code == STACK_BUFFER_OVERRUN:
            self.crash(record)
        else:
            self.processor.set(self.processor.pc, pc)
            self.guest_calls.begin(
                self.exceptions.dispatch(record, registers),
                registers,
                lambda outcome, problem: self._dispatched(record, outcome, problem),
            )
        return self.processor.get(self.processor.pc)

    def _dispatched(self, record: ExceptionRecord, outcome: Outcome, problem: str | None) -> None:
        if problem is not None or not isinstance(outcome, Elsewhere):
            self.crash(record, f"which could not be told to its handlers ({problem})")

    def _behind(self, fault: Fault, pc: int) -> int:
        """Bytes between an instruction that traps and where the processor is then."""
        if fault.code != handling.BREAKPOINT:
            return fault.back
        return 1 if self._code(pc - 1, 1) == b"\xcc" else 2

    def _unknown(self, error: UcError | None) -> Fault | None:
        """Unicorn stops at some instructions without a word."""
        pc = self.processor.get(self.processor.pc)
        code = self._code(pc, 2)
        if self._code(pc - 1, 1) == b"\xf4" and error is None:  # hlt
            return Fault(handling.PRIVILEGED_INSTRUCTION, back=1)
        if code == b"\x0f\x0b" or (error is not None and error.errno == UC_ERR_INSN_INVALID):  # ud2
            return Fault(handling.ILLEGAL_INSTRUCTION)
        return None

    def _code(self, address: int, size: int) -> bytes:
        try:
            return bytes(self.mem_read(address, min(size, PAGE - address % PAGE)))
        except UcError:
            return b""
