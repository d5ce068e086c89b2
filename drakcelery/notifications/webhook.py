"""The webhook: tells somebody else's HTTPS server which analyses are over (docs/notifications.md).

One thread of each ingress sends what :mod:`drakcelery.ledger.outbox` has queued, one notice after the
other; stages and workers know nothing of it. What fails is tried again, later and later, and given up in the
end.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import re
import ssl
import threading
import time
import urllib.parse
from typing import Any

import structlog
import urllib3
from redis.exceptions import RedisError
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError, SSLError

from drakcelery import __version__
from drakcelery.errors import SettingsError
from drakcelery.ledger.away import concerns_all
from drakcelery.ledger.outbox import Dead, Notice, Outbox
from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from drakcelery.settings import NotificationsSection

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 7.0
CLAIM_SECONDS = 20.0
"""Longer than any try takes; after that another ingress may send the notice as well."""
MOST_TRIES = 16
FIRST_DELAY = 5.0
MOST_DELAY = 3600.0
"""Seconds between tries: 5, 10, 20, … up to this; 16 tries take about seven hours."""
MOST_PAUSE = 30.0
"""Seconds; a server that takes nothing is not asked more often than that, however many notices are due."""
IDLE_SECONDS = 0.5
WANT_SECONDS = 60.0
"""How often the ingress says which notices it wants."""
MOST_ERROR = 2000
"""Characters of an analysis' error; it may quote the sample."""
MOST_NAME = 200


def event_of(state: State) -> str:
    """What the receiver knows it by: ``analysis.published``."""
    return f"analysis.{state.value.lower()}"


def content(record: Record) -> dict[str, Any]:
    """What is said of an analysis that is over. Bounded; names files, links and secrets of nobody."""
    sha256 = record.sample.sha256 if record.sample else None
    return {
        # A Karton task's analysis ends once, whatever else its uid is used for
        "id": record.task_uid[:MOST_NAME],
        "event": event_of(record.state),
        "uid": record.uid,
        "state": record.state.value,
        "karton": {
            "sample_task": record.task_uid[:MOST_NAME],
            "root": record.root_uid[:MOST_NAME],
            "analysis_task": record.analysis_task_uid,
        },
        "sample": {"sha256": sha256 if sha256 and re.fullmatch(r"[0-9a-fA-F]{64}", sha256) else None},
        "error": record.error[:MOST_ERROR] if record.state is not State.PUBLISHED and record.error else None,
        "attempts": record.attempts,
        "times": {
            "received": record.received,
            "started": record.entered.get(State.PREPARING),
            "finished": record.finished,
        },
    }


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 of the timestamp, a full stop and the body, in hex."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class Webhook:
    """The server that is told. TLS is verified, redirects are not followed, nobody is waited for long."""

    def __init__(self, section: NotificationsSection) -> None:
        """Raises :class:`SettingsError` if ``ca_file`` is no file of certificates, or nothing is set."""
        if section.url is None or section.secret is None:
            raise SettingsError("[notifications] url: expected where to send notices to")
        self._url = section.url.get_secret_value()
        self._secret = section.secret.get_secret_value()
        try:
            context = ssl.create_default_context(cafile=section.ca_file)
        except OSError as error:
            raise SettingsError(
                f"[notifications] ca_file = {section.ca_file}: expected a file of certificates (PEM): {error}"
            ) from None
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=ANSWER_SECONDS)
        self._pool = urllib3.PoolManager(ssl_context=context, timeout=timeout, retries=False)
        self.server = urllib.parse.urlsplit(self._url).netloc
        """Host and port: all of the address that may be shown."""

    def post(self, message: dict[str, Any]) -> str | None:
        """Send *message*; returns why it was not taken, None if it was."""
        body = json.dumps(message, sort_keys=True).encode()
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"drakcelery/{__version__}",
            "Drakcelery-Id": urllib.parse.quote(str(message["id"]), safe="{}:"),
            "Drakcelery-Timestamp": timestamp,
            "Drakcelery-Signature": f"sha256={signature(self._secret, timestamp, body)}",
        }
        try:
            response = self._pool.request(
                "POST", self._url, body=body, headers=headers, redirect=False, preload_content=False
            )
        except HTTPError as error:
            return _trouble(error)
        # Whatever else it says is not read: it could be endless
        response.close()
        if 200 <= response.status < 300:
            return None
        hint = ", and redirects are not followed" if 300 <= response.status < 400 else ""
        return f"answered {response.status}{hint}"


def _trouble(error: HTTPError) -> str:
    """In words of our own: urllib3's may quote the address, which may hold a secret."""
    if isinstance(error, SSLError):
        return f"TLS: {error}"
    if isinstance(error, NewConnectionError | ConnectTimeoutError):
        return "cannot be reached"
    if isinstance(error, ReadTimeoutError):
        return f"did not answer within {ANSWER_SECONDS:.0f} s"
    return f"broke the connection ({type(error).__name__})"


class Notifier(threading.Thread):
    """Sends notices until *stop* is set; a thread, since the road must not wait for somebody's server."""

    def __init__(
        self,
        notices: Outbox,
        webhook: Webhook,
        *,
        events: frozenset[State],
        stop: threading.Event,
        first_delay: float = FIRST_DELAY,
    ) -> None:
        super().__init__(name="notifier", daemon=True)
        self._outbox = notices
        self._webhook = webhook
        self._events = events
        self._over = stop
        self._first_delay = first_delay
        self._failures = 0
        """Tries in a row that failed."""

    def run(self) -> None:
        """Until the ingress stops; a try that is under way is finished, or made again later."""
        wanted = -WANT_SECONDS
        while not self._over.is_set():
            try:
                if time.monotonic() - wanted >= WANT_SECONDS:
                    self._outbox.want(self._events)
                    wanted = time.monotonic()
                pause = self._pause() if self.send_one() else IDLE_SECONDS
            except RedisError as error:
                log.warning("notices_unread", error=self._outbox.describe(error))
                pause = MOST_PAUSE
            except Exception:
                log.exception("notifier_failed")  # the thread must go on: nobody else would send
                pause = MOST_PAUSE
            self._over.wait(pause)

    def _pause(self) -> float:
        return min(MOST_PAUSE, self._first_delay * 2 ** (self._failures - 1)) if self._failures else 0.0

    def send_one(self) -> bool:
        """Send a notice that is due. False if there was none."""
        text = self._outbox.claim(seconds=CLAIM_SECONDS)
        if text is None:
            return False
        try:
            self._send(text)
        except Exception as error:
            if concerns_all(error):
                raise
            # That notice's fault: it is claimed for a while, then it comes again, behind the others
            log.warning("notice_odd", error=str(error), exc_info=True)
        return True

    def _send(self, text: str) -> None:
        try:
            notice = Notice.parse(text)
        except ValueError as error:
            dead = Dead(uid="?", task_uid="?", state="?", tries=0, error=str(error), at=time.time())
            self._bury(text, dead)
            return
        try:
            refused = self._webhook.post(content(notice.record))
        except Exception as error:  # noqa: BLE001 our mistake, not the server's: it counts as a try
            self._failed(notice, f"was not asked: {type(error).__name__}: {error}"[:MOST_ERROR])
            return
        self._failures = self._failures + 1 if refused else 0
        if refused is None:
            self._outbox.sent(text)
            log.info("notice_sent", uid=notice.record.uid, event_type=event_of(notice.record.state))
        else:
            self._failed(notice, refused)

    def _failed(self, notice: Notice, error: str) -> None:
        tries, record = notice.tries + 1, notice.record
        why = f"{self._webhook.server} {error}"
        if tries < MOST_TRIES:
            delay = min(MOST_DELAY, self._first_delay * 2**notice.tries)
            delay *= random.uniform(0.8, 1.2)  # noqa: S311 spreads load, guards nothing
            self._outbox.retry(notice, delay=delay)
            log.warning("notice_not_taken", uid=record.uid, error=why, tries=tries, delay=round(delay, 1))
            return
        dead = Dead(
            uid=record.uid,
            task_uid=record.task_uid,
            state=record.state.value,
            tries=tries,
            error=why,
            at=time.time(),
        )
        self._bury(notice.text, dead)

    def _bury(self, text: str, dead: Dead) -> None:
        if self._outbox.give_up(text, dead):
            log.error("notice_given_up", uid=dead.uid, tries=dead.tries, error=dead.error)
