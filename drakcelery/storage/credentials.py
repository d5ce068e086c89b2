"""Credentials of the machine's role, as Karton has them: where there is none, the keys count.

Karton asks for a role once, as it starts (``karton.core.backend.KartonBackend.iam_auth_s3``); so does this,
with the first request. A role that was there once is not given up for the keys.
"""

from __future__ import annotations

import structlog
import urllib3
from minio.credentials.credentials import Credentials
from minio.credentials.providers import IamAwsProvider, Provider, StaticProvider
from minio.error import MinioException

log = structlog.get_logger(__name__)

SECONDS = 2.0
"""How long the machine's own service may take to connect, and to answer; it is one hop away, if at all."""
TRIES = 1
"""How often it is asked again: once, as Karton does."""


class NoCredentialsError(ValueError):
    """There are neither a role nor keys."""


class RoleOrKeys(Provider):
    """The role of this machine, or the keys. Threads may share it."""

    def __init__(self, keys: tuple[str, str] | None) -> None:
        """*keys* are access key and secret key; without them a role has to be there."""
        self._keys = StaticProvider(*keys) if keys else None
        patience = urllib3.Retry(total=TRIES, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504])
        timeout = urllib3.Timeout(connect=SECONDS, read=SECONDS)
        self._role: Provider = IamAwsProvider(
            http_client=urllib3.PoolManager(retries=patience, timeout=timeout)
        )
        self._chosen: Provider | None = None

    def retrieve(self) -> Credentials:
        """Raises :class:`NoCredentialsError`."""
        if self._chosen is not None:
            return self._chosen.retrieve()
        try:
            found = self._role.retrieve()
        except (ValueError, KeyError, OSError, MinioException, urllib3.exceptions.HTTPError) as error:
            if self._keys is None:
                raise NoCredentialsError(
                    f"this machine has no IAM role ({type(error).__name__}), and [s3] has no access_key and "
                    "secret_key instead"
                ) from None
            log.info("no_iam_role", error=type(error).__name__)
            self._chosen = self._keys
            return self._keys.retrieve()
        self._chosen = self._role
        return found
