"""The kinds of our handlers: a page, what a script of a page asks for, and what programs ask for.

Flower's :class:`flower.views.BaseHandler` and :class:`flower.api.BaseApiHandler` bring its authentication and
its read-only mode. Each kind answers errors in its own form, and here only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import tornado.web
from flower.api import BaseApiHandler
from flower.views import BaseHandler
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from drakcelery.errors import DrakceleryError
from drakcelery.flower import bare
from drakcelery.flower.analysis_page import AnalysisView
from drakcelery.flower.problems import SAID, problem
from drakcelery.flower.reading import Reader
from drakcelery.ledger.away import is_away, trouble
from drakcelery.model.analysis import Value

T = TypeVar("T")

POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Content Security Policy of our pages: scripts from files only, should a name ever get into the markup."""
FOR_OTHER_PAGES = tuple(f"Access-Control-Allow-{what}" for what in ("Origin", "Headers", "Methods"))
"""Headers that let other web pages read an answer."""


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """What a reading or a button may meet becomes an answer that says what went wrong."""
    try:
        yield
    except DrakceleryError as error:
        raise tornado.web.HTTPError(409, str(error)) from error
    except RedisError as error:
        said = "Karton's Redis does not answer" if is_away(error) else trouble(error)
        raise tornado.web.HTTPError(503, said) from error
    except OperationalError as error:
        raise tornado.web.HTTPError(503, "Celery's broker does not answer") from error


class NoAnalysis(tornado.web.HTTPError):
    """There is no analysis of this uid in the ledger."""

    def __init__(self, uid: str, said: str) -> None:
        """*said*: why, as far as that is known."""
        super().__init__(404, "%s", said)
        self.uid = uid


class _Fleet(BaseHandler):  # type: ignore[misc] # Flower has no type information
    """What our handlers have in common."""

    application: Any
    request: Any
    current_user: Any

    def set_default_headers(self) -> None:
        """As Flower's, but no other web page may read or embed what is answered.

        With ``FLOWER_UNAUTHENTICATED_API`` Flower lets any page read what its handlers answer
        (:meth:`flower.views.BaseHandler.set_default_headers`); that option is meant for programs.
        """
        super().set_default_headers()
        for name in FOR_OTHER_PAGES:
            self.clear_header(name)
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")

    @property
    def reader(self) -> Reader:
        """Where the pages get what they show."""
        reader: Reader = self.application.reader
        return reader

    async def find(self, uid: str) -> AnalysisView:
        """What is shown of an analysis; 404 where there is none."""
        with sentences():
            view = await self.reader.analysis(uid)
            if view is None:
                raise NoAnalysis(uid, await self.blocking(lambda: self.reader.absence(uid), remote=True))
        return view

    async def blocking(self, call: Callable[[], T], *, remote: bool = False) -> T:
        """The answer of *call*, which would keep Tornado's loop waiting; *remote*: it asks S3."""
        naming, ours = self.reader.naming, self.application
        executor = ours.remote if remote else ours.executor
        return await asyncio.get_running_loop().run_in_executor(executor, lambda: naming(call))


class Page(_Fleet):
    """A page, for people."""

    def set_default_headers(self) -> None:
        """And what else a browser should not do."""
        super().set_default_headers()
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "same-origin")

    async def send_json(self, value: Value) -> None:
        """Answer with *value*."""
        self.set_header("Content-Type", "application/json; charset=UTF-8")
        await self.finish(value.model_dump_json())

    def refusal(self, status_code: int, given: Mapping[str, Any]) -> str:
        """A sentence for a script that gets no answer; the status and its header are set. *given*: what
        Tornado hands to ``write_error``."""
        error = given.get("exc_info", (None, None))[1]
        said = error.get_message() if isinstance(error, tornado.web.HTTPError) else ""
        self.set_status(status_code)
        if status_code == 401:
            self.set_header("WWW-Authenticate", 'Basic realm="flower"')
        return said or SAID.get(status_code) or f"this did not work ({status_code}); Flower's log says why"

    def send_sentence(self, status_code: int, given: Mapping[str, Any]) -> None:
        """Answer a script with what :meth:`refusal` says."""
        said = self.refusal(status_code, given)
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish(said)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """A page in our form; a sentence for a script of a page, which asks for JSON."""
        if status_code == 401:  # before the login nothing of Flower's is shown
            self.refusal(status_code, kwargs)
            bare.answer(self, problem(401))
        elif "json" in self.request.query_arguments:
            self.send_sentence(status_code, kwargs)
        else:
            self.refusal(status_code, kwargs)
            self._show(status_code, kwargs)

    def _show(self, status_code: int, given: Mapping[str, Any]) -> None:
        if not hasattr(self, "_current_user"):
            self.current_user = None  # the page asks who it is, which may be what failed
        error = given.get("exc_info", (None, None))[1]
        said = error.get_message() if isinstance(error, tornado.web.HTTPError) else ""
        uid = error.uid if isinstance(error, NoAnalysis) else ""
        title = f"There is no analysis {uid}" if uid else ""
        self.render("problem.html", problem=problem(status_code, said or "", title=title, find=uid))

    def page(self, template: str, **values: Any) -> None:
        """Render a template of ours."""
        options = self.application.options
        self.render(template, may_act=not options.read_only, refresh=bool(options.auto_refresh), **values)


class Data(Page):
    """Something for a script of a page."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """A sentence."""
        self.send_sentence(status_code, kwargs)


class Api(_Fleet, BaseApiHandler):  # type: ignore[misc] # Flower has no type information
    """JSON for programs, protected as Flower's own API is."""

    async def answer(self, json: str | bytes) -> None:
        """Finish with *json*."""
        self.set_header("Content-Type", "application/json; charset=UTF-8")
        self.set_header("Cache-Control", "no-store")
        await self.finish(json)
