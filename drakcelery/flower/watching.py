"""The Watching page: what quiet stops would save in slot time, and lose in facts."""

from __future__ import annotations

from collections.abc import Awaitable

import tornado.web

from drakcelery.flower.kinds import Api, Page, sentences
from drakcelery.operators.watch_report import HOW_TO_START


class WatchingPage(Page):
    """``/watching``; with ``?json=1`` its data."""

    @tornado.web.authenticated
    async def get(self) -> None:
        """The curve, and the best settings by profile and quality."""
        if not self.get_argument("json", default=False, type=bool):
            self.page("watching.html", how_to_start=HOW_TO_START)
            return
        with sentences():
            report = await self.reader.watching()
        await self.send_json(report)

    def head(self) -> Awaitable[None] | None:
        """As above, without the page."""
        return self.get()


class WatchingApi(Api):
    """``/api/watching``: what ``drakcelery watch-report --json`` prints."""

    @tornado.web.authenticated
    async def get(self) -> None:
        """All profiles and qualities."""
        with sentences():
            report = await self.reader.watching()
        await self.answer(report.model_dump_json())
