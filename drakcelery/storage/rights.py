"""What belongs to a bucket rather than to its objects: who may read it, and how long it keeps them."""

from __future__ import annotations

from minio.commonconfig import ENABLED, Filter
from minio.error import S3Error
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule

from drakcelery.storage.server import Server


class Rights:
    """Policies and lifecycle rules at one server. Every method raises :class:`StorageError`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def software(self) -> str:
        """What the server calls itself in its Server header; empty if it does not say."""
        with self._server.errors("ask S3 for its name", "", ""):
            return self._server.pool.request("GET", self._server.address).headers.get("Server", "")

    def bucket_policy(self, bucket: str) -> str | None:
        """The bucket's policy, as JSON; None if it has none, or there is no bucket."""
        with self._server.errors(f"read the policy of {bucket!r}", "s3:GetBucketPolicy", bucket):
            try:
                return self._server.client.get_bucket_policy(bucket)
            except S3Error as error:
                if error.code in ("NoSuchBucketPolicy", "NoSuchBucket"):
                    return None
                raise

    def set_bucket_policy(self, bucket: str, policy: str) -> None:
        """Replace the bucket's policy."""
        with self._server.errors(f"set the policy of {bucket!r}", "s3:PutBucketPolicy", bucket):
            self._server.client.set_bucket_policy(bucket, policy)

    def expirations(self, bucket: str) -> dict[str, int | None]:
        """The bucket's lifecycle rules by id: after how many days all objects go; None: it says otherwise.

        No bucket has none.
        """
        with self._server.errors(f"read the lifecycle of {bucket!r}", "s3:GetLifecycleConfiguration", bucket):
            try:
                found = self._server.client.get_bucket_lifecycle(bucket)
            except S3Error as error:
                if error.code == "NoSuchBucket":
                    return {}
                raise
        rules = found.rules if found is not None else []
        return {rule.rule_id or f"rule {number}": _days(rule) for number, rule in enumerate(rules, start=1)}

    def set_expiration(self, bucket: str, rule: str, days: int) -> None:
        """Make *rule*, which removes all objects that old, the bucket's only one."""
        only = Rule(ENABLED, rule_filter=Filter(prefix=""), rule_id=rule, expiration=Expiration(days=days))
        with self._server.errors(f"set the lifecycle of {bucket!r}", "s3:PutLifecycleConfiguration", bucket):
            self._server.client.set_bucket_lifecycle(bucket, LifecycleConfig([only]))

    def begin_and_abort(self, bucket: str, key: str) -> None:
        """Begin a multipart upload and give it up: shows that *key* may be written, and leaves no object."""
        with self._server.errors(f"write {bucket}/{key}", "s3:PutObject and s3:AbortMultipartUpload", bucket):
            upload = self._server.client.begin(bucket, key, {})
            self._server.client.abort(bucket, key, upload)


def _days(rule: Rule) -> int | None:
    """None unless *rule* removes every object by age."""
    prefix = rule.rule_filter.prefix if rule.rule_filter is not None else ""
    if rule.status != ENABLED or prefix or prefix is None or rule.expiration is None:
        return None
    return rule.expiration.days
