"""Programs with windows: their functions are called, messages and timers come, and the user closes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulating import Bench
from tests.guest_programs import build, marks, said

BITS = pytest.mark.parametrize("bits", [32, 64])

WINDOW = r"""
static LRESULT CALLBACK procedure(HWND window, UINT message, WPARAM word, LPARAM parameter)
{
    switch (message) {
    case WM_CREATE:
        mark(((CREATESTRUCTA *)parameter)->lpCreateParams == (void *)42 ? "created" : "wrong");
        break;
    case WM_TIMER:
        ticks++;
        if (ticks == 3)
            DestroyWindow(window);
        break;
    case WM_USER + 1:
        mark("posted");
        return 7;
    case WM_CLOSE:
        mark("closed");
        break;
    case WM_DESTROY:
        mark("destroyed");
        PostQuitMessage(5);
        break;
    }
    return DefWindowProcA(window, message, word, parameter);
}
static HWND make(void)
{
    WNDCLASSA kind = {0};
    kind.lpfnWndProc = procedure;
    kind.hInstance = GetModuleHandleA(NULL);
    kind.lpszClassName = "drakcelery";
    RegisterClassA(&kind);
    return CreateWindowA("drakcelery", "A title", WS_OVERLAPPEDWINDOW, CW_USEDEFAULT, 0, 9, 9, NULL, NULL,
                         kind.hInstance, (void *)42);
}
static MSG message;
static void loop(void)
{
    while (GetMessageA(&message, NULL, 0, 0) > 0) {
        TranslateMessage(&message);
        DispatchMessageA(&message);
    }
    mark(message.wParam == 5 ? "quit" : "wrong");
}
"""


@BITS
def test_a_window_and_its_messages(tmp_path: Path, bits: int) -> None:
    """Made, shown, found by its title, sent and posted to; its timers end it."""
    source = (
        "static int ticks;\n"
        + WINDOW
        + r"""
    #include <string.h>
    static BOOL CALLBACK see(HWND window, LPARAM wanted)
    {
        if (window == (HWND)wanted)
            mark("listed");
        return TRUE;
    }
    int main(void)
    {
        char text[32];
        HWND window = make();
        ShowWindow(window, SW_SHOW);
        mark(FindWindowA("DRAKCELERY", NULL) == window && FindWindowA(NULL, "A title") == window
             && !FindWindowA("OLLYDBG", NULL) ? "found" : "wrong");
        mark(GetWindowTextA(window, text, 32) == 7 && !strcmp(text, "A title") ? "title" : "wrong");
        SetWindowTextA(window, "other");
        mark(GetWindowTextLengthA(window) == 5 ? "renamed" : "wrong");
        mark(SendMessageA(window, WM_USER + 1, 0, 0) == 7 ? "sent" : "wrong");
        EnumWindows(see, (LPARAM)window);
        SetWindowLongPtrA(window, GWLP_USERDATA, 9);
        mark(GetWindowLongPtrA(window, GWLP_USERDATA) == 9 ? "kept" : "wrong");
        PostMessageA(window, WM_USER + 1, 0, 0);
        SetTimer(window, 1, 60000, NULL);
        loop();
        mark(ticks == 3 && !IsWindow(window) ? "over" : "wrong");
        return 0;
    }
    """
    )
    assert said(tmp_path, source, bits, "-luser32") == [
        *("created", "found", "title", "renamed", "posted", "sent", "listed", "kept"),
        *("posted", "destroyed", "quit", "over"),
    ]


@BITS
def test_the_user_closes_what_waits(tmp_path: Path, bits: int) -> None:
    """A program that waits for its user is closed at last; so is one whose timer never ends."""
    source = (
        "static int ticks = 10;\n"
        + WINDOW
        + r"""
    int main(int count, char **arguments)
    {
        HWND window = make();
        if (count > 1)
            SetTimer(window, 1, 100, NULL);
        loop();
        return 0;
    }
    """
    )
    program = build(tmp_path, source, bits, "-luser32")
    for command in ("%f", "%f timer"):
        run = Bench(tmp_path).detonate(program, command)
        assert run.outcome.reason is None
        assert marks(run) == ["created", "closed", "destroyed", "quit"]


@BITS
def test_windows_own_kinds(tmp_path: Path, bits: int) -> None:
    """They can be asked about, made and subclassed; a wait for messages ends with one, or with a timer."""
    source = r"""
    #include <string.h>
    static WNDPROC before;
    static LRESULT CALLBACK subclass(HWND window, UINT message, WPARAM word, LPARAM parameter)
    {
        if (message == WM_SETTEXT)
            mark("asked");
        return CallWindowProcA(before, window, message, word, parameter);
    }
    int main(void)
    {
        MSG message;
        WNDCLASSA kind;
        char text[16];
        mark(GetClassInfoA(NULL, "EDIT", &kind) && kind.lpfnWndProc ? "known" : "wrong");
        mark(!GetClassInfoA(NULL, "none", &kind) && GetLastError() == ERROR_CLASS_DOES_NOT_EXIST
             ? "unknown" : "wrong");
        HWND edit = CreateWindowA("EDIT", "first", 0, 0, 0, 9, 9, NULL, NULL, NULL, NULL);
        before = (WNDPROC)SetWindowLongPtrA(edit, GWLP_WNDPROC, (LONG_PTR)subclass);
        mark(before ? "before" : "wrong");
        SetWindowTextA(edit, "second");
        GetWindowTextA(edit, text, 16);
        mark(!strcmp(text, "second") && GetClassNameA(edit, text, 16) == 4 ? "changed" : "wrong");
        HANDLE event = CreateEventA(NULL, TRUE, FALSE, NULL);
        mark(MsgWaitForMultipleObjects(1, &event, FALSE, 10, QS_ALLINPUT) == WAIT_TIMEOUT ? "late" : "wrong");
        PostMessageA(edit, WM_USER, 0, 0);
        mark(MsgWaitForMultipleObjects(1, &event, FALSE, INFINITE, QS_ALLINPUT) == WAIT_OBJECT_0 + 1
             && PeekMessageA(&message, NULL, 0, 0, PM_REMOVE) && message.message == WM_USER
             ? "message" : "wrong");
        SetTimer(edit, 7, 50, NULL);
        mark(MsgWaitForMultipleObjectsEx(1, &event, INFINITE, QS_ALLINPUT, 0) == WAIT_OBJECT_0 + 1
             && PeekMessageA(&message, NULL, 0, 0, PM_REMOVE) && message.wParam == 7 ? "timer" : "wrong");
        KillTimer(edit, 7);
        SetEvent(event);
        mark(MsgWaitForMultipleObjects(1, &event, FALSE, INFINITE, QS_ALLINPUT) == WAIT_OBJECT_0
             ? "event" : "wrong");
        return 0;
    }
    """
    assert said(tmp_path, source, bits, "-luser32") == [
        *("known", "unknown", "before", "asked", "changed", "late", "message", "timer", "event")
    ]


@BITS
def test_what_the_user_has(tmp_path: Path, bits: int) -> None:
    """Boxes are answered and their text is logged; the clipboard keeps; a picture of the screen is taken."""
    source = r"""
    #include <string.h>
    int main(void)
    {
        int button = MessageBoxA(NULL, "Your files are encrypted", "drakcelery", MB_ICONERROR);
        mark(button == IDOK ? "ok" : "wrong");
        mark(MessageBoxW(NULL, L"Really?", L"drakcelery", MB_YESNO) == IDYES ? "yes" : "wrong");
        HGLOBAL memory = GlobalAlloc(GMEM_MOVEABLE, 16);
        strcpy(GlobalLock(memory), "bc1qdrakcelery");
        GlobalUnlock(memory);
        mark(OpenClipboard(NULL) && EmptyClipboard() && SetClipboardData(CF_TEXT, memory) ? "put" : "wrong");
        mark(IsClipboardFormatAvailable(CF_TEXT)
             && !strcmp(GlobalLock(GetClipboardData(CF_TEXT)), "bc1qdrakcelery") ? "kept" : "wrong");
        CloseClipboard();
        HDC screen = GetDC(NULL), copy = CreateCompatibleDC(screen);
        int width = GetSystemMetrics(SM_CXSCREEN), height = GetSystemMetrics(SM_CYSCREEN);
        HBITMAP bitmap = CreateCompatibleBitmap(screen, width, height);
        SelectObject(copy, bitmap);
        mark(BitBlt(copy, 0, 0, width, height, screen, 0, 0, SRCCOPY) ? "copied" : "wrong");
        BITMAPINFO info = {{sizeof(BITMAPINFOHEADER), width, height, 1, 24}};
        mark(GetDIBits(copy, bitmap, 0, height, NULL, &info, 0) == height ? "taken" : "wrong");
        return 0;
    }
    """
    run = Bench(tmp_path).detonate(build(tmp_path, source, bits, "-luser32", "-lgdi32"))
    assert run.outcome.reason is None
    assert marks(run) == ["ok", "yes", "put", "kept", "copied", "taken"]
    (box,) = run.lines("apimon", "MessageBoxA")
    assert "Your files are encrypted" in box["Arguments"][1]
