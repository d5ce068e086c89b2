"""What the page of an analysis asks for: pieces of its report, as JSON, for whoever may see the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tornado.web
from pydantic import ValidationError

from drakcelery.flower.kinds import Data, sentences
from drakcelery.flower.report.indicators import indicators_page, indicators_text
from drakcelery.flower.report.pages import Query
from drakcelery.flower.report.reading import Told
from drakcelery.flower.report.tables import TABLES, table_page
from drakcelery.flower.report.timeline import timeline_page
from drakcelery.flower.report.tree import tree_page
from drakcelery.model.analysis import Value

LISTS: dict[str, Callable[[Told, Query], Value]] = {
    "overview": lambda told, _: told.overview,
    "processes": lambda told, query: tree_page(told.cast, float(told.report.run.started), query),
    "timeline": lambda told, query: timeline_page(
        told.moments, told.cast, float(told.report.run.started), query
    ),
    "indicators": lambda told, query: indicators_page(told.report, query),
}
"""By the name in the address; the tables come after these."""


class OfReport(Data):
    """Something that a report says."""

    async def told(self, uid: str) -> Told:
        """The report of an analysis. Raises an answer that says why there is none."""
        with sentences():
            told = await self.reader.report(uid)
        if told is None:
            raise tornado.web.HTTPError(404, "The ledger has no analysis of this uid")
        return told

    def query(self) -> Query:
        """What is asked for; 400 if it is out of bounds."""
        given: dict[str, Any] = {
            name: self.get_query_argument(name)
            for name in Query.model_fields
            if self.get_query_argument(name, "")
        }
        if "turned" in given:
            given["turned"] = given["turned"].split(",")
        try:
            return Query.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise tornado.web.HTTPError(400, f"{first['loc'][0]}: {first['msg']}") from None


class ReportList(OfReport):
    """``/analysis/<uid>/report/<list>``: some entries of a list, or what stands above the lists."""

    @tornado.web.authenticated
    async def get(self, uid: str, name: str) -> None:
        """A page of it."""
        query = self.query()
        made = LISTS.get(name)
        if made is None and name not in TABLES:
            raise tornado.web.HTTPError(404, "A report has no such list")
        told = await self.told(uid)

        def make() -> Value:
            if made is not None:
                return made(told, query)
            return table_page(TABLES[name], told.report, told.cast, query)

        await self.send_json(await self.blocking(make))


class IndicatorText(OfReport):
    """``/analysis/<uid>/indicators?form=defanged``: all that a filter leaves, to be copied."""

    @tornado.web.authenticated
    async def get(self, uid: str) -> None:
        """A line each."""
        query, form = self.query(), self.get_query_argument("form", "defanged")
        if form not in ("defanged", "seen"):
            raise tornado.web.HTTPError(400, "form: expected defanged or seen")
        told = await self.told(uid)
        text = await self.blocking(lambda: indicators_text(told.report, query, seen=form == "seen"))
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        await self.finish(text)
