"""The windows of a process, their messages and timers; and those that other programs have on the screen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from drakcelery.engines.speakeasy_guest.apis.dialog_templates import Control
from drakcelery.engines.speakeasy_guest.scheduling.scheduler import GuestThread

FIRST_WINDOW, FIRST_ATOM = 0x20010, 0xC100
MAX_WINDOWS, MAX_CLASSES, MAX_TIMERS, MAX_QUEUED = 4096, 4096, 1024, 10_000
CLOSE, QUIT, TIMER = 0x10, 0x12, 0x113
"""``WM_…``."""

DIALOG: Final = "#32770"
"""The class of dialogues."""

PARENT, IDENTITY = -8, -12
"""``GWL_…``."""

SHORTEST: Final = 10
"""Milliseconds that a timer takes at least (``USER_TIMER_MINIMUM``)."""

PATIENCE: Final = 500
"""Times that a program sees its timers, or finds no message, and does nothing that lasts, before its user
closes it."""


@dataclass(frozen=True)
class WindowClass:
    """What a program registered: a name, and the function of its windows."""

    name: str
    procedure: int
    atom: int
    structure: bytes = b""
    """As it was given: ``WNDCLASS``, from its function on."""


@dataclass(eq=False)
class Window:
    """A window: a program's own, a dialogue, or what is in one."""

    kind: str
    title: str = ""
    procedure: int = 0
    """Its function; 0 for Windows' own kinds, and another program's windows."""
    dialog: int = 0
    """Of a dialogue, the function that is told before Windows deals with a message."""
    parent: int = 0
    thread: GuestThread | None = None
    """None for another program's."""
    control: Control | None = None
    visible: bool = False
    enabled: bool = True
    checked: int = 0
    presses: int = 0
    """Of a button, how often it was pressed by somebody who wants to get on."""
    numbers: dict[int, int] = field(default_factory=dict)
    """By the index of ``SetWindowLong``."""
    handle: int = 0
    closed: bool = False
    """Whether the user has closed it."""
    ending: bool = False
    """Whether it is being destroyed."""
    over: bool = False
    """Of a dialogue, whether the program has ended it, with the result that follows."""
    result: int = 0

    @property
    def number(self) -> int:
        """By which its parent knows it."""
        return self.numbers.get(IDENTITY, 0)


@dataclass(frozen=True)
class Message:
    """Something for a window, or for a thread."""

    window: int
    number: int
    word: int = 0
    long: int = 0


@dataclass
class Repeating:
    """A timer."""

    window: int
    number: int
    period: int
    procedure: int
    thread: GuestThread
    due: float


OTHERS: Final = (
    (0x10010, "Progman", "Program Manager"),
    (0x10012, "Shell_TrayWnd", ""),
    (0x3057A, "CabinetWClass", "Documents"),
    (0x40412, "Chrome_WidgetWin_1", "New Tab - Google Chrome"),
)
"""What else is on the screen: handle, class and title; the last is in front."""


class Desktop:
    """All windows, classes, messages and timers of a process."""

    def __init__(self) -> None:
        self.classes: dict[str | int, WindowClass] = {}
        """By name and atom."""
        self.windows = {
            handle: Window(kind, title, handle=handle, visible=True) for handle, kind, title in OTHERS
        }
        self.timers: list[Repeating] = []
        self.quitting: dict[GuestThread, int] = {}
        self.clipboard: dict[int, int] = {}
        """What is in it: handles of memory by their formats."""
        self.formats: dict[str, int] = {}
        self.idle = 0
        self.presses = 0
        """Of buttons, in windows that are no dialogues."""
        self.changes = 0
        """What the program had changed when it was last seen to wait."""
        self._queues: dict[GuestThread, list[Message]] = {}
        self._made = 0
        self._atoms = 0

    def register(self, name: str, procedure: int, structure: bytes) -> int:
        """A class of windows; its atom, 0 if there are too many."""
        if len(self.classes) >= MAX_CLASSES:
            return 0
        self._atoms = (self._atoms + 1) % MAX_CLASSES
        atom = FIRST_ATOM + self._atoms
        known = WindowClass(name, procedure, atom, structure)
        self.classes[name.lower()] = self.classes[atom] = known
        return atom

    def unregister(self, known: WindowClass) -> None:
        """Forget a class."""
        self.classes = {key: one for key, one in self.classes.items() if one is not known}

    def add(self, window: Window) -> Window:
        """A new window gets its handle. Raises :class:`MemoryError` if there are too many."""
        if len(self.windows) >= MAX_WINDOWS:
            raise MemoryError(f"{MAX_WINDOWS} windows")
        window.handle = FIRST_WINDOW + 2 * self._made
        self._made += 1
        self.windows[window.handle] = window
        return window

    def had(self, handle: int) -> bool:
        """Whether a handle is, or was, that of a window of the process."""
        return FIRST_WINDOW <= handle < FIRST_WINDOW + 2 * self._made

    def get(self, handle: int) -> Window | None:
        """A window."""
        return self.windows.get(handle & 0xFFFFFFFF)

    def children(self, parent: int) -> list[Window]:
        """What is in a window."""
        return [one for one in self.windows.values() if one.parent == parent]

    def item(self, parent: int, number: int) -> Window | None:
        """What is in a window under a number; in a dialogue it is made where it is first asked for."""
        around = self.get(parent)
        if around is None:
            return None
        for one in self.children(around.handle):
            if one.number == number and not one.dialog:
                return one
        if around.kind != DIALOG:
            return None
        numbers = {IDENTITY: number, PARENT: around.handle}
        return self.add(Window("", parent=around.handle, thread=around.thread, numbers=numbers))

    def dialogs(self) -> list[Window]:
        """The dialogues that are there."""
        return [one for one in self.windows.values() if one.dialog and not one.over]

    def remove(self, window: Window) -> None:
        """A window is gone, with its timers."""
        self.windows.pop(window.handle, None)
        self.timers = [one for one in self.timers if one.window != window.handle]

    def post(self, thread: GuestThread, message: Message) -> bool:
        """Put a message in a thread's queue; False if that is full."""
        queue = self._queues.setdefault(thread, [])
        if len(queue) >= MAX_QUEUED:
            return False
        queue.append(message)
        return True

    def has_message(self, thread: GuestThread, window: int = 0) -> bool:
        """Whether a thread has something to do, for a window or for any (0)."""
        queue = self._queues.get(thread, [])
        return thread in self.quitting or any(window in (0, one.window) for one in queue)

    def next(self, thread: GuestThread, window: int, now: float, *, remove: bool) -> Message | None:
        """What a thread has to do next: what was posted, then to quit, then timers."""
        queue = self._queues.get(thread, [])
        for message in queue:
            if window in (0, message.window):
                if remove:
                    queue.remove(message)
                return message
        if thread in self.quitting:
            code = self.quitting.pop(thread) if remove else self.quitting[thread]
            return Message(0, QUIT, code)
        for timer in self.timers:
            if timer.thread is thread and timer.due <= now and window in (0, timer.window):
                if remove:
                    timer.due = now + max(timer.period, SHORTEST)
                return Message(timer.window, TIMER, timer.number, timer.procedure)
        return None

    def next_timer(self, thread: GuestThread, window: int = 0) -> float | None:
        """When the first of a thread's timers comes, of a window's or of any (0)."""
        mine = (one for one in self.timers if one.thread is thread and window in (0, one.window))
        return min((one.due for one in mine), default=None)

    def lose_patience(self, thread: GuestThread) -> None:
        """The user closes what the thread shows; then what it does not show, and the program at last."""
        self.idle = 0
        mine = [one for one in self.windows.values() if one.thread is thread and not one.parent]
        left = [one for one in mine if not one.closed]
        for window in [one for one in left if one.visible] or left:
            window.closed = True
            self.post(thread, Message(window.handle, CLOSE))
        if not left:
            self.quitting.setdefault(thread, 0)
