"""The credentials of a machine's role, from a service of the machine as clouds have one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from drakcelery.embedded.ports import LOOPBACK
from drakcelery.embedded.services import Services
from drakcelery.errors import StorageError
from drakcelery.settings import S3Section
from drakcelery.storage import Storage

VARIABLE = "AWS_CONTAINER_CREDENTIALS_FULL_URI"


@contextmanager
def role(section: S3Section | None) -> Iterator[str]:
    """The address of the machine's service, whose role has the keys of *section*; 404 for None."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if section is None or section.secret_key is None:
                self.send_error(404)
                return
            expires = datetime.now(tz=UTC) + timedelta(hours=1)
            keys = {
                "AccessKeyId": section.access_key,
                "SecretAccessKey": section.secret_key.get_secret_value(),
            }
            whole = {**keys, "Token": None, "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ")}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(whole).encode())

        def log_message(self, *_: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://{LOOPBACK}:{server.server_address[1]}/role"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_role_counts_before_the_keys(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine has a role, wrong keys beside it do not matter."""
    wrong = services.s3.model_copy(update={"iam_auth": True, "access_key": "nobody"})
    with role(services.s3) as address:
        monkeypatch.setenv(VARIABLE, address)
        assert Storage.connect(wrong, threads=1).has_bucket(services.s3.bucket)


def test_keys_count_where_there_is_no_role(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Karton: iam_auth = 1 on a machine without a role uses access_key and secret_key."""
    both = services.s3.model_copy(update={"iam_auth": True})
    with role(None) as address:
        monkeypatch.setenv(VARIABLE, address)
        assert Storage.connect(both, threads=1).has_bucket(services.s3.bucket)


def test_neither_a_role_nor_keys(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says that both are missing."""
    none = services.s3.model_copy(update={"iam_auth": True, "access_key": None, "secret_key": None})
    with role(None) as address:
        monkeypatch.setenv(VARIABLE, address)
        with pytest.raises(StorageError, match=r"no IAM role .*, and \[s3\] has no access_key"):
            Storage.connect(none, threads=1).has_bucket(services.s3.bucket)
