"""Logging: every line has a stable ``action`` and says which analysis, attempt, stage, host and slot.

Lines about an analysis also go to its workspace, as JSON lines with the keys that ``drakrun.log`` had in
v0.18 (``levelname``, ``message``, ``created``) and ours beside them; they are uploaded with the artifacts.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Literal

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_analysis_log: ContextVar[Path | None] = ContextVar("analysis_log", default=None)


def _to_analysis_log(_: WrappedLogger, method: str, event: EventDict) -> EventDict:
    path = _analysis_log.get()
    # The workspace comes and goes within a block, and lines are few: the file is opened for each
    if path is not None and path.parent.is_dir():
        line = {"levelname": method.upper(), "message": event.get("action"), "created": time.time(), **event}
        with path.open("ab") as file:
            file.write(orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE))
    return event


@contextlib.contextmanager
def analysis_log(path: Path, **context: object) -> Iterator[None]:
    """Copy what is logged inside the block to *path*, each line with *context*.

    While the workspace is not there, lines go to the process' own log only.
    """
    token = _analysis_log.set(path)
    try:
        with structlog.contextvars.bound_contextvars(**context):
            yield
    finally:
        _analysis_log.reset(token)


def configure(*, level: str, style: Literal["console", "json"]) -> None:
    """Send structlog and the standard library's logging to standard error in one form."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("action"),
            _to_analysis_log,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            event_key="action",
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.processors.EventRenamer("action")],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("botocore", "boto3", "urllib3", "kombu", "amqp"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
