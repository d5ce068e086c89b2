"""How far a program came, by the functions that it called.

A program is *past its start-up* when it has called a function that no runtime calls before main or
WinMain, or when it ended by itself before that, with the exit code 0. This is on the careful side: a program
whose main calls nothing but such functions and then breaks off counts as one that never came there. What
a C runtime calls is the product's own list; what the runtimes of other languages call on top of it is
here, from their sources (Go: runtime/os_windows.go, which writes why it gives up; Rust:
library/std/src/rt.rs and sys; Delphi: System.pas, SysInit.pas and the initialization of SysUtils; GCC:
libssp/ssp.c, and what constructors of libstdc++ call).
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources

_GO = """
AddDllDirectory AddVectoredContinueHandler AddVectoredExceptionHandler CloseHandle CreateEvent
CreateIoCompletionPort CreateThread CreateWaitableTimer CreateWaitableTimerEx DuplicateHandle
ExitProcess FreeEnvironmentStrings GetConsoleMode GetCurrentProcess GetCurrentThread
GetCurrentThreadId GetProcessAffinityMask GetProcessPriorityBoost GetQueuedCompletionStatus
GetQueuedCompletionStatusEx GetSystemDirectory GetSystemInfo GetSystemTimeAsFileTime
GetStdHandle GetThreadContext NtWaitForSingleObject PostQueuedCompletionStatus
PowerRegisterSuspendResumeNotification ProcessPrng QueryPerformanceCounter QueryPerformanceFrequency
ResumeThread RtlGetCurrentPeb RtlGetNtVersionNumbers RtlGetVersion SetConsoleCtrlHandler
SetErrorMode SetEvent SetProcessPriorityBoost SetThreadContext SetThreadPriority SetWaitableTimer
SuspendThread SwitchToThread SystemFunction036 VirtualAlloc VirtualFree WSAGetOverlappedResult
WaitForMultipleObjects WaitForSingleObject WerGetFlags WerSetFlags WriteFile timeBeginPeriod
timeEndPeriod
"""
_RUST = """
AddVectoredExceptionHandler GetConsoleMode NtCreateKeyedEvent ProcessPrng SetThreadDescription
SetThreadStackGuarantee WaitOnAddress WakeByAddressAll WakeByAddressSingle
"""
_DELPHI = """
CharNext CompareString GetDiskFreeSpaceEx GetKeyboardType GetLogicalProcessorInformation
GetNativeSystemInfo GetSystemDefaultUILanguage GetThreadLocale GetThreadPreferredUILanguages
GetUserDefaultUILanguage GetVersionEx RegCloseKey RegOpenKeyEx RegQueryValueEx SetThreadLocale
VerSetConditionMask VerifyVersionInfo
VirtualFree
"""
_GCC = """
CryptAcquireContext CryptGenRandom CryptReleaseContext GetThreadLocale ___lc_codepage_func
___mb_cur_max_func strcat strchr strcmp localeconv
"""
_OTHER = {"go": _GO, "rust": _RUST, "delphi": _DELPHI, "inno": _DELPHI, "mingw": _GCC}


def names(kind: str) -> frozenset[str]:
    """The functions that a program of *kind* may call before main, as :func:`plain` makes them."""
    text = (
        resources.files("drakcelery.engines.speakeasy_guest.record")
        .joinpath("startup.txt")
        .read_text("utf-8")
    )
    listed = [name for line in text.splitlines() if not line.startswith("#") for name in line.split()]
    return frozenset(map(plain, [*listed, *_OTHER.get(kind, "").split()]))


def plain(name: str) -> str:
    """A function's name without Windows' ``A`` or ``W`` at its end."""
    return name[:-1] if len(name) > 2 and name[-1] in "AW" and name[-2].islower() else name


def is_past(called: Iterable[str], kind: str) -> bool:
    """Whether one of the functions that were *called* is none of the start-up."""
    known = names(kind)
    return any(plain(name) not in known for name in called)
