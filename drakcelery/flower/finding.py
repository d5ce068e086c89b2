"""The search of the Fleet page, as a page's data and in the API."""

from __future__ import annotations

import time
from typing import Any

import tornado.web
from pydantic import ValidationError

from drakcelery.flower.kinds import Api, Data, sentences
from drakcelery.flower.rows import Row, row
from drakcelery.ledger import Ledger
from drakcelery.model.analysis import Value
from drakcelery.model.query import Query, moment
from drakcelery.operators import finding

MOST = 1000
USUAL = 20
PATIENCE = 2.0
"""Seconds after which a page says where to go on, since somebody waits for it."""
TEXTS = ("text", "uid", "sha256", "name", "reason", "state", "host", "profile", "engine")
TIMES = ("since", "until")
OTHERS = ("limit", "after", "oldest", "json")


class FoundView(Value):
    """A page of what was found."""

    now: float
    """UNIX time by Redis' clock."""
    analyses: tuple[Row, ...]
    next: str | None
    """What to give as ``after`` for more; None if that is all."""


def found_view(ledger: Ledger, query: Query, *, limit: int, after: str | None) -> FoundView:
    """Find them, and put the page together."""
    page = finding.find(ledger, query, limit=limit, after=after, seconds=PATIENCE)
    rows = tuple(row(record) for record in page.records)
    return FoundView(now=ledger.now(), analyses=rows, next=page.following)


class _Find:
    """What the page's data and the API have in common; goes before a handler of ours."""

    reader: Any
    blocking: Any
    get_argument: Any
    request: Any

    async def found(self) -> FoundView:
        """What the arguments ask for; 400 if they ask for nothing that there is."""
        unknown = set(self.request.arguments) - {*TEXTS, *TIMES, *OTHERS}
        if unknown:
            raise tornado.web.HTTPError(400, f"there is no argument {min(unknown)!r:.80}")
        query, limit = self._query(), self._limit()
        after = self.get_argument("after", default=None) or None
        with sentences():
            view: FoundView = await self.blocking(
                lambda: found_view(self.reader.ledger, query, limit=limit, after=after)
            )
        return view

    def _query(self) -> Query:
        given = {name: self.get_argument(name, default="") for name in (*TEXTS, *TIMES)}
        values: dict[str, Any] = {name: value for name, value in given.items() if value}
        try:
            for name in TIMES:
                if name in values:
                    values[name] = moment(values[name], now=time.time())
            query = Query.model_validate(
                {**values, "newest_first": not self.get_argument("oldest", default="")}
            )
        except ValidationError as error:
            wrong = error.errors()[0]
            raise tornado.web.HTTPError(400, f"{wrong['loc'][0]}: {wrong['msg']}") from None
        except ValueError as error:
            raise tornado.web.HTTPError(400, str(error)) from None
        if query.state is not None and not query.state.is_known:
            raise tornado.web.HTTPError(400, f"state: there is no {str(query.state)!r:.80}")
        return query

    def _limit(self) -> int:
        text = self.get_argument("limit", default=str(USUAL))
        if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= MOST):
            raise tornado.web.HTTPError(400, f"limit: expected 1 to {MOST}")
        return int(text)


class FindPage(_Find, Data):
    """``/fleet/find``: what the Fleet page's search shows."""

    @tornado.web.authenticated
    async def get(self) -> None:
        """A page of results."""
        await self.send_json(await self.found())


class FindApi(_Find, Api):
    """``/api/find``."""

    @tornado.web.authenticated
    async def get(self) -> None:
        """A page of results."""
        await self.answer((await self.found()).model_dump_json())
