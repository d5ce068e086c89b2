"""Logging: every line has a stable ``action`` and says which analysis, attempt, stage, host and slot.

The action of our own lines is the event's name, in snake_case; docs/logs.md lists all of them. A library's
line has the action :data:`LIBRARY`, the name of its logger, and its text in a field of its own. Values may
come from a sample: they are cut, and terminal escape sequences are escaped
(:mod:`drakcelery.telemetry.log_values`).

Lines about an analysis also go to its workspace, as JSON lines with the keys that ``drakrun.log`` had in
v0.18 (``levelname``, ``message``, ``created``) and ours beside them; they are uploaded with the artifacts.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

import orjson
import structlog
from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from drakcelery import safe_files
from drakcelery.model.analysis import Stage
from drakcelery.telemetry.log_values import FILE_CHARACTERS, exception_text, tamed

if TYPE_CHECKING:
    from drakcelery.settings import Settings

LIBRARY = "library"
"""The action of a line that a library logged, such as Celery, kombu, Karton or urllib3."""
TASK_ID = re.compile(rf"(?P<uid>[^/]+)/(?P<attempt>\d+)/(?P<stage>{'|'.join(Stage)})")
"""A Celery task id, as :func:`drakcelery.broker.routing.task_id` writes it."""
FIRST = ("timestamp", "level", "action", "host", "uid", "attempt", "stage", "slot")
"""How a JSON line begins; people read them too."""
PROCESSES = "multiprocessing"
"""billiard's logger, which reports pool processes that died; it does not propagate (billiard.util)."""
CHATTY = (
    *("botocore", "boto3", "urllib3", "kombu", "amqp", PROCESSES),
    # Celery's lines on every task that came and went: ours say the same, and more
    *("celery.app.trace", "celery.worker.strategy"),
)
FRAMES = 20
"""Frames of each exception in a JSON line; the outermost and the innermost are kept."""

log = structlog.get_logger(__name__)

_analysis_log: ContextVar[Path | None] = ContextVar("analysis_log", default=None)
_as_text = ExceptionRenderer(exception_text)


def _to_analysis_log(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    path = _analysis_log.get()
    if path is None:
        return event
    line = {"levelname": method.upper(), "message": event["action"], "created": time.time()}
    line |= _as_text(logger, method, tamed(event, FILE_CHARACTERS))
    try:
        # The workspace comes and goes within a block, and lines are few: the file is opened for each
        safe_files.append(path, orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE))
    except FileNotFoundError:
        return event
    except OSError as error:  # a full disk: the line itself is not lost, and the stage goes on
        event["analysis_log"] = f"cannot be written: {error.strerror}"
    return event


@contextlib.contextmanager
def analysis_log(path: Path, **context: object) -> Iterator[None]:
    """Copy what is logged inside the block to *path*, each line with *context* (what is None is left out).

    While the workspace is not there, lines go to the process' own log only.
    """
    token = _analysis_log.set(path)
    try:
        with about(**context):
            yield
    finally:
        _analysis_log.reset(token)


@contextlib.contextmanager
def about(**context: object) -> Iterator[None]:
    """Every line inside the block, those of libraries too, has *context*; what is None is left out.

    A thread that is started inside does not take part by itself; see :func:`contextvars.copy_context`.
    """
    given = {key: value for key, value in context.items() if value is not None}
    with structlog.contextvars.bound_contextvars(**given):
        yield


def this_machine() -> str:
    """The host of a process that has no settings: what ``[drakcelery] host`` is by default."""
    return socket.gethostname().split(".")[0] or "localhost"


def start(settings: Settings) -> None:
    """Log as the settings of this process say, and what ends it too."""
    ours = settings.drakcelery
    configure(level=ours.log_level, style=ours.log_format, host=ours.host)
    report_crashes()


def configure(*, level: str, style: Literal["console", "json"], host: str | None = None) -> None:
    """Send structlog and the standard library's logging to standard error in one form.

    *host* is in every line that is not about another one.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Host(host or this_machine()),
    ]
    exceptions: Processor = ExceptionRenderer(_structured if style == "json" else _indented)
    last: list[Processor] = [_in_order, _as_json] if style == "json" else [_console()]
    handler = _send_all_to(
        _Formatter(
            foreign_pre_chain=[*shared, _from_library, _tame, exceptions],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        ),
        level,
    )
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.EventRenamer("action"),
            _to_analysis_log,
            _tame,
            exceptions,
            *last,
        ],
        logger_factory=_Ours(handler),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # A logger that was used before must not keep what was configured then; it costs 13 µs a line
        cache_logger_on_first_use=False,
    )


class _Line(logging.LogRecord):
    """A line of ours, written out. ``logging`` would also look up its place in the code, its process and its
    thread, of which nothing is shown."""

    def __init__(self, text: str) -> None:
        self.msg, self.args = text, ()


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Forms the lines of libraries; structlog has formed ours."""

    def format(self, record: logging.LogRecord) -> str:
        """The text of a line."""
        return record.msg if isinstance(record, _Line) else super().format(record)


class _Ours:
    """What structlog takes for every logger, and for what makes them: it hands our lines to *handler*."""

    def __init__(self, handler: logging.Handler) -> None:
        self._handler = handler

    def __call__(self, *_: object) -> _Ours:
        return self

    def _write(self, text: str) -> None:
        self._handler.handle(_Line(text))

    debug = info = warning = error = critical = _write


def _send_all_to(formatter: logging.Formatter, level: str) -> logging.Handler:
    """Let libraries log so; returns the handler."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    processes = logging.getLogger(PROCESSES)
    processes.handlers[:], processes.propagate = [handler], False
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return handler


def report_crashes() -> None:
    """Log errors that end this process or one of its threads, and Python's warnings, in the same form."""
    logging.captureWarnings(True)
    sys.excepthook = _process_crashed
    threading.excepthook = _thread_crashed


def _process_crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        log.critical("process_crashed", exc_info=(kind, error, trace))


def _thread_crashed(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
        name = args.thread.name if args.thread else None
        info = (args.exc_type, args.exc_value, args.exc_traceback)
        log.critical("thread_crashed", thread=name, exc_info=info)


class _Host:
    """Adds the host of this process if a line is about no other."""

    def __init__(self, host: str) -> None:
        self._host = host

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event.setdefault("host", self._host)
        return event


def _from_library(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Format a library's line: its text is not the action. Celery's lines about a stage get the stage."""
    record: logging.LogRecord = event["_record"]
    event.update(action=LIBRARY, logger=record.name, message=event.pop("event"))
    data = getattr(record, "data", None)  # what Celery gives to handlers (celery.app.trace, worker.strategy)
    task = TASK_ID.fullmatch(str(data.get("id"))) if isinstance(data, dict) else None
    if task is not None:
        event.setdefault("uid", task["uid"])
        event.setdefault("attempt", int(task["attempt"]))
        event.setdefault("stage", task["stage"])
    return event


def _tame(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return tamed(event)


def _structured(exc_info: ExcInfo) -> object:
    """Type, value and frames of an exception and of its causes; without locals, which hold secrets."""
    found = ExceptionDictTransformer(show_locals=False, max_frames=FRAMES)(exc_info)
    return tamed({"exceptions": found})["exceptions"]


def _indented(exc_info: ExcInfo) -> str:
    """For people. No line of it begins as a line of the log does, whatever the exception's text holds."""
    return textwrap.indent(exception_text(exc_info), "    ", lambda _: True)


def _in_order(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {**{key: event[key] for key in FIRST if key in event}, **event}


def _as_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    return orjson.dumps(event).decode()


def _console() -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), event_key="action", exception_formatter=structlog.dev.plain_traceback
    )
