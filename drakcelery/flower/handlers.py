"""The pages, their JSON and their buttons.

Beyond what their kinds bring (:mod:`drakcelery.flower.kinds`), whatever changes something needs Tornado's
XSRF token, also where Flower, without a login, does not ask for one.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import tornado.web
from pydantic import TypeAdapter

from drakcelery.flower.kinds import Api, Page, sentences
from drakcelery.flower.rows import Row
from drakcelery.flower.safety import takes_samples
from drakcelery.operators import steering

log = structlog.get_logger(__name__)

MOST = 1000
"""How many analyses ``/api/analyses`` lists at most."""
_ROWS = TypeAdapter(list[Row])


class FleetPage(Page):
    """``/fleet``; with ``?json=1`` its data, as Flower's Workers page has it."""

    @tornado.web.authenticated
    async def get(self) -> None:
        """Hosts, queues, analyses."""
        if not self.get_argument("json", default=False, type=bool):
            self.page("fleet.html", largest=self._largest())
            return
        with sentences():
            view = await self.reader.fleet()
        await self.send_json(view)

    def head(self) -> Awaitable[None] | None:
        """As above, without the page: what watches over Flower asks so."""
        return self.get()

    def _largest(self) -> int:
        """Bytes of the largest sample that the page takes; 0 if it takes none."""
        options = self.application.options
        takes = not options.read_only and takes_samples(
            address=options.address,
            unix_socket=options.unix_socket,
            has_login=bool(options.basic_auth or options.auth),
        )
        return self.reader.settings.drakcelery.max_sample_size if takes else 0


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

    def head(self, uid: str) -> Awaitable[None] | None:
        """Whether there is such an analysis."""
        return self.get(uid)


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
