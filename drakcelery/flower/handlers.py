"""The pages, their JSON and their buttons, as handlers of Flower's own kinds.

Flower's :class:`flower.views.BaseHandler` and :class:`flower.api.BaseApiHandler` bring its authentication,
its read-only mode and its error pages. Beyond that, whatever changes something needs Tornado's XSRF token,
also where Flower, without a login, does not ask for one.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import structlog
import tornado.web
from flower.api import BaseApiHandler
from flower.views import BaseHandler
from kombu.exceptions import OperationalError
from pydantic import TypeAdapter
from redis.exceptions import RedisError

from drakcelery.errors import DrakceleryError
from drakcelery.flower.analysis_page import AnalysisView
from drakcelery.flower.reading import Reader
from drakcelery.flower.rows import Row
from drakcelery.ledger.away import is_away, trouble
from drakcelery.model.analysis import Value
from drakcelery.operators import steering

T = TypeVar("T")

log = structlog.get_logger(__name__)

POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Content Security Policy of our pages: scripts from files only, should a name ever get into the markup."""
FOR_OTHER_PAGES = tuple(f"Access-Control-Allow-{what}" for what in ("Origin", "Headers", "Methods"))
"""Headers that let other web pages read an answer."""
MOST = 1000
"""How many analyses ``/api/analyses`` lists at most."""
_ROWS = TypeAdapter(list[Row])


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


class _Fleet(BaseHandler):  # type: ignore[misc] # Flower has no type information
    """What our handlers have in common."""

    application: Any
    request: Any

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
            raise tornado.web.HTTPError(404, "The ledger has no analysis of this uid")
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
        return said or f"this did not work ({status_code}); Flower's log says why"

    def page(self, template: str, **values: Any) -> None:
        """Render a template of ours."""
        options = self.application.options
        self.render(template, may_act=not options.read_only, refresh=bool(options.auto_refresh), **values)


class FleetPage(Page):
    """``/fleet``; with ``?json=1`` its data, as Flower's Workers page has it."""

    @tornado.web.authenticated
    async def get(self) -> None:
        """Hosts, queues, analyses."""
        if not self.get_argument("json", default=False, type=bool):
            self.page("fleet.html")
            return
        with sentences():
            view = await self.reader.fleet()
        await self.send_json(view)


class AnalysisPage(Page):
    """``/analysis/<uid>``; with ``?json=1`` its data."""

    @tornado.web.authenticated
    async def get(self, uid: str) -> None:
        """One analysis."""
        view = await self.find(uid)
        if self.get_argument("json", default=False, type=bool):
            await self.send_json(view.linking(self.application.events.state.tasks.__contains__))
        elif view.row.uid != uid:
            self.redirect(self.reverse_url("analysis", view.row.uid))
        else:
            self.page("analysis.html", uid=uid)


class Download(Page):
    """``/analysis/<uid>/artifact/<name>``: to where S3 has it, for a minute."""

    @tornado.web.authenticated
    async def get(self, uid: str, name: str) -> None:
        """Redirect."""
        with sentences():
            link = await self.blocking(lambda: self.reader.link(uid, name), remote=True)
        if link is None:
            raise tornado.web.HTTPError(404, "There is no such artifact")
        self.redirect(link)


class Action(Page):
    """Something that changes the fleet: POST only, with the XSRF token, and not in read-only mode."""

    SUPPORTED_METHODS = ("POST",)

    def check_xsrf_cookie(self) -> None:
        """Flower's check of where the request comes from, and Tornado's of the token in any case."""
        super().check_xsrf_cookie()
        tornado.web.RequestHandler.check_xsrf_cookie(self)

    def prepare(self) -> None:
        """Read-only is read-only."""
        super().prepare()
        if self.application.options.read_only:
            raise tornado.web.HTTPError(403, "Read only mode is enabled")

    async def perform(self, act: Callable[[], str], *, remote: bool = False, **context: str) -> None:
        """Do it, and answer with what *act* says; *remote* as of :meth:`blocking`."""
        try:
            with sentences():
                said = await self.blocking(act, remote=remote)
        except tornado.web.HTTPError as error:
            log.info("refused_in_flower", by=self.by, reason=error.get_message(), **context)
            raise
        log.info("done_in_flower", by=self.by, **context)
        await self.finish({"message": said})

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """For a script, not a page."""
        self.finish({"message": self.refusal(status_code, kwargs)})

    @property
    def by(self) -> str:
        """Who asks, for the record: ``flower:alice``."""
        name = self.current_user if isinstance(self.current_user, str) else ""  # True without OAuth
        if self.application.options.basic_auth:
            name = _basic_user(self.request)
        return f"flower:{name}" if name else "flower"


def _basic_user(request: Any) -> str:
    """The user that HTTP's basic authentication names."""
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Basic":
        return ""
    try:
        return base64.b64decode(credentials).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""


class HostAction(Action):
    """``/fleet/host/<host>/drain`` and ``undrain``."""

    @tornado.web.authenticated
    async def post(self, host: str, action: str) -> None:
        """Ask the host's vm worker, and wait for its answer."""
        ask = steering.drain if action == "drain" else steering.undrain

        def act() -> str:
            ask(self.capp, host, by=self.by)
            done = "drained: it finishes what it runs and takes nothing new"
            return f"{host} is {done if action == 'drain' else 'in use again'}"

        await self.perform(act, host=host, asked=action)


class AnalysisAction(Action):
    """``/analysis/<uid>/cancel`` and ``retry``."""

    @tornado.web.authenticated
    async def post(self, uid: str, action: str) -> None:
        """Cancel what is under way, or ask again for what is over."""
        reader, by = self.reader, self.by

        def act() -> str:
            if action == "cancel":
                return f"analysis {steering.cancel_by_uid(reader.ledger, uid, by=by).uid} is cancelled"
            return f"analysis {reader.retry(uid, by=by)} of the same sample is in Karton"

        await self.perform(act, remote=action == "retry", uid=uid, asked=action)


class Api(_Fleet, BaseApiHandler):  # type: ignore[misc] # Flower has no type information
    """JSON for programs, protected as Flower's own API is."""

    async def answer(self, json: str | bytes) -> None:
        """Finish with *json*."""
        self.set_header("Content-Type", "application/json; charset=UTF-8")
        self.set_header("Cache-Control", "no-store")
        await self.finish(json)


class FleetApi(Api):
    """``/api/fleet``."""

    @tornado.web.authenticated
    async def get(self) -> None:
        """What the Fleet page shows."""
        with sentences():
            view = await self.reader.fleet()
        await self.answer(view.model_dump_json())


class AnalysesApi(Api):
    """``/api/analyses?limit=100``."""

    @tornado.web.authenticated
    async def get(self) -> None:
        """Analyses under way, the newest first, then those that are over."""
        limit = self.get_argument("limit", default=100, type=int)
        if not 1 <= limit <= MOST:
            raise tornado.web.HTTPError(400, f"limit: expected 1 to {MOST}")
        with sentences():
            rows = await self.blocking(lambda: self.reader.analyses(limit))
        await self.answer(_ROWS.dump_json(rows))


class AnalysisApi(Api):
    """``/api/analysis/<uid>``."""

    @tornado.web.authenticated
    async def get(self, uid: str) -> None:
        """What the Analysis page shows."""
        await self.answer((await self.find(uid)).model_dump_json())
