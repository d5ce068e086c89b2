"""Threads, what they wait for, their storage, and fibers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guest_programs import BARE, said

BITS = pytest.mark.parametrize("bits", [32, 64])


@BITS
def test_threads_run_when_they_are_waited_for(tmp_path: Path, bits: int) -> None:
    """Each with its argument, block and error; its exit code is known; one that is suspended waits."""
    source = r"""
    static DWORD ids[3];
    static DWORD WINAPI work(void *number)
    {
        ids[(INT_PTR)number] = GetCurrentThreadId();
        SetLastError(100 + (DWORD)(INT_PTR)number);
        Sleep(10 * (3 - (DWORD)(INT_PTR)number));
        mark(number == (void *)1 ? "one" : "two");
        return GetLastError() == 0 ? 7 : 8;
    }
    static DWORD WINAPI late(void *number) { mark("resumed"); ExitThread(9); }
    void _start(void)
    {
        HANDLE both[2], third;
        DWORD code = 0, id = 0;
        SetLastError(55);
        both[0] = CreateThread(NULL, 0, work, (void *)1, 0, &id);
        both[1] = CreateThread(NULL, 0, work, (void *)2, 0, NULL);
        third = CreateThread(NULL, 0, late, NULL, CREATE_SUSPENDED, NULL);
        GetExitCodeThread(both[0], &code);
        mark(code == STILL_ACTIVE ? "active" : "ended");
        mark(WaitForSingleObject(both[0], 0) == WAIT_TIMEOUT ? "timeout" : "there");
        mark(WaitForMultipleObjects(2, both, TRUE, INFINITE) == WAIT_OBJECT_0 ? "joined" : "lost");
        GetExitCodeThread(both[0], &code);
        mark(code == 7 && ids[1] == id && ids[1] != ids[2] && id != GetCurrentThreadId() ? "right" : "wrong");
        mark(WaitForSingleObject(third, 50) == WAIT_TIMEOUT ? "suspended" : "ran");
        mark(ResumeThread(third) == 1 ? "resuming" : "odd");
        WaitForSingleObject(third, INFINITE);
        GetExitCodeThread(third, &code);
        mark(code == 9 ? "nine" : "other");
        ExitProcess(0);
    }
    """
    seen = ["active", "timeout", "two", "one", "joined", "right", "suspended", "resuming", "resumed", "nine"]
    assert said(tmp_path, source, bits, *BARE, "-lkernel32") == seen


@BITS
def test_threads_of_a_program_that_returns(tmp_path: Path, bits: int) -> None:
    """A thread goes on when the first one has returned; one without a turn yet has it before ExitProcess."""
    source = r"""
    static DWORD WINAPI second(void *unused) { mark("second"); return 0; }
    static DWORD WINAPI work(void *unused)
    {
        Sleep(1000);
        mark("outlives");
        CreateThread(NULL, 0, second, NULL, 0, NULL);
        ExitProcess(3);
    }
    void _start(void)
    {
        CreateThread(NULL, 0, work, NULL, 0, NULL);
        mark("returns");
    }
    """
    assert said(tmp_path, source, bits, *BARE, "-lkernel32") == ["returns", "outlives", "second"]


@BITS
def test_locks_and_signals(tmp_path: Path, bits: int) -> None:
    """Events, semaphores, sections, slim locks, condition variables and addresses order two threads."""
    source = r"""
    static HANDLE ready, slots;
    static CRITICAL_SECTION section;
    static SRWLOCK slim = SRWLOCK_INIT;
    static CONDITION_VARIABLE changed = CONDITION_VARIABLE_INIT;
    static INIT_ONCE once = INIT_ONCE_STATIC_INIT;
    static volatile LONG state, address;
    static BOOL CALLBACK initialise(PINIT_ONCE o, void *parameter, void **context)
    {
        mark("once");
        *context = (void *)0x40;
        return TRUE;
    }
    static DWORD WINAPI work(void *unused)
    {
        void *context = NULL;
        LONG before = 0;
        WaitForSingleObject(ready, INFINITE);
        mark("signalled");
        EnterCriticalSection(&section);
        mark("section-mine");
        LeaveCriticalSection(&section);
        AcquireSRWLockExclusive(&slim);
        state = 1;
        ReleaseSRWLockExclusive(&slim);
        WakeConditionVariable(&changed);
        WaitOnAddress(&address, &before, sizeof address, INFINITE);
        mark(address == 5 ? "address" : "early");
        InitOnceExecuteOnce(&once, initialise, NULL, &context);
        mark(context == (void *)0x40 ? "known" : "unknown");
        ReleaseSemaphore(slots, 1, NULL);
        return 0;
    }
    void _start(void)
    {
        void *context = NULL;
        ready = CreateEventA(NULL, FALSE, FALSE, NULL);
        slots = CreateSemaphoreA(NULL, 0, 1, NULL);
        InitializeCriticalSection(&section);
        HANDLE thread = CreateThread(NULL, 0, work, NULL, 0, NULL);
        InitOnceExecuteOnce(&once, initialise, NULL, &context);
        mark(context == (void *)0x40 ? "done" : "not");
        EnterCriticalSection(&section);
        EnterCriticalSection(&section);
        SetEvent(ready);
        Sleep(5);
        mark("still-mine");
        LeaveCriticalSection(&section);
        LeaveCriticalSection(&section);
        AcquireSRWLockExclusive(&slim);
        while (!state)
            SleepConditionVariableSRW(&changed, &slim, INFINITE, 0);
        mark(TryAcquireSRWLockShared(&slim) ? "shared" : "exclusive");
        ReleaseSRWLockExclusive(&slim);
        mark(SleepConditionVariableSRW(&changed, &slim, 10, 0) ? "woken" : "not-woken");
        address = 5;
        WakeByAddressAll((void *)&address);
        mark(WaitForSingleObject(slots, INFINITE) == 0 ? "slot" : "none");
        mark(WaitForSingleObject(slots, 1) == WAIT_TIMEOUT ? "taken" : "free");
        WaitForSingleObject(thread, INFINITE);
        ExitProcess(0);
    }
    """
    assert said(tmp_path, source, bits, *BARE, "-lkernel32", "-lsynchronization") == [
        *(
            "once",
            "done",
            "signalled",
            "still-mine",
            "section-mine",
            "exclusive",
            "not-woken",
            "address",
            "known",
        ),
        *("slot", "taken"),
    ]


@BITS
def test_queued_calls_and_pools(tmp_path: Path, bits: int) -> None:
    """APCs run in an alertable wait; work, timers and waits of a pool on threads, until taken back."""
    source = r"""
    static void CALLBACK call(ULONG_PTR number) { mark(number == 4 ? "apc" : "wrong"); }
    static void CALLBACK work(PTP_CALLBACK_INSTANCE i, void *parameter, PTP_WORK w) { mark(parameter); }
    static DWORD WINAPI item(void *parameter) { mark(parameter); return 0; }
    static void CALLBACK timer(void *parameter, BOOLEAN fired) { mark(fired ? parameter : "odd"); }
    static LONG ticks;
    static void CALLBACK tick(void *parameter, BOOLEAN fired) { InterlockedIncrement(parameter); }
    static void CALLBACK came(void *parameter, BOOLEAN late) { mark(late ? "late" : parameter); }
    static void CALLBACK due(PTP_CALLBACK_INSTANCE i, void *parameter, PTP_TIMER t) { mark(parameter); }
    static void CALLBACK there(PTP_CALLBACK_INSTANCE i, void *parameter, PTP_WAIT w, TP_WAIT_RESULT result)
    {
        mark(result == WAIT_OBJECT_0 ? parameter : "too-late");
    }
    static void timers(void)
    {
        LARGE_INTEGER time = {.QuadPart = -50 * 10000};
        HANDLE queue = CreateTimerQueue(), made, event = CreateEventA(NULL, FALSE, FALSE, NULL), wait;
        CreateTimerQueueTimer(&made, queue, tick, &ticks, 10, 10, 0);
        Sleep(55);
        mark(ticks == 5 ? "five" : "wrong");
        ChangeTimerQueueTimer(queue, made, 100, 0);
        Sleep(500);
        mark(ticks == 6 && DeleteTimerQueueTimer(queue, made, INVALID_HANDLE_VALUE)
             && !DeleteTimerQueueTimer(queue, made, NULL) ? "changed" : "wrong");
        CreateTimerQueueTimer(&made, queue, tick, &ticks, 10, 10, 0);
        DeleteTimerQueueEx(queue, INVALID_HANDLE_VALUE);
        Sleep(50);
        mark(ticks == 6 ? "no-queue" : "wrong");
        RegisterWaitForSingleObject(&wait, event, came, "came", 1000, WT_EXECUTEDEFAULT);
        SetEvent(event);
        Sleep(100);
        SetEvent(event);
        Sleep(1500);
        mark(UnregisterWaitEx(wait, INVALID_HANDLE_VALUE) && !UnregisterWait(wait)
             ? "unregistered" : "wrong");
        SetEvent(event);
        Sleep(10);
        mark(WaitForSingleObject(event, 0) == WAIT_OBJECT_0 ? "left" : "taken");
        PTP_TIMER timer = CreateThreadpoolTimer(due, "due", NULL);
        SetThreadpoolTimer(timer, (FILETIME *)&time, 0, 0);
        mark(IsThreadpoolTimerSet(timer) ? "set" : "wrong");
        Sleep(100);
        SetThreadpoolTimer(timer, (FILETIME *)&time, 0, 0);
        WaitForThreadpoolTimerCallbacks(timer, TRUE);
        CloseThreadpoolTimer(timer);
        PTP_WAIT pool = CreateThreadpoolWait(there, "there", NULL);
        SetThreadpoolWait(pool, event, NULL);
        SetEvent(event);
        Sleep(10);
        SetThreadpoolWait(pool, event, (FILETIME *)&time);
        Sleep(100);
        WaitForThreadpoolWaitCallbacks(pool, FALSE);
        CloseThreadpoolWait(pool);
    }
    void _start(void)
    {
        HANDLE made;
        QueueUserAPC(call, GetCurrentThread(), 4);
        Sleep(1);
        mark("not-yet");
        mark(SleepEx(INFINITE, TRUE) == WAIT_IO_COMPLETION ? "completed" : "slept");
        PTP_WORK pool = CreateThreadpoolWork(work, "pool", NULL);
        SubmitThreadpoolWork(pool);
        WaitForThreadpoolWorkCallbacks(pool, FALSE);
        mark("waited");
        CreateTimerQueueTimer(&made, NULL, timer, "timer", 500, 0, 0);
        QueueUserWorkItem(item, "item", 0);
        Sleep(1000);
        timers();
        mark("end");
        TerminateProcess(GetCurrentProcess(), 3);
        mark("alive");
    }
    """
    seen = [
        *("not-yet", "apc", "completed", "pool", "waited", "item", "timer"),
        *("five", "changed", "no-queue", "came", "came", "late", "unregistered", "left"),
        *("set", "due", "there", "too-late", "end"),
    ]
    assert said(tmp_path, source, bits, *BARE, "-lkernel32") == seen


@BITS
def test_fibers(tmp_path: Path, bits: int) -> None:
    """They switch back and forth and keep their places."""
    source = r"""
    static void *main_fiber, *other;
    static void WINAPI work(void *parameter)
    {
        mark(GetFiberData() == parameter && GetCurrentFiber() == other ? "data" : "no-data");
        SwitchToFiber(main_fiber);
        mark("again");
        SwitchToFiber(main_fiber);
    }
    void _start(void)
    {
        main_fiber = ConvertThreadToFiber((void *)1);
        other = CreateFiber(0, work, (void *)2);
        mark("main");
        SwitchToFiber(other);
        mark("back");
        SwitchToFiber(other);
        mark(GetFiberData() == (void *)1 ? "mine" : "not-mine");
        DeleteFiber(other);
        mark(ConvertFiberToThread() ? "thread" : "fiber");
        ExitProcess(0);
    }
    """
    seen = ["main", "data", "back", "again", "mine", "thread"]
    assert said(tmp_path, source, bits, *BARE, "-lkernel32") == seen


@BITS
def test_storage_of_threads(tmp_path: Path, bits: int) -> None:
    """Slots are each thread's own and lie in its block; what a freed index held is told to its callback."""
    source = r"""
    static DWORD slot, index;
    static void WINAPI freed(void *value) { mark(value == (void *)6 ? "freed" : "odd"); }
    static DWORD WINAPI work(void *unused)
    {
        mark(TlsGetValue(slot) || FlsGetValue(index) ? "shared" : "own");
        TlsSetValue(slot, (void *)9);
        return 0;
    }
    void _start(void)
    {
        void *value;
        slot = TlsAlloc();
        index = FlsAlloc(freed);
        TlsSetValue(slot, (void *)5);
        FlsSetValue(index, (void *)6);
        WaitForSingleObject(CreateThread(NULL, 0, work, NULL, 0, NULL), INFINITE);
        #ifdef _WIN64
        __asm__("movq %%gs:0x1480(,%1,8), %0" : "=r"(value) : "r"((ULONG_PTR)slot));
        #else
        __asm__("movl %%fs:0xE10(,%1,4), %0" : "=r"(value) : "r"(slot));
        #endif
        mark(value == (void *)5 && TlsGetValue(slot) == (void *)5 ? "kept" : "lost");
        mark(FlsGetValue(index) == (void *)6 ? "fiber-local" : "nothing");
        FlsFree(index);
        ExitProcess(0);
    }
    """
    assert said(tmp_path, source, bits, *BARE, "-lkernel32") == ["own", "kept", "fiber-local", "freed"]


@BITS
def test_what_threads_keep_is_told_when_they_end(tmp_path: Path, bits: int) -> None:
    """However they end, and the first one with the process; a value of 0 is told nobody."""
    source = r"""
    #include <process.h>
    static DWORD index;
    static void WINAPI ends(void *value) { mark(value); }
    static DWORD WINAPI returning(void *unused) { FlsSetValue(index, "returned"); return 0; }
    static DWORD WINAPI leaving(void *unused) { FlsSetValue(index, "left"); ExitThread(1); }
    static unsigned __stdcall runtime(void *unused)
    {
        FlsSetValue(index, "runtime");
        _endthreadex(2);
        return 3;
    }
    static DWORD WINAPI empty(void *unused) { FlsSetValue(index, "x"); FlsSetValue(index, NULL); return 0; }
    int main(void)
    {
        DWORD code;
        index = FlsAlloc(ends);
        FlsSetValue(index, "first");
        WaitForSingleObject(CreateThread(NULL, 0, returning, NULL, 0, NULL), INFINITE);
        WaitForSingleObject(CreateThread(NULL, 0, leaving, NULL, 0, NULL), INFINITE);
        WaitForSingleObject(CreateThread(NULL, 0, empty, NULL, 0, NULL), INFINITE);
        HANDLE thread = (HANDLE)_beginthreadex(NULL, 0, runtime, NULL, 0, NULL);
        WaitForSingleObject(thread, INFINITE);
        GetExitCodeThread(thread, &code);
        mark(code == 2 ? "two" : "other");
        ExitProcess(0);
    }
    """
    assert said(tmp_path, source, bits) == ["returned", "left", "runtime", "two", "first"]


@BITS
def test_waits_that_nobody_ends(tmp_path: Path, bits: int) -> None:
    """An event that another program would set is let go at last; threads that wait for ever do not hang."""
    source = r"""
    static DWORD WINAPI work(void *lock)
    {
        for (;;)
            WaitForSingleObject(lock, INFINITE);
    }
    void _start(void)
    {
        HANDLE event = CreateEventA(NULL, FALSE, FALSE, "Global\\from-elsewhere");
        mark(WaitForSingleObject(event, INFINITE) == 0 ? "went-on" : "failed");
        CreateThread(NULL, 0, work, event, 0, NULL);
        mark("end");
    }
    """
    assert said(tmp_path, source, bits, *BARE, "-lkernel32") == ["went-on", "end"]


@BITS
@pytest.mark.parametrize("how", ["SwitchToThread()", "GetTickCount()", "Sleep(0)"])
def test_a_busy_thread_and_one_that_sleeps(tmp_path: Path, bits: int, how: str) -> None:
    """Time passes for a thread that sleeps also while another one never rests."""
    source = r"""
    static volatile int over;
    static DWORD WINAPI sleeper(void *unused) { Sleep(300); mark("awake"); over = 1; return 0; }
    void _start(void)
    {
        CreateThread(NULL, 0, sleeper, NULL, 0, NULL);
        while (!over) HOW;
        mark("over");
        ExitProcess(0);
    }
    """.replace("HOW", how)
    assert said(tmp_path, source, bits, *BARE, "-lkernel32") == ["awake", "over"]
