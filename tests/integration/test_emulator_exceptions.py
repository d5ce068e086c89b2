"""Exceptions: faults of the processor and what programs raise reach their handlers, as on Windows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulating import Bench
from tests.guest_programs import BARE, build, marks, said

BITS = pytest.mark.parametrize("bits", [32, 64])

VECTORED = r"""
#ifdef _WIN64
#define PC Rip
#define AX Rax
#else
#define PC Eip
#define AX Eax
#endif
static DWORD codes[8], count;
static ULONG_PTR touched;
static LONG WINAPI handler(EXCEPTION_POINTERS *all)
{
    codes[count++] = all->ExceptionRecord->ExceptionCode;
    if (all->ExceptionRecord->ExceptionAddress != (PVOID)all->ContextRecord->PC)
        mark("addresses-differ");
    switch (all->ExceptionRecord->ExceptionCode) {
    case EXCEPTION_ACCESS_VIOLATION:
        touched = all->ExceptionRecord->ExceptionInformation[1];
        mark(all->ExceptionRecord->ExceptionInformation[0] ? "write" : "read");
        all->ContextRecord->PC += 2 + (sizeof(void *) == 8);
        break;
    case EXCEPTION_INT_DIVIDE_BY_ZERO:
        mark("division");
        all->ContextRecord->PC += 2;
        break;
    case EXCEPTION_BREAKPOINT:
        mark("breakpoint");
        all->ContextRecord->PC += 1;
        break;
    case EXCEPTION_ILLEGAL_INSTRUCTION:
        mark("illegal");
        all->ContextRecord->PC += 2;
        break;
    case EXCEPTION_PRIV_INSTRUCTION:
        mark("privileged");
        all->ContextRecord->PC += 1;
        break;
    default:
        mark(all->ExceptionRecord->NumberParameters == 2 ? "raised" : "odd");
        return all->ExceptionRecord->ExceptionInformation[1] == 7 ? -1 : 0;
    }
    all->ContextRecord->AX = 5;
    return EXCEPTION_CONTINUE_EXECUTION;
}
"""


@BITS
def test_faults_reach_vectored_handlers(tmp_path: Path, bits: int) -> None:
    """Each kind with its code, its address and a context that can be changed; other registers stay."""
    source = (
        VECTORED
        + r"""
    #ifdef _WIN64
    #define READ "movq (%1), %0"
    #define WRITE "movq %0, (%1)"
    #else
    #define READ "movl (%1), %0"
    #define WRITE "movl %0, (%1)"
    #endif
    void _start(void)
    {
        ULONG_PTR value, seven = 7;
        PVOID handle = AddVectoredExceptionHandler(1, handler);
        __asm__ volatile("" : "+b"(seven));
        __asm__ volatile(READ : "=a"(value) : "c"((ULONG_PTR)0x123) : "memory");
        mark(value == 5 && touched == 0x123 ? "changed" : "lost");
        __asm__ volatile(WRITE : "+a"(value) : "c"((ULONG_PTR)0x456) : "memory");
        mark(touched == 0x456 ? "right" : "wrong");
        __asm__ volatile("xorl %%ecx, %%ecx; xorl %%edx, %%edx; divl %%ecx" : "+a"(value) : : "ecx", "edx");
        __asm__ volatile("int3" : "+a"(value));
        __asm__ volatile("ud2" : "+a"(value));
        __asm__ volatile("hlt" : "+a"(value));
        ULONG_PTR parameters[2] = {1, 7};
        RaiseException(0xE0001234, 0, 2, parameters);
        mark(seven == 7 && count == 7 && codes[6] == 0xE0001234 ? "whole" : "damaged");
        mark(RemoveVectoredExceptionHandler(handle) ? "removed" : "kept");
        mark(RemoveVectoredExceptionHandler(handle) ? "again" : "once");
        ExitProcess(0);
    }
    """
    )
    seen = ["read", "changed", "write", "right", "division", "breakpoint", "illegal", "privileged", "raised"]
    assert said(tmp_path, source, bits, *BARE, "-lkernel32") == [*seen, "whole", "removed", "once"]


@BITS
def test_guard_pages(tmp_path: Path, bits: int) -> None:
    """The first touch of each is an exception, and only that; VirtualQuery tells the state of every page."""
    source = r"""
    static int guards, others;
    static LONG CALLBACK see(EXCEPTION_POINTERS *info)
    {
        if (info->ExceptionRecord->ExceptionCode == STATUS_GUARD_PAGE_VIOLATION) {
            guards++;
            return EXCEPTION_CONTINUE_EXECUTION;
        }
        DWORD old;
        void *page = (void *)info->ExceptionRecord->ExceptionInformation[1];
        others += info->ExceptionRecord->ExceptionInformation[0] == 1;
        VirtualProtect(page, 1, PAGE_READWRITE, &old);
        return old == PAGE_NOACCESS ? EXCEPTION_CONTINUE_EXECUTION : EXCEPTION_CONTINUE_SEARCH;
    }
    void _start(void)
    {
        MEMORY_BASIC_INFORMATION info;
        DWORD old = 0;
        AddVectoredExceptionHandler(1, see);
        DWORD guarded = PAGE_READWRITE | PAGE_GUARD;
        volatile char *page = VirtualAlloc(NULL, 0x2000, MEM_COMMIT | MEM_RESERVE, guarded);
        VirtualQuery((void *)page, &info, sizeof info);
        mark(info.Protect == guarded ? "guarded" : "open");
        page[0] = 1;
        page[1] = 2;
        mark(guards == 1 && page[0] == 1 ? "once" : "wrong");
        VirtualQuery((void *)page, &info, sizeof info);
        mark(info.Protect == PAGE_READWRITE && info.RegionSize == 0x1000 ? "opened" : "still");
        mark(page[0x1000] == 0 && guards == 2 ? "second" : "wrong");
        VirtualProtect((void *)page, 0x1000, PAGE_READONLY | PAGE_GUARD, &old);
        mark(old == PAGE_READWRITE && page[1] == 2 && guards == 3 ? "again" : "wrong");
        VirtualProtect((void *)page, 0x1000, PAGE_NOACCESS, &old);
        page[5] = 7;
        mark(old == PAGE_READONLY && others == 1 && page[5] == 7 ? "no-access" : "access");
        mark(VirtualProtect((void *)0x10, 1, PAGE_READONLY, &old) ? "taken" : "refused");
        ExitProcess(0);
    }
    """
    seen = ["guarded", "once", "opened", "second", "again", "no-access", "refused"]
    assert said(tmp_path, source, bits, *BARE, "-lkernel32") == seen


@BITS
def test_the_filter_for_what_nobody_handles(tmp_path: Path, bits: int) -> None:
    """It may have the program continue; without one the process ends, and the outcome says on what."""
    source = r"""
    static LONG WINAPI filter(EXCEPTION_POINTERS *all)
    {
        mark("filtered");
        return all->ExceptionRecord->ExceptionCode == 0xE0000001 ? EXCEPTION_CONTINUE_EXECUTION
                                                                 : EXCEPTION_EXECUTE_HANDLER;
    }
    void _start(void)
    {
        mark(SetUnhandledExceptionFilter(filter) ? "before" : "none");
        mark(SetUnhandledExceptionFilter(filter) == filter ? "same" : "other");
        RaiseException(0xE0000001, 0, 0, NULL);
        mark("continued");
        *(volatile int *)0x10 = 1;
        mark("never");
    }
    """
    run = Bench(tmp_path).detonate(build(tmp_path, source, bits, *BARE, "-lkernel32"))
    assert marks(run) == ["none", "same", "filtered", "continued", "filtered"]
    assert run.outcome.reason is not None
    assert "an access violation (writing 0x10) that nothing handled" in run.outcome.reason


def test_frames_of_32_bits(tmp_path: Path) -> None:
    """Handlers of the chain at fs:[0] are asked innermost first; RtlUnwind tells those that are left."""
    source = r"""
    typedef struct frame { struct frame *next; void *handler; int number; } frame;
    VOID WINAPI RtlUnwind(PVOID, PVOID, PEXCEPTION_RECORD, PVOID);
    static void *stack, *base;
    static int asked, left, go;
    static EXCEPTION_DISPOSITION inner(EXCEPTION_RECORD *record, frame *where, CONTEXT *context, void *d)
    {
        if (record->ExceptionFlags & 2) {
            mark("inner-left");
            left = where->number;
        } else {
            mark("inner-asked");
            asked = where->number;
        }
        return ExceptionContinueSearch;
    }
    static EXCEPTION_DISPOSITION outer(EXCEPTION_RECORD *record, frame *where, CONTEXT *context, void *d)
    {
        mark("outer-asked");
        if (record->ExceptionCode == 0xE0000002)
            return ExceptionContinueExecution;
        RtlUnwind(where, NULL, record, NULL);
        mark("unwound");
        context->Eip = (DWORD)go;
        context->Esp = (DWORD)stack;
        context->Ebp = (DWORD)base;
        return ExceptionContinueExecution;
    }
    static void __attribute__((noinline)) after(void)
    {
        frame *top;
        __asm__ volatile("movl %%fs:0, %0" : "=r"(top));
        mark(top->number == 1 && asked == 2 && left == 2 ? "whole" : "damaged");
        ExitProcess(0);
    }
    void _start(void)
    {
        frame one = {NULL, outer, 1}, two = {&one, inner, 2};
        __asm__ volatile("movl %%fs:0, %0" : "=r"(one.next));
        mark(one.next == (frame *)-1 ? "end" : "no-end");
        __asm__ volatile("movl %0, %%fs:0" : : "r"(&two));
        RaiseException(0xE0000002, 0, 0, NULL);
        mark("went-on");
        __asm__ volatile("movl %%esp, %0; movl %%ebp, %1" : "=m"(stack), "=m"(base));
        go = (int)after;
        *(volatile int *)0 = 1;
    }
    """
    seen = [
        "end",
        "inner-asked",
        "outer-asked",
        "went-on",
        "inner-asked",
        "outer-asked",
        "inner-left",
        "unwound",
    ]
    assert said(tmp_path, source, 32, *BARE, "-lkernel32") == [*seen, "whole"]


def test_a_chain_that_goes_in_circles_ends(tmp_path: Path) -> None:
    """A registration that points at itself, and a handler that faults for ever, do not hang the run."""
    source = r"""
    static ULONG_PTR frame[2];
    static void bad(void) { *(volatile int *)1 = 1; }
    void _start(void)
    {
        frame[0] = (ULONG_PTR)frame;
        frame[1] = (ULONG_PTR)bad;
        __asm__ volatile("movl %0, %%fs:0" : : "r"(frame));
        mark("start");
        bad();
    }
    """
    run = Bench(tmp_path).detonate(build(tmp_path, source, 32, *BARE, "-lkernel32"))
    assert marks(run) == ["start"]
    assert "an access violation (writing 0x1)" in str(run.outcome.reason)


@BITS
def test_cpp_exceptions(tmp_path: Path, bits: int) -> None:
    """Thrown, caught by type, thrown again and nested, through frames whose destructors run in order."""
    source = r"""
    struct Guard {
        const char *name;
        Guard(const char *n) : name(n) {}
        ~Guard() { mark(name); }
    };
    __attribute__((noinline)) void thrower(int kind)
    {
        Guard guard("thrower-left");
        if (kind == 1)
            throw 42;
        if (kind == 2)
            throw "text";
        mark("no-throw");
    }
    __attribute__((noinline)) void middle(int kind)
    {
        Guard guard("middle-left");
        try {
            thrower(kind);
        } catch (const char *text) {
            mark(text);
            throw;
        }
    }
    static DWORD WINAPI work(void *)
    {
        try {
            thrower(1);
        } catch (int) {
            mark("in-thread");
        }
        return 0;
    }
    int main()
    {
        try {
            middle(0);
            middle(1);
        } catch (int value) {
            mark(value == 42 ? "caught-int" : "wrong");
        }
        try {
            middle(2);
        } catch (...) {
            mark("caught-all");
            try {
                thrower(1);
            } catch (int) {
                mark("nested");
            }
        }
        WaitForSingleObject(CreateThread(NULL, 0, work, NULL, 0, NULL), INFINITE);
        return 0;
    }
    """
    assert said(tmp_path, source, bits, "-O1", "-static", language="c++") == [
        *("no-throw", "thrower-left", "middle-left", "thrower-left", "middle-left", "caught-int"),
        *("thrower-left", "text", "middle-left", "caught-all", "thrower-left", "nested"),
        *("thrower-left", "in-thread"),
    ]


@BITS
def test_an_exception_that_nobody_catches(tmp_path: Path, bits: int) -> None:
    """The runtime ends the program; nothing after the throw is seen, and the run is over."""
    source = r"""
    int main()
    {
        mark("before");
        throw 1;
    }
    """
    run = Bench(tmp_path).detonate(build(tmp_path, source, bits, "-static", language="c++"))
    assert marks(run) == ["before"]


def test_while_a_handler_runs_a_registration_of_windows_stands_before_its_frame(tmp_path: Path) -> None:
    """As unpackers find their frame; it is gone where the program goes on, by either way out of a handler."""
    source = r"""
    typedef struct frame { struct frame *next; void *handler; } frame;
    static frame one;
    static volatile int unwinds;
    static void head(frame **place) { __asm__ volatile("movl %%fs:0, %0" : "=r"(*place)); }
    static EXCEPTION_DISPOSITION handler(EXCEPTION_RECORD *record, void *place, CONTEXT *context)
    {
        frame *first;
        head(&first);
        mark(first != &one && first->next == &one && place == &one ? "before" : "not-before");
        if (unwinds++) {
            RtlUnwind(&one, NULL, record, 0);
            head(&first);
            mark(first == &one ? "gone-by-unwinding" : "still-there");
            ExitProcess(0);
        }
        context->Eip += 2;
        return ExceptionContinueExecution;
    }
    void _start(void)
    {
        frame *first;
        head(&one.next);
        one.handler = handler;
        __asm__ volatile("movl %0, %%fs:0" : : "r"(&one));
        __asm__ volatile("xorl %%eax, %%eax; movl (%%eax), %%eax" : : : "eax");
        head(&first);
        mark(first == &one ? "gone" : "still-there");
        __asm__ volatile("xorl %%eax, %%eax; movl (%%eax), %%eax" : : : "eax");
    }
    """
    seen = said(tmp_path, source, 32, *BARE, "-lkernel32")
    assert seen == ["before", "gone", "before", "gone-by-unwinding"]


@BITS
def test_a_single_step_is_one_and_its_handler_does_not_step(tmp_path: Path, bits: int) -> None:
    """The trap flag, as unpackers set it: one exception, behind the instruction that follows."""
    source = r"""
    static int steps;
    static LONG WINAPI handler(EXCEPTION_POINTERS *all)
    {
        DWORD flags = all->ContextRecord->EFlags & 0x100;
        mark(all->ExceptionRecord->ExceptionCode == EXCEPTION_SINGLE_STEP && !flags ? "step" : "odd");
        steps++;
        return EXCEPTION_CONTINUE_EXECUTION;
    }
    #ifdef _WIN64
    #define FLAG "pushfq; btsl $8, (%rsp); popfq; nop; nop; nop"
    #else
    #define FLAG "pushfl; btsl $8, (%esp); popfl; nop; nop; nop"
    #endif
    void _start(void)
    {
        AddVectoredExceptionHandler(1, handler);
        __asm__ volatile(FLAG);
        mark(steps == 1 ? "once" : "not-once");
        ExitProcess(0);
    }
    """
    assert said(tmp_path, source, bits, *BARE, "-lkernel32") == ["step", "once"]
