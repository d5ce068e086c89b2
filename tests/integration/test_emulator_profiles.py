"""The emulator under several configurations: what a program sees of its profile, and who evades which."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.diff import reported
from drakcelery.behaviour.difference import difference
from drakcelery.behaviour.report import Report
from tests import evaders
from tests.emulating import Bench
from tests.guest_programs import build, marks

SEEN = r"""
#include <shlobj.h>
#include <cpuid.h>
#define ASK(library, name) (void *)GetProcAddress(LoadLibraryA(library), name)
static void say(const char *form, unsigned first, unsigned second, unsigned third)
{
    char text[200];
    wsprintfA(text, form, first, second, third);
    mark(text);
}
static int is(const char *variable, const char *value)
{
    char text[100];
    return GetEnvironmentVariableA(variable, text, sizeof text) && !lstrcmpA(text, value);
}
int main(void)
{
    OSVERSIONINFOEXW real = {sizeof real};
    OSVERSIONINFOA told = {sizeof told};
    LONG (WINAPI *version)(void *) = ASK("ntdll.dll", "RtlGetVersion");
    BOOL (WINAPI *admin)(void) = ASK("shell32.dll", "IsUserAnAdmin");
    BOOL inside = 2, member = 2;
    SID_IDENTIFIER_AUTHORITY nt = {SECURITY_NT_AUTHORITY};
    PSID group;
    MEMORYSTATUSEX memory = {sizeof memory};
    SYSTEM_INFO system;
    char text[MAX_PATH], vendor[13] = "";
    DWORD size = sizeof text;
    unsigned a, b, c, d;

    version(&real);
    GetVersionExA(&told);
    say("rtl-%u.%u.%u", real.dwMajorVersion, real.dwMinorVersion, real.dwBuildNumber);
    say("ex-%u.%u.%u", told.dwMajorVersion, told.dwMinorVersion, told.dwBuildNumber);
    RegGetValueA(HKEY_LOCAL_MACHINE, "Software\\Microsoft\\Windows NT\\CurrentVersion", "CurrentBuild",
                 RRF_RT_REG_SZ, NULL, text, &size);
    mark(text);
    IsWow64Process(GetCurrentProcess(), &inside);
    say("wow-%u", inside, 0, 0);
    say("folders-%u", GetFileAttributesA("C:\\Windows\\SysWOW64") != INVALID_FILE_ATTRIBUTES, 0, 0);
    size = sizeof text;
    GetUserNameA(text, &size);
    mark(text);
    size = sizeof text;
    GetComputerNameA(text, &size);
    mark(text);
    SHGetFolderPathA(NULL, CSIDL_APPDATA, NULL, 0, text);
    mark(is("APPDATA", text) && GetFileAttributesA(text) != INVALID_FILE_ATTRIBUTES ? "appdata" : "nowhere");
    mark(text + lstrlenA(text) - lstrlenA("anna\\AppData\\Roaming") == strstr(text, "anna") ? "hers" : "his");
    GetModuleFileNameA(NULL, text, sizeof text);
    mark(strstr(text, "\\anna\\Desktop\\") && strstr(GetCommandLineA(), text) ? "desk" : "elsewhere");
    say("minutes-%u", GetTickCount() / 60000, 0, 0);
    AllocateAndInitializeSid(&nt, 2, 32, 544, 0, 0, 0, 0, 0, 0, &group);
    CheckTokenMembership(NULL, group, &member);
    FreeSid(group);
    say("admin-%u-%u", admin(), member, 0);
    __cpuid(1, a, b, c, d);
    __cpuid(0x40000000, a, *(unsigned *)vendor, *(unsigned *)(vendor + 4), *(unsigned *)(vendor + 8));
    say("hypervisor-%u", c >> 31, 0, 0);
    mark(vendor);
    GetSystemInfo(&system);
    GlobalMemoryStatusEx(&memory);
    say("size-%u-%u", system.dwNumberOfProcessors, memory.ullTotalPhys >> 20, 0);
    return 0;
}
"""
GUEST = (
    "windows=11, user=anna, computer=ANNA-PC, uptime=600, hypervisor=vmware, elevated=no, processors=3, "
    "memory=3072"
)


@pytest.mark.parametrize(("bits", "system"), [(32, 32), (32, 64), (64, 64)])
def test_what_a_program_sees(bits: int, system: int, tmp_path: Path) -> None:
    """Version, user, folders, uptime, rights, processor and memory are those of the profile."""
    program = build(tmp_path, SEEN, bits, "-ladvapi32", "-lshell32")
    (bench := tmp_path / "bench").mkdir()
    run = Bench(bench, guest=f"{GUEST}, bits={system}").detonate(program)
    assert run.outcome.reason is None
    assert marks(run) == [
        *("rtl-10.0.22631", "ex-10.0.22631", "22631"),
        f"wow-{int(bits < system)}",
        f"folders-{int(system == 64)}",
        *("anna", "ANNA-PC", "appdata", "hers", "desk", "minutes-10", "admin-0-0"),
        *("hypervisor-1", "VMwareVMware", "size-3-3072"),
    ]


@pytest.mark.parametrize("bits", [32, 64])
def test_questions_to_the_processor_and_sleeps(bits: int, tmp_path: Path) -> None:
    """Both are in the log if asked for, the sleep before it is over, and loops do not fill it."""
    source = r"""
    #include <cpuid.h>
    int main(void)
    {
        unsigned a, b, c, d;
        for (int number = 0; number < 1000; number++) __cpuid(1, a, b, c, d);
        __cpuid_count(7, 1, a, b, c, d);
        for (int number = 0; number < 1000; number++) Sleep(1);
        Sleep(INFINITE - 1);
    }
    """
    program = build(tmp_path, source, bits)
    (bench := tmp_path / "bench").mkdir()
    plugins = ("cpuidmon", "delaymon")
    run = Bench(bench).detonate(program, plugins=plugins)
    asked = [(line["Leaf"], line["Subleaf"]) for line in run.lines("cpuidmon", "cpuid")]
    assert asked[-1] == ("0x7", "0x1")
    assert {leaf for leaf, _ in asked[:-1]} == {"0x1"}
    assert 100 < len(asked) < 110
    slept = [line["DelayIntervalMs"] for line in run.lines("delaymon", "NtDelayExecution")]
    assert slept[-1] == 0xFFFFFFFE
    assert 100 < len(slept) < 110
    assert run.lines("delaymon")[-2]["Repeated"] == 512
    with_default = Bench(bench).detonate(program)
    assert not with_default.lines("cpuidmon")
    assert not with_default.lines("delaymon")


def _look(program: Path, directory: Path, guest: str, seconds: int) -> Report:
    directory.mkdir()
    run = Bench(directory, guest=guest).detonate(program, timeout=seconds)
    return reported(run.job.raw, run.outcome)


@pytest.mark.parametrize("program", evaders.EVADERS, ids=lambda one: one.name)
def test_an_evader(program: evaders.Program, tmp_path: Path) -> None:
    """It hides its work from one profile, and shows it where nothing else but the one value is another."""
    built = evaders.build(program, tmp_path)
    hidden = _look(built, tmp_path / "first", evaders.PROFILES[program.hides_from], program.watched)
    open_ = _look(built, tmp_path / "second", program.cure, seconds=60)
    assert not hidden.files
    assert not hidden.registry
    assert not hidden.network.names
    new = {change.kind for change in difference(hidden, open_).changes if change.what == "new"}
    assert {"files", "registry", "hosts"} <= new
    assert evaders.shown(hidden) < evaders.shown(open_)


@pytest.mark.parametrize("program", evaders.OTHERS, ids=lambda one: one.name)
def test_one_that_does_not_evade(program: evaders.Program, tmp_path: Path) -> None:
    """It shows the same in both profiles, be it much or nothing."""
    built = evaders.build(program, tmp_path)
    first, second = (
        _look(built, tmp_path / name, guest, program.watched) for name, guest in evaders.PROFILES.items()
    )
    assert difference(first, second).changes == ()
    assert evaders.shown(first) == evaders.shown(second)


def test_a_sleep_that_takes_its_time(tmp_path: Path) -> None:
    """Where a sleep waits, the clock goes on once by it, and the timeout ends a run that sleeps longer."""
    source = r"""
    int main(void)
    {
        ULONGLONG before = GetTickCount64();
        Sleep(400);
        ULONGLONG slept = GetTickCount64() - before;
        mark(slept >= 400 && slept < 60000 ? "slept" : "not");
        Sleep(INFINITE - 1);
        mark("never");
        return 0;
    }
    """
    program = build(tmp_path, source, 64)
    (bench := tmp_path / "bench").mkdir()
    run = Bench(bench, guest="sleep=waits").detonate(program, timeout=5)
    assert run.outcome.reason == "stopped at the timeout of 5 s"
    assert marks(run) == ["slept"]
    assert run.outcome.complete


@pytest.mark.parametrize("bits", [32, 64])
def test_since_when_windows_runs(bits: int, tmp_path: Path) -> None:
    """The kernel says the same as the tick count; its other answers are Speakeasy's."""
    source = r"""
    int main(void)
    {
        LONG (WINAPI *query)(ULONG, void *, ULONG, ULONG *) =
            (void *)GetProcAddress(GetModuleHandleA("ntdll.dll"), "NtQuerySystemInformation");
        LONGLONG times[6] = {0};
        UCHAR debugger[2] = {7, 7};
        ULONG size = 0;
        if (query(3, times, 4, &size) == (LONG)0xC0000004 && size == sizeof times) mark("size");
        if (query(3, times, sizeof times, &size) == 0) mark("told");
        LONGLONG apart = (times[1] - times[0]) / 10000 - (LONGLONG)GetTickCount64();
        if (apart > -60000 && apart <= 0) mark("as-the-ticks");
        FILETIME now;
        GetSystemTimeAsFileTime(&now);
        if ((LONG)(times[1] >> 32) - (LONG)now.dwHighDateTime <= 0) mark("now");
        query(35, debugger, sizeof debugger, &size);
        if (debugger[0] == 0 && debugger[1] == 1) mark("no-debugger");
        return 0;
    }
    """
    program = build(tmp_path, source, bits)
    (bench := tmp_path / "bench").mkdir()
    run = Bench(bench, guest="uptime=900000").detonate(program)
    assert marks(run) == ["size", "told", "as-the-ticks", "now", "no-debugger"]
