"""Samples that somebody drops onto the Fleet page: by the same checks as ``drakcelery submit``.

A request has one file as its body, which goes to a file of ours as it comes. Whether it may is asked before.
"""

from __future__ import annotations

import tempfile
import urllib.parse
from pathlib import Path
from typing import IO

import structlog
import tornado.web

from drakcelery.flower.handlers import Action
from drakcelery.flower.kinds import sentences
from drakcelery.flower.safety import takes_samples
from drakcelery.karton.contract import NAME_CHARACTERS
from drakcelery.karton.kept import Wishes
from drakcelery.ledger import Ledger
from drakcelery.model.analysis import Value
from drakcelery.model.text import clean
from drakcelery.operators.submitting.archives import Passwords
from drakcelery.operators.submitting.found import Found, Refused
from drakcelery.operators.submitting.submission import Submission
from drakcelery.settings import Settings

MOST_AT_ONCE = 4
"""Samples that are taken at the same time, each with a file on this machine."""
PATIENCE = 600
"""Seconds that one may take to come."""
PASSWORD = "X-Zip-Password"  # noqa: S105 the header's name
LONGEST_PASSWORD = 1000

log = structlog.get_logger(__name__)


@tornado.web.stream_request_body
class SubmitAction(Action):
    """``/fleet/submit?name=invoice.exe``: the body is the sample, or a zip of some."""

    _file: IO[bytes] | None = None
    _is_whole = False

    def prepare(self) -> None:
        """Refuse it before it comes, if it will be refused."""
        super().prepare()
        if not self.current_user:
            raise tornado.web.HTTPError(401)
        options = self.application.options
        if not takes_samples(
            address=options.address,
            unix_socket=options.unix_socket,
            has_login=bool(options.basic_auth or options.auth),
        ):
            raise tornado.web.HTTPError(
                403, "Samples are taken where Flower has a login, or listens on a loopback address"
            )
        limit = self.reader.settings.drakcelery.max_sample_size
        if int(self.request.headers.get("Content-Length", 0)) > limit:
            raise tornado.web.HTTPError(
                413,
                f"the file is too large: at most {limit} bytes are accepted ([drakcelery] max_sample_size)",
            )
        if self.application.uploads >= MOST_AT_ONCE:
            raise tornado.web.HTTPError(503, f"{MOST_AT_ONCE} samples are being taken; try again later")
        self.request.connection.set_max_body_size(limit)
        self.request.connection.set_body_timeout(PATIENCE)
        self._file = tempfile.NamedTemporaryFile(prefix="drakcelery-")  # noqa: SIM115 open until the answer
        self.application.uploads += 1

    def data_received(self, chunk: bytes) -> None:
        """Keep a piece; one of a request that was refused is dropped."""
        if self._file is not None:
            self._file.write(chunk)

    async def post(self) -> None:
        """Hand it in, and say what became of it: of each file, if it is a zip."""
        if self._file is None:
            raise tornado.web.HTTPError(400)
        self._is_whole = True
        try:
            self._file.flush()
            given = Found(path=Path(self._file.name), name=self._name(), label=self._name())
            passwords = Passwords(given=self._passwords())
            with sentences():
                outcomes = await self.blocking(
                    lambda: hand_in(self.reader.settings, self.reader.ledger, given, passwords), remote=True
                )
        finally:
            self._forget()
        for one in outcomes:
            if one.uid is not None:
                log.info("done_in_flower", by=self.by, uid=one.uid, asked="submit")
            else:
                log.info("refused_in_flower", by=self.by, reason=one.reason, asked="submit")
        await self.finish({"files": [one.model_dump() for one in outcomes]})

    def _name(self) -> str:
        """What the browser calls the file; a label, and no path."""
        name = self.get_query_argument("name", "").replace("\\", "/").rpartition("/")[2]
        return name[-NAME_CHARACTERS:] or "sample"

    def _passwords(self) -> tuple[bytes, ...]:
        text = urllib.parse.unquote(self.request.headers.get(PASSWORD, ""))
        return (text.encode()[:LONGEST_PASSWORD],) if text else ()

    def on_connection_close(self) -> None:
        """The browser has gone; if that was in the middle of the file, nobody asks for it any more."""
        if not self._is_whole:
            self._forget()

    def _forget(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            self.application.uploads -= 1


class Outcome(Value):
    """What became of one file."""

    label: str
    uid: str | None = None
    """Of its analysis; None: it was refused."""
    reason: str | None = None
    """Why it was, in a sentence."""


def hand_in(settings: Settings, ledger: Ledger, given: Found, passwords: Passwords) -> list[Outcome]:
    """Hand in a file, or those of a zip. Raises :class:`DrakceleryError` if nothing can be handed in."""
    submission = Submission.begin(settings, ledger, Wishes(), passwords=passwords)
    return [
        Outcome(label=one.label, reason=clean(one.reason))
        if isinstance(one, Refused)
        else Outcome(label=one.label, uid=one.uid)
        for one in submission.push([given])
    ]
