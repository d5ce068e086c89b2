"""``drakcelery bucket`` against a real SeaweedFS with identities: ours, a reader and a stranger."""

from __future__ import annotations

import http.server
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import urllib3
from click.testing import CliRunner, Result
from karton.core import Config
from karton.core.backend import KartonBackend
from karton.core.resource import RemoteResource
from minio import Minio
from minio.commonconfig import ENABLED, Filter
from minio.error import S3Error
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule

from drakcelery.cli import cli
from drakcelery.embedded.ports import LOOPBACK
from drakcelery.embedded.services import Services
from drakcelery.storage.bucket_policy import RETENTION_RULE, read_policy, readers
from tests.identities import seaweedfs

BUCKET = "drakrun"
ARTIFACT = f"{BUCKET}/uid/dumps.zip"
ACTIONS = {"ours": ["Admin", "Read", "Write", "List"], "reader": [], "stranger": []}
NOTHING = {"Effect": "Deny", "Principal": "*", "Action": "s3:BypassGovernanceRetention", "Resource": BUCKET}
READER = "arn:aws:iam::000000000000:user/reader"


@pytest.fixture(scope="module")
def address(
    server_programs: None,  # noqa: ARG001 - a check
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """Three users."""
    with seaweedfs(tmp_path_factory.mktemp("weed"), ACTIONS) as netloc:
        yield netloc


@pytest.fixture
def user(address: str) -> Iterator[Callable[[str], Minio]]:
    """Clients of the users, by name."""
    pool = urllib3.PoolManager()

    def client(name: str) -> Minio:
        return Minio(
            address, access_key=f"{name}-key", secret_key=f"{name}-secret", secure=False, http_client=pool
        )

    yield client
    pool.clear()


@pytest.fixture
def ours(user: Callable[[str], Minio]) -> Iterator[Minio]:
    """The bucket with an artifact in it, and neither policy nor rule, for the test to begin with."""
    client = user("ours")
    if not client.bucket_exists(BUCKET):
        client.make_bucket(BUCKET)
    client.put_object(BUCKET, "uid/dumps.zip", io.BytesIO(b"dumps"), 5)
    yield client
    nothing = json.dumps({"Version": "2012-10-17", "Statement": [NOTHING]})
    client.set_bucket_policy(BUCKET, nothing)  # SeaweedFS refuses to delete a policy that is not there
    client.delete_bucket_policy(BUCKET)
    client.delete_bucket_lifecycle(BUCKET)


Drakcelery = Callable[..., Result]


def commands(directory: Path, address: str, name: str = "ours", extra: str = "") -> Drakcelery:
    """``drakcelery bucket …`` with the credentials of a user."""
    config = directory / f"{name}.ini"
    config.write_text(
        f"[redis]\nhost = localhost\n[s3]\naddress = http://{address}\naccess_key = {name}-key\n"
        f"secret_key = {name}-secret\nbucket = karton\n[drakcelery]\nstate_dir = {directory}\n{extra}"
    )

    def drakcelery(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["bucket", *arguments, "--config", str(config)])

    return drakcelery


@pytest.fixture
def drakcelery(tmp_path: Path, address: str) -> Drakcelery:
    """The commands, with the credentials of drakcelery itself."""
    return commands(tmp_path, address)


def attempts(client: Minio) -> dict[str, int]:
    """The HTTP status of all that a user may try with the bucket."""
    tries: dict[str, Callable[[], object]] = {
        "read": lambda: client.get_object(BUCKET, "uid/dumps.zip").read(),
        "list": lambda: list(client.list_objects(BUCKET, recursive=True)),
        "read what is gone": lambda: client.get_object(BUCKET, "uid/gone"),
        "write": lambda: client.put_object(BUCKET, "uid/new", io.BytesIO(b"x"), 1),
        "overwrite": lambda: client.put_object(BUCKET, "uid/dumps.zip", io.BytesIO(b"x"), 1),
        "remove": lambda: client.remove_object(BUCKET, "uid/dumps.zip"),
        "set policy": lambda: client.set_bucket_policy(BUCKET, json.dumps(read_policy(BUCKET))),
        "remove policy": lambda: client.delete_bucket_policy(BUCKET),
        "samples": lambda: client.get_object("karton", "anything"),
    }
    return {what: _status(attempt) for what, attempt in tries.items()}


def _status(attempt: Callable[[], object]) -> int:
    try:
        attempt()
    except S3Error as error:
        return int(error.response.status)
    return 200


def test_the_reader_reads_and_the_stranger_does_not(
    drakcelery: Drakcelery, ours: Minio, user: Callable[[str], Minio]
) -> None:
    """After the grant the reader reads, and changes nothing; a stranger gets 403, as the reader did."""
    nothing = dict.fromkeys(attempts(user("stranger")), 403)
    assert attempts(user("reader")) == nothing

    done = drakcelery("grant", "reader", "--apply")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"{READER} may read 'drakrun' at http://{LOOPBACK}:")

    assert attempts(user("reader")) == {**nothing, "read": 200, "list": 200, "read what is gone": 404}
    assert attempts(user("stranger")) == nothing
    assert ours.get_object(BUCKET, "uid/dumps.zip").read() == b"dumps"


def test_karton_itself_reads_with_the_grant(
    drakcelery: Drakcelery,
    ours: Minio,  # noqa: ARG001 - the bucket
    address: str,
    services: Services,
) -> None:
    """A Karton service with the reader's credentials downloads a resource; with a stranger's it cannot."""
    assert drakcelery("grant", "reader", "--apply").exit_code == 0
    found: dict[str, object] = {}
    for name in ("reader", "stranger"):
        config = Config(check_sections=False)
        s3 = {"access_key": f"{name}-key", "secret_key": f"{name}-secret", "bucket": "karton"}
        redis = services.redis
        assert redis.password is not None
        password = redis.password.get_secret_value()
        config.load_from_dict(
            {
                "s3": {"address": f"http://{address}", **s3},
                "redis": {"host": redis.host, "port": redis.port, "password": password},
            }
        )
        backend = KartonBackend(config, identity="karton.reader")
        resource = RemoteResource("dumps.zip", bucket=BUCKET, uid="uid/dumps.zip", size=5, backend=backend)
        try:
            found[name] = resource.content
        except backend.s3.exceptions.ClientError as error:
            found[name] = error.response["ResponseMetadata"]["HTTPStatusCode"]
        finally:
            backend.s3.close()
            backend.redis.close()
    assert found == {"reader": b"dumps", "stranger": 403}


def test_printing_changes_nothing(drakcelery: Drakcelery, ours: Minio) -> None:
    """Without --apply there is a document on standard output, and nothing new at the server."""
    plain, quiet = drakcelery("grant", "reader"), drakcelery("grant", "reader", "--json")
    assert readers(plain.stdout) == readers(quiet.stdout) == {READER}
    assert ("--apply" in plain.stderr, quiet.stderr) == (True, "")
    rule = drakcelery("lifecycle", "--days", "30")
    assert json.loads(rule.stdout)["Rules"][0]["Expiration"] == {"Days": 30}
    assert json.loads(drakcelery("policy").stdout) == read_policy(BUCKET)
    with pytest.raises(S3Error, match="NoSuchBucketPolicy"):
        ours.get_bucket_policy(BUCKET)
    assert ours.get_bucket_lifecycle(BUCKET) is None


def test_a_printed_policy_is_one(drakcelery: Drakcelery, ours: Minio, user: Callable[[str], Minio]) -> None:
    """What is printed does the same when an administrator of the server puts it there."""
    ours.set_bucket_policy(BUCKET, drakcelery("grant", "reader", "--json").stdout)
    assert attempts(user("reader"))["read"] == 200


def test_a_second_grant_keeps_the_first(
    drakcelery: Drakcelery, ours: Minio, user: Callable[[str], Minio]
) -> None:
    """Readers add up, and a statement of somebody else's stays."""
    theirs = {
        "Sid": "Theirs",
        "Effect": "Deny",
        "Principal": {"AWS": [READER]},
        "Action": ["s3:GetObject"],
        "Resource": ["arn:aws:s3:::drakrun/secret/*"],
    }
    ours.set_bucket_policy(BUCKET, json.dumps({"Version": "2012-10-17", "Statement": [theirs]}))
    ours.put_object(BUCKET, "secret/x", io.BytesIO(b"x"), 1)
    assert drakcelery("grant", "reader", "--apply").exit_code == 0
    done = drakcelery("grant", "stranger", "--apply", "--json")
    assert readers(done.stdout) == {READER, READER.replace("reader", "stranger")}
    assert {one["Sid"] for one in json.loads(done.stdout)["Statement"]} > {"Theirs"}
    assert attempts(user("reader"))["read"] == attempts(user("stranger"))["read"] == 200
    assert _status(lambda: user("reader").get_object(BUCKET, "secret/x")) == 403


def test_who_may_not_grant(
    tmp_path: Path,
    address: str,
    ours: Minio,  # noqa: ARG001 - the bucket
) -> None:
    """Without the right to do it, the error names the right."""
    stranger = commands(tmp_path, address, "stranger")
    refusal = stranger("grant", "reader", "--apply")
    assert refusal.exit_code == 1
    assert "may not read the policy of 'drakrun'" in refusal.stderr
    assert "grant s3:GetBucketPolicy" in refusal.stderr
    refusal = stranger("lifecycle", "--days", "30", "--apply")
    assert "grant s3:GetLifecycleConfiguration on 'drakrun'" in refusal.stderr


@pytest.mark.parametrize("who", ["*", "arn:aws:iam::000000000000:user/*"])
def test_nobody_grants_to_the_world(drakcelery: Drakcelery, ours: Minio, who: str) -> None:
    """A wildcard is refused, and the bucket left alone."""
    refusal = drakcelery("grant", who, "--apply")
    assert (refusal.exit_code, "neither a user's name" in refusal.stderr) == (1, True)
    with pytest.raises(S3Error, match="NoSuchBucketPolicy"):
        ours.get_bucket_policy(BUCKET)


def test_lifecycle(drakcelery: Drakcelery, ours: Minio) -> None:
    """The rule is there afterwards, for the whole bucket; another number of days replaces it."""
    for days in (30, 7):
        done = drakcelery("lifecycle", "--days", str(days), "--apply")
        assert done.exit_code == 0, done.output
        assert f"removes each object of 'drakrun' {days} days after" in done.stdout
        found = ours.get_bucket_lifecycle(BUCKET)
        assert found is not None
        (rule,) = found.rules
        assert (rule.status, rule.rule_id, rule.rule_filter) == (ENABLED, RETENTION_RULE, Filter(prefix=""))
        assert rule.expiration is not None
        assert rule.expiration.days == days


def test_rules_of_others_are_not_replaced(drakcelery: Drakcelery, ours: Minio) -> None:
    """S3 has all rules of a bucket in one document: where there are some, ours is for their owner to add."""
    theirs = Rule(ENABLED, rule_filter=Filter(prefix="old/"), rule_id="theirs", expiration=Expiration(days=3))
    ours.set_bucket_lifecycle(BUCKET, LifecycleConfig([theirs]))
    refusal = drakcelery("lifecycle", "--days", "30", "--apply")
    assert (refusal.exit_code, "lifecycle rules of its own (theirs)" in refusal.stderr) == (1, True)
    found = ours.get_bucket_lifecycle(BUCKET)
    assert found is not None
    assert [rule.rule_id for rule in found.rules] == ["theirs"]


@pytest.mark.parametrize(
    ("extra", "days", "sentence"),
    [
        ("storage_patience = 86400\n", "1", "expected at least 2"),
        ("bucket = karton\n", "30", "samples that Karton still needs"),
    ],
)
def test_retention_that_would_lose_something(
    tmp_path: Path,
    address: str,
    ours: Minio,  # noqa: ARG001 - the bucket
    extra: str,
    days: str,
    sentence: str,
) -> None:
    """No rule for objects that an upload may still need, nor for a bucket that Karton keeps samples in."""
    refusal = commands(tmp_path, address, extra=extra)("lifecycle", "--days", days, "--apply")
    assert (refusal.exit_code, sentence in refusal.stderr) == (1, True)


class _Other(http.server.BaseHTTPRequestHandler):
    """What other S3 servers answer to the two questions that matter here."""

    def do_GET(self) -> None:
        """MinIO says its name; a server without bucket policies answers 501."""
        self.send_response(501)
        body = b"<Error><Code>NotImplemented</Code><Message>no</Message></Error>"
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        """The Server header."""
        return str(getattr(self.server, "software", ""))

    def log_message(self, *_args: object) -> None:
        """Nothing on standard error."""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Callable[[str], Drakcelery]]:
    """The commands at a server that calls itself as given, and has no bucket policies."""
    server = http.server.ThreadingHTTPServer((LOOPBACK, 0), _Other)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()

    def drakcelery(software: str) -> Drakcelery:
        server.software = software  # type: ignore[attr-defined] # read by the handler
        return commands(tmp_path, f"{LOOPBACK}:{server.server_address[1]}")

    yield drakcelery
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_server_without_bucket_policies(other: Callable[[str], Drakcelery]) -> None:
    """The error says that the server does not support it."""
    refusal = other("Garage")("grant", READER, "--apply")
    assert refusal.exit_code == 1
    assert "cannot read the policy of 'drakrun'" in refusal.stderr
    assert "does not support it (NotImplemented)" in refusal.stderr
    assert "does not support it" in other("Garage")("lifecycle", "--days", "3", "--apply").stderr


def test_minio_is_left_to_its_own_tool(other: Callable[[str], Drakcelery]) -> None:
    """MinIO would take the policy and ignore it: the policy to attach is printed, and --apply is refused."""
    drakcelery = other("MinIO")
    printed = drakcelery("grant", "reader")
    assert json.loads(printed.stdout) == read_policy(BUCKET)
    assert "mc admin policy attach ALIAS drakrun-read --user reader" in printed.stderr
    refusal = drakcelery("grant", "reader", "--apply")
    assert (refusal.exit_code, "--apply would have no effect" in refusal.stderr) == (1, True)
