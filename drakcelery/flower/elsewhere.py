"""What answers instead of any other handler: where there is none, and where a request is refused."""

from __future__ import annotations

from typing import Any

import structlog
import tornado.web

from drakcelery.flower import bare, safety
from drakcelery.flower.kinds import Page
from drakcelery.flower.problems import problem

log = structlog.get_logger(__name__)


class NothingHere(Page):
    """An address that Flower does not have, whatever is asked of it."""

    def check_xsrf_cookie(self) -> None:
        """Nothing is changed."""

    def prepare(self) -> None:
        """To the first page from the prefix alone; else say that there is nothing."""
        prefix = "/" + (self.application.options.url_prefix or "").strip("/")
        path = self.request.path
        if path == prefix != "/" and self.request.method in ("GET", "HEAD"):
            self.redirect(f"{prefix}/")
            return
        if prefix != "/" and not path.startswith(f"{prefix}/"):
            raise tornado.web.HTTPError(
                404,
                f"Flower has its pages below {prefix}/ (--url-prefix). If you asked for one of them, a proxy "
                "takes that path off, which it should not",
            )
        raise tornado.web.HTTPError(404)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """A page for people."""
        if bare.is_wanted(self):
            super().write_error(status_code, **kwargs)
        else:
            self.send_sentence(status_code, kwargs)


class Refused(tornado.web.RequestHandler):
    """Answers instead of any other handler, Flower's too, if a request must be refused."""

    reason = ""

    def initialize(self, reason: str) -> None:
        """*reason* is a sentence."""
        self.reason = reason

    def check_xsrf_cookie(self) -> None:
        """Nothing is changed."""

    def prepare(self) -> None:
        """For a script, or for people."""
        log.info("refused_in_flower", by="nobody", reason=self.reason)
        self.set_status(403)
        if self.request.method not in safety.LOOKING:
            self.finish({"message": self.reason})
        elif bare.is_wanted(self):
            bare.answer(self, problem(403, self.reason))
        else:
            self.set_header("Content-Type", "text/plain; charset=UTF-8")
            self.finish(self.reason)
