"""Dialogues: somebody who wants to get on presses their buttons."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guest_programs import said

BITS = pytest.mark.parametrize("bits", [32, 64])

TEMPLATE = r"""
#include <string.h>
static BYTE *at;
static void word(WORD value) { memcpy(at, &value, 2); at += 2; }
static void text(const WCHAR *what) { do word(*what); while (*what++); }
static void align(BYTE *start) { while ((at - start) & 3) *at++ = 0; }
static void control(BYTE *start, DWORD style, WORD number, WORD kind, const WCHAR *title)
{
    align(start);
    DLGITEMTEMPLATE item = {style | WS_CHILD | WS_VISIBLE, 0, 1, 1, 9, 9, number};
    memcpy(at, &item, 18), at += 18;
    word(0xFFFF), word(kind), text(title), word(0);
}
static DLGTEMPLATE *described(BYTE *start, WORD controls)
{
    DLGTEMPLATE head = {WS_POPUP | WS_VISIBLE, 0, controls, 0, 0, 99, 99};
    at = start;
    memcpy(at, &head, 18), at += 18;
    word(0), word(0), text(L"A dialogue");
    return (DLGTEMPLATE *)start;
}
static INT_PTR CALLBACK answer(HWND dialog, UINT message, WPARAM word, LPARAM parameter)
{
    if (message == WM_COMMAND) EndDialog(dialog, LOWORD(word));
    return message == WM_INITDIALOG;
}
"""


@BITS
def test_a_template_that_is_longer_than_a_page(tmp_path: Path, bits: int) -> None:
    """A template in memory is read to its end, wherever that lies: its last button is the default one."""
    source = (
        TEMPLATE
        + r"""
    int main(void)
    {
        BYTE *start = VirtualAlloc(NULL, 0x4000, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE);
        WCHAR longer[1500];
        for (int number = 0; number < 1499; number++) longer[number] = 'x';
        longer[1499] = 0;
        DLGTEMPLATE *found = described(start + 0xF00, 3);
        control(start + 0xF00, 0, 7, 0x80, L"Back");
        control(start + 0xF00, 0, 8, 0x82, longer);
        control(start + 0xF00, BS_DEFPUSHBUTTON, 1234, 0x80, L"Next");
        mark(DialogBoxIndirectParamA(NULL, found, NULL, answer, 0) == 1234 ? "next" : "wrong");
        return 0;
    }
    """
    )
    assert said(tmp_path, source, bits, "-luser32") == ["next"]


@BITS
def test_threads_that_are_suspended_do_nothing(tmp_path: Path, bits: int) -> None:
    """A dialogue is answered while one is suspended; work of a pool is waited for while it sleeps."""
    source = (
        TEMPLATE
        + r"""
    static volatile int ran;
    static DWORD WINAPI never(void *unused) { mark("ran"); return 0; }
    static DWORD WINAPI turns(void *unused) { for (;;) { ran++; GetTickCount(); } }
    static VOID CALLBACK work(PTP_CALLBACK_INSTANCE one, PVOID two, PTP_WORK three)
    {
        Sleep(500);
        mark("work");
    }
    int main(void)
    {
        static BYTE start[0x400];
        PTP_WORK made;
        DLGTEMPLATE *found = described(start, 1);
        control(start, BS_DEFPUSHBUTTON, IDOK, 0x80, L"OK");
        CreateThread(NULL, 0, never, NULL, CREATE_SUSPENDED, NULL);
        HANDLE thread = CreateThread(NULL, 0, turns, NULL, 0, NULL);
        while (!ran) Sleep(1);
        SuspendThread(thread);
        mark(DialogBoxIndirectParamA(NULL, found, NULL, answer, 0) == IDOK ? "answered" : "wrong");
        made = CreateThreadpoolWork(work, NULL, NULL);
        SubmitThreadpoolWork(made);
        WaitForThreadpoolWorkCallbacks(made, FALSE);
        mark("waited");
        ExitProcess(0);
    }
    """
    )
    assert said(tmp_path, source, bits, "-luser32") == ["answered", "work", "waited"]
