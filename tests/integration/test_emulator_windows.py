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


@BITS
def test_windows_are_found_one_after_the_other(tmp_path: Path, bits: int) -> None:
    """Each call goes on behind the window of the one before; what is beside, in and around one is known."""
    source = r"""
    static int seen;
    static BOOL CALLBACK count(HWND window, LPARAM unused) { seen++; return TRUE; }
    int main(void)
    {
        WNDCLASSA kind = {0};
        kind.lpfnWndProc = DefWindowProcA;
        kind.lpszClassName = "outer";
        ATOM atom = RegisterClassA(&kind);
        HWND outer = CreateWindowA("outer", "", 0, 0, 0, 9, 9, NULL, NULL, NULL, NULL), one = NULL;
        HWND inner = CreateWindowA(MAKEINTATOM(atom), "", WS_CHILD, 0, 0, 9, 9, outer, NULL, NULL, NULL);
        for (int number = 0; number < 3; number++)
            CreateWindowA("EDIT", "", WS_CHILD, 0, 0, 9, 9, number ? outer : inner, NULL, NULL, NULL);
        int found = 0;
        while ((one = FindWindowExA(outer, one, "edit", NULL)) && found < 99)
            found++;
        mark(found == 2 ? "two" : "wrong");
        mark(FindWindowExA(outer, NULL, MAKEINTATOM(atom), NULL) == inner ? "atom" : "wrong");
        mark(!FindWindowExA(outer, outer, NULL, NULL) && GetLastError() == ERROR_INVALID_WINDOW_HANDLE
             ? "no-child" : "wrong");
        EnumChildWindows(outer, count, 0);
        mark(seen == 4 ? "all-below" : "wrong");
        one = GetWindow(outer, GW_CHILD);
        HWND last = GetWindow(one, GW_HWNDLAST);
        mark(one == inner && one == GetTopWindow(outer) && !GetWindow(last, GW_HWNDNEXT)
             && GetWindow(GetWindow(one, GW_HWNDNEXT), GW_HWNDNEXT) == last
             && GetWindow(GetWindow(last, GW_HWNDPREV), GW_HWNDFIRST) == one
             ? "beside" : "wrong");
        HWND owned = CreateWindowA("outer", "", 0, 0, 0, 9, 9, outer, NULL, NULL, NULL);
        mark(GetWindow(owned, GW_OWNER) == outer && !GetWindow(inner, GW_OWNER) ? "owner" : "wrong");
        last = GetWindow(inner, GW_CHILD);
        mark(GetAncestor(last, GA_PARENT) == inner && GetAncestor(last, GA_ROOT) == outer
             && GetAncestor(owned, GA_ROOT) == owned && GetAncestor(owned, GA_ROOTOWNER) == outer
             ? "around" : "wrong");
        return 0;
    }
    """
    seen = ["two", "atom", "no-child", "all-below", "beside", "owner", "around"]
    assert said(tmp_path, source, bits, "-luser32") == seen


@BITS
@pytest.mark.parametrize("what", ["rename", "remove", "send", "start"])
def test_a_program_that_does_something_is_not_closed(tmp_path: Path, bits: int, what: str) -> None:
    """Whoever changes something with each tick of its timer is left alone until it ends itself."""
    source = r"""
    #include <winsock2.h>
    static int ticks, sock;
    static struct sockaddr_in peer = {AF_INET, 0x3500};
    static void act(void)
    {
        STARTUPINFOA start = {sizeof start};
        PROCESS_INFORMATION made;
        if (WHAT == 'n') MoveFileA(ticks & 1 ? "C:\\ProgramData\\b" : "C:\\ProgramData\\a",
                                   ticks & 1 ? "C:\\ProgramData\\a" : "C:\\ProgramData\\b");
        if (WHAT == 'm') (ticks & 1 ? RemoveDirectoryA("C:\\ProgramData\\d")
                                          : CreateDirectoryA("C:\\ProgramData\\d", NULL));
        if (WHAT == 'd') sendto(sock, "tick", 4, 0, (struct sockaddr *)&peer, sizeof peer);
        if (WHAT == 'a' && ticks % 200 == 9)
            CreateProcessA(NULL, "cmd.exe /c ver", 0, 0, 0, 0, 0, 0, &start, &made);
    }
    static LRESULT CALLBACK procedure(HWND window, UINT message, WPARAM word, LPARAM parameter)
    {
        if (message == WM_TIMER) {
            act();
            if (++ticks == 600) { mark("by-itself"); PostQuitMessage(0); }
        }
        if (message == WM_CLOSE) mark("closed");
        return DefWindowProcA(window, message, word, parameter);
    }
    int main(void)
    {
        WSADATA data;
        MSG message;
        WNDCLASSA kind = {0};
        WSAStartup(0x202, &data);
        peer.sin_addr.s_addr = 0x08080808;
        sock = socket(AF_INET, SOCK_DGRAM, 0);
        CloseHandle(CreateFileA("C:\\ProgramData\\a", GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, 0, NULL));
        kind.lpfnWndProc = procedure;
        kind.lpszClassName = "ticking";
        RegisterClassA(&kind);
        SetTimer(CreateWindowA("ticking", "", 0, 0, 0, 9, 9, NULL, NULL, NULL, NULL), 1, 1000, NULL);
        while (GetMessageA(&message, NULL, 0, 0) > 0)
            DispatchMessageA(&message);
        return 0;
    }
    """.replace("WHAT", f"'{what[2]}'")
    assert said(tmp_path, source, bits, "-luser32", "-lws2_32") == ["by-itself"]


@BITS
def test_a_window_needs_its_class(tmp_path: Path, bits: int) -> None:
    """Without one of the program's or of Windows' there is no window; one that was unregistered is gone."""
    source = r"""
    #define MAKE(name) CreateWindowA(name, "", 0, 0, 0, 9, 9, NULL, NULL, NULL, NULL)
    int main(void)
    {
        WNDCLASSA kind = {0};
        kind.lpfnWndProc = DefWindowProcA;
        kind.lpszClassName = "mine";
        mark(!MAKE("mine") && GetLastError() == ERROR_CANNOT_FIND_WND_CLASS ? "none" : "made");
        ATOM atom = RegisterClassA(&kind);
        mark(MAKE("MINE") && MAKE(MAKEINTATOM(atom)) ? "mine" : "wrong");
        mark(MAKE("STATIC") && MAKE("SysListView32") && MAKE("#32770") && MAKE(MAKEINTATOM(0x8002))
             ? "of-windows" : "wrong");
        HWND left = MAKE("mine");
        DestroyWindow(left);
        UnregisterClassA("mine", NULL);
        mark(!MAKE("mine") && !MAKE(MAKEINTATOM(atom)) ? "gone" : "wrong");
        return 0;
    }
    """
    assert said(tmp_path, source, bits, "-luser32") == ["none", "mine", "of-windows", "gone"]


@BITS
def test_buttons_of_a_window_are_pressed(tmp_path: Path, bits: int) -> None:
    """That for who agrees first, after the boxes that it needs; the others too, not that which cancels."""
    source = r"""
    static HWND window, box, start, more;
    static int done;
    static HWND add(const char *title, DWORD style, INT_PTR number, HWND around)
    {
        return CreateWindowA("BUTTON", title, style | WS_CHILD | WS_VISIBLE, 0, 0, 9, 9, around,
                             (HMENU)number, NULL, NULL);
    }
    static LRESULT CALLBACK procedure(HWND around, UINT message, WPARAM word, LPARAM parameter)
    {
        if (message == WM_COMMAND && HIWORD(word) == BN_CLICKED)
            switch (LOWORD(word)) {
            case 10:
                mark(SendMessageA((HWND)parameter, BM_GETCHECK, 0, 0) ? "ticked" : "wrong");
                EnableWindow(start, TRUE);
                break;
            case 11:
                if ((HWND)parameter != start) { mark("wrong"); break; }
                mark("started");
                ShowWindow(start, SW_HIDE), EnableWindow(start, FALSE);
                break;
            case 12: mark("more"); if (++done == 2) DestroyWindow(more); break;
            case 13: break;
            case IDCANCEL: mark("cancelled"); break;
            }
        if (message == WM_CLOSE) mark("closed");
        if (message == WM_DESTROY && around == window) PostQuitMessage(0);
        return DefWindowProcA(around, message, word, parameter);
    }
    int main(void)
    {
        MSG message;
        WNDCLASSA kind = {0};
        kind.lpfnWndProc = procedure;
        kind.lpszClassName = "buttons";
        RegisterClassA(&kind);
        window = CreateWindowA("buttons", "", WS_OVERLAPPEDWINDOW, 0, 0, 9, 9, NULL, NULL, NULL, NULL);
        add("Cancel", 0, IDCANCEL, window);
        add("Nothing", 0, 13, window);
        more = add("More", 0, 12, window);
        box = add("I agree", BS_AUTOCHECKBOX, 10, window);
        start = add("Start", BS_DEFPUSHBUTTON | WS_DISABLED, 11, window);
        HWND hidden = CreateWindowA("buttons", "", 0, 0, 0, 9, 9, NULL, NULL, NULL, NULL);
        add("Never", 0, 14, hidden);
        SendMessageA(more, BM_CLICK, 0, 0);
        ShowWindow(window, SW_SHOW);
        while (GetMessageA(&message, NULL, 0, 0) > 0)
            DispatchMessageA(&message);
        return 0;
    }
    """
    assert said(tmp_path, source, bits, "-luser32") == ["more", "ticked", "started", "more", "closed"]


@BITS
def test_a_dialogue_among_the_windows(tmp_path: Path, bits: int) -> None:
    """A dialogue that does not stop its program is answered in its loop of messages, also beside a timer."""
    source = r"""
    static WORD template[] = {0, 0x1000, 0, 0, 1, 0, 0, 99, 99, 0, 0, 0, /* then the button */
                              0, 0x5000, 0, 0, 1, 1, 9, 9, 77, 0xFFFF, 0x80, 'G', 'o', 0, 0};
    static INT_PTR CALLBACK answer(HWND dialog, UINT message, WPARAM word, LPARAM parameter)
    {
        if (message == WM_COMMAND && word == 77) mark("pressed"), DestroyWindow(dialog), PostQuitMessage(0);
        return message == WM_INITDIALOG;
    }
    int main(int count, char **arguments)
    {
        MSG message;
        HWND dialog = CreateDialogIndirectParamA(NULL, (DLGTEMPLATE *)template, NULL, answer, 0);
        ShowWindow(dialog, SW_SHOW);
        if (count > 1) SetTimer(dialog, 1, 1000, NULL);
        while (GetMessageA(&message, NULL, 0, 0) > 0)
            if (!IsDialogMessageA(dialog, &message)) DispatchMessageA(&message);
        mark("over");
        return 0;
    }
    """
    program = build(tmp_path, source, bits, "-luser32")
    for command in ("%f", "%f timer"):
        run = Bench(tmp_path).detonate(program, command)
        assert run.outcome.reason is None
        assert marks(run) == ["pressed", "over"]


@BITS
def test_a_loop_sees_what_a_button_has_changed(tmp_path: Path, bits: int) -> None:
    """Before another one is pressed it gets a message, as set-ups need that have a loop for each page."""
    source = r"""
    static int page;
    static LRESULT CALLBACK act(HWND window, UINT message, WPARAM word, LPARAM value)
    {
        if (message == WM_COMMAND)
            mark(page++ ? "second" : "first");
        return DefWindowProcA(window, message, word, value);
    }
    int main(void)
    {
        MSG message;
        WNDCLASSA kind = {0, act, 0, 0, NULL, NULL, NULL, NULL, NULL, "pages"};
        RegisterClassA(&kind);
        HWND window = CreateWindowA("pages", "", WS_VISIBLE, 0, 0, 9, 9, NULL, NULL, NULL, NULL);
        CreateWindowA("BUTTON", "Next", WS_CHILD | WS_VISIBLE, 0, 0, 9, 9, window, (HMENU)5, NULL, NULL);
        for (int wanted = 1; wanted <= 2; wanted++) {
            while (page < wanted && GetMessageA(&message, NULL, 0, 0) > 0)
                DispatchMessageA(&message);
            mark(page == wanted ? "seen" : "missed");
        }
        return 0;
    }
    """
    assert said(tmp_path, source, bits, "-luser32") == ["first", "seen", "second", "seen"]
