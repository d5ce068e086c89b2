"""Flower's application with our handlers and templates.

Tornado lets an application take further handlers and a template loader of its own; Flower passes both on.
The one thing of Flower's that is shown otherwise is its navigation bar, which gets two more entries.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import flower
from flower.app import Flower, rewrite_handler
from flower.views.error import NotFoundErrorHandler
from tornado.httputil import HTTPServerRequest
from tornado.template import DictLoader
from tornado.web import StaticFileHandler, url

from drakcelery.errors import StackError
from drakcelery.flower import finding, handlers, safety, submitting, watching
from drakcelery.flower.elsewhere import NothingHere, Refused
from drakcelery.flower.live import LiveLogs
from drakcelery.flower.reading import Reader
from drakcelery.flower.report import handlers as report_handlers
from drakcelery.flower.stored import handlers as stored_handlers

REMOTE = 16
"""Threads that wait for S3 and hosts, if so many pages ask them at the same time."""
HERE = Path(str(resources.files(__package__)))
NAVIGATION = '<ul class="app-nav navbar-nav">'
"""Where Flower's navigation bar lists its pages."""
ENTRIES = "".join(
    f"""
        <li class="nav-item">
          <a class="nav-link{{% if active_tab == '{page}' %}} active{{% end %}}"
            href="{{{{ reverse_url('{page}') }}}}"
            {{% if active_tab == '{page}' %}}aria-current="page"{{% end %}}>{page.capitalize()}</a>
        </li>"""
    for page in ("fleet", "watching")
)
UNUSED = ("js/datatables-", "css/datatables-", "js/moment-")
"""What Flower's lists need of its base page, and our pages do not: 950 of 1400 kB, most of it time zones."""
_UID = r"([A-Za-z0-9][A-Za-z0-9._-]{0,127})"
_HOST = r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})"

HANDLERS = [
    url(r"/fleet", handlers.FleetPage, name="fleet"),
    url(r"/fleet/find", finding.FindPage),
    url(r"/fleet/submit", submitting.SubmitAction),
    url(r"/watching", watching.WatchingPage, name="watching"),
    url(rf"/fleet/host/{_HOST}/(drain|undrain)", handlers.HostAction),
    url(rf"/analysis/{_UID}", handlers.AnalysisPage, name="analysis"),
    url(rf"/analysis/{_UID}/(cancel|retry)", handlers.AnalysisAction),
    url(rf"/analysis/{_UID}/artifact/{_UID}", handlers.Download),
    url(rf"/analysis/{_UID}/report/([a-z]+)", report_handlers.ReportList),
    url(rf"/analysis/{_UID}/indicators", report_handlers.IndicatorText),
    url(rf"/analysis/{_UID}/text/{_UID}", stored_handlers.Text),
    url(rf"/analysis/{_UID}/artifacts\.zip", stored_handlers.Archive),
    url(rf"/analysis/{_UID}/live", stored_handlers.LiveLog),
    url(rf"/analysis/{_UID}/screenshots", stored_handlers.Screenshots),
    url(rf"/analysis/{_UID}/screenshot/([A-Za-z0-9_.-]{{1,200}})", stored_handlers.Screenshot),
    url(r"/api/fleet", handlers.FleetApi),
    url(r"/api/find", finding.FindApi),
    url(r"/api/watching", watching.WatchingApi),
    url(r"/api/analyses", handlers.AnalysesApi),
    url(rf"/api/analysis/{_UID}", handlers.AnalysisApi),
    url(r"/fleet/static/(.*)", StaticFileHandler, {"path": str(HERE / "static")}, name="fleet-static"),
]


def templates() -> DictLoader:
    """Flower's templates and ours, which build on them.

    Raises:
        StackError: this Flower's navigation bar is not the one that we know.
    """
    theirs = Path(flower.__file__).parent / "templates"
    texts = {
        path.name: path.read_text(encoding="utf-8")
        for directory in (theirs, HERE / "templates")
        for path in sorted(directory.glob("*.html"))
    }
    bar = texts.get("navbar.html", "")
    if bar.count(NAVIGATION) != 1:
        raise StackError(
            f"Flower {flower.__version__} has a navigation bar that drakcelery does not know; install a "
            "version that drakcelery asks for"
        )
    texts["navbar.html"] = bar.replace(NAVIGATION, NAVIGATION + ENTRIES)
    base = texts["base.html"].splitlines(keepends=True)
    texts["lean.html"] = "".join(line for line in base if not any(name in line for name in UNUSED))
    return DictLoader(texts)


class FleetFlower(Flower):  # type: ignore[misc] # Flower has no type information
    """Flower that knows the fleet."""

    def __init__(self, *, options: Any, capp: Any, make_reader: Any, **settings: Any) -> None:
        """*make_reader* gets the executors in which it may block."""
        # What is not below the prefix reaches no handler of Flower's
        settings = {"default_handler_class": NothingHere, **settings}
        super().__init__(options=options, capp=capp, template_loader=templates(), **settings)
        self.remote = ThreadPoolExecutor(REMOTE, thread_name_prefix="remote")
        """For what asks S3 or hosts, which may be slow: Flower's own pages and the Fleet page do not wait."""
        self.reader: Reader = make_reader(self.executor, self.remote)
        self.live_logs = LiveLogs(self.remote)
        self.archives = 0
        """Zips that are being sent."""
        self.uploads = 0
        """Samples that are being taken."""
        prefix = options.url_prefix
        # Asked before Flower's own, whose last one answers everything
        self.add_handlers(r".*", [rewrite_handler(one, prefix) if prefix else one for one in HANDLERS])

    def stop(self) -> None:
        """As Flower does; nobody waits for what is still asked."""
        self.remote.shutdown(wait=False, cancel_futures=True)
        super().stop()

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """The handler of a request: Flower's or ours, unless a foreign page or name sends it."""
        asked = safety.Asked(
            method=request.method or "",
            host=request.host,
            fetched_from=request.headers.get("Sec-Fetch-Site"),
            origin=request.headers.get("Origin"),
        )
        ours = self.reader.settings.flower
        has_login = bool(self.options.basic_auth or self.options.auth)
        any_name = has_login or ours.allow_unauthenticated
        reason = safety.refusal(asked, names=ours.names, any_name=any_name)
        if reason is not None:
            return self.get_handler_delegate(request, Refused, {"reason": reason})
        found = super().find_handler(request, **kwargs)
        if getattr(found, "handler_class", None) is NotFoundErrorHandler:
            return self.get_handler_delegate(request, NothingHere)
        return found
