"""A page by itself, without Flower's navigation, scripts or styles: for those who may not have these.

So is told why a request is refused, under a name that is not Flower's say, or before the login.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from tornado.web import RequestHandler

from drakcelery.flower.problems import Problem

POLICY = (
    "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""What such a page may do: have its own style, and nothing else."""


def answer(handler: RequestHandler, problem: Problem) -> None:
    """Finish with the page; the handler's headers stay, but for what the page must not have."""
    style = (resources.files(__package__) / "static" / "refused.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    handler.set_status(problem.status)
    handler.set_header("Content-Type", "text/html; charset=UTF-8")
    handler.set_header("Content-Security-Policy", POLICY.format(style=digest))
    handler.set_header("X-Content-Type-Options", "nosniff")
    handler.set_header("Cache-Control", "no-store")
    handler.set_header("Referrer-Policy", "same-origin")
    handler.set_header("Cross-Origin-Resource-Policy", "same-origin")
    # Not by the handler: it would find out who asks, which may be what is wrong
    template = handler.application.settings["template_loader"].load("refused.html")
    handler.finish(template.generate(problem=problem, style=style))


def is_wanted(handler: RequestHandler) -> bool:
    """Whether a person asks, by a browser: a script of a page, or a program, wants a sentence."""
    return "text/html" in handler.request.headers.get("Accept", "")
