"""Karton's own client, made from our settings: what Karton has no keys for counts there, too.

Facts about Karton 5.9 are from ``karton.core.backend.KartonBackend``: it makes boto3's client of S3 without a
region, and with the certificates that boto3 trusts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import boto3
import botocore.session
from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError, ClientError
from karton.core import Config
from karton.core.backend import KartonBackend

from drakcelery.errors import StorageError
from drakcelery.model.certificates import tls_fault
from drakcelery.settings import S3Section, Settings


def make_backend(settings: Settings, config: Config, *, identity: str) -> KartonBackend:
    """Karton's Redis and S3 for *identity*; *config* is what Karton's own classes get of *settings*."""
    settings.redis.require_files()
    backend = KartonBackend(config, identity=identity)
    complete(backend, settings.s3)
    return backend


def complete(backend: KartonBackend, section: S3Section) -> None:
    """Let the client of S3 have the region and the files for TLS that the settings name."""
    if section.region is None and section.ssl_ca_certs is None and section.ssl_certfile is None:
        return
    section.require_files()
    session = botocore.session.get_session()
    # As Karton does for a role, whose credentials may be renewed
    session._credentials = backend.s3._request_signer._credentials  # noqa: SLF001 there is no other way
    backend.s3 = boto3.Session(botocore_session=session).client(
        "s3",
        endpoint_url=section.address,
        region_name=section.region,
        verify=None if section.ssl_ca_certs is None else str(section.ssl_ca_certs),
        config=BotoConfig(client_cert=_own_certificate(section)),
    )


def _own_certificate(section: S3Section) -> Any:
    if section.ssl_certfile is None:
        return None
    if section.ssl_keyfile is None:
        return str(section.ssl_certfile)
    return str(section.ssl_certfile), str(section.ssl_keyfile)


@contextlib.contextmanager
def sentences(section: S3Section) -> Iterator[None]:
    """Turn the errors of Karton's client of S3 into :class:`StorageError`."""
    try:
        yield
    except ClientError as error:
        answer = error.response.get("Error", {})
        raise StorageError(
            f"S3 at {section.address} refuses {error.operation_name}: {answer.get('Code')} "
            f"{answer.get('Message', '')}; `drakcelery doctor --only s3` says more"
        ) from None
    except BotoCoreError as error:
        fault = tls_fault(error, section="s3", plain="let [s3] address begin with http://")
        if fault is not None:
            raise StorageError(f"S3 at {section.address} {fault.said}. {fault.remedy}") from None
        raise StorageError(
            f"S3 at {section.address} does not answer as it should ({type(error).__name__}); "
            "`drakcelery doctor --only s3` says more"
        ) from None
