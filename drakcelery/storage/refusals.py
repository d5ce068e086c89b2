"""What a refusal of S3 means to a person, and what mends it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from minio.error import S3Error

from drakcelery.storage.client import RegionRefused

BAD_CREDENTIALS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken")
_UNSUPPORTED = ("NotImplemented", "MethodNotAllowed")
_ELSEWHERE = ("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException")
"""The region that a request was signed for is another one than the bucket's."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was refused, where, and to whom."""

    action: str
    grant: str
    """The right that it needs."""
    bucket: str
    address: str
    user: str


def refusal(error: S3Error, asked: Asked) -> tuple[str, str]:
    """A sentence, and its remedy, which names no command."""
    if error.code in BAD_CREDENTIALS or error.code == "RequestTimeTooSkewed":
        return _of_us(str(error.code), asked)
    if error.response.status == 403:
        return _of_rights(error, asked)
    where = f"cannot {asked.action}: S3 at {asked.address}"
    if error.code == "NoSuchBucket":
        said = f"cannot {asked.action}: there is no bucket {asked.bucket!r} at {asked.address}"
        return said, f"Make the bucket {asked.bucket!r}, or set the name of the right one."
    if error.code in _ELSEWHERE:
        return (
            f"{where} has {asked.bucket!r} in another region ({error.code}); see [s3] region",
            "Set [s3] region to that of the bucket, or leave it empty, and S3 is asked for it.",
        )
    if error.code in _UNSUPPORTED:
        said = f"{where} does not support it ({error.code})"
        return said, "Use an S3 server that supports it, or a newer version of this one."
    return f"{where} answers {error.code} ({error.response.status})", "See S3's own log."


def _of_us(code: str, asked: Asked) -> tuple[str, str]:
    where = f"cannot {asked.action}: S3 at {asked.address}"
    if code == "RequestTimeTooSkewed":
        clock = "see that it is kept right (timedatectl)"
        said = f"{where} finds that the clock of this machine is wrong ({code}); {clock}"
        return said, "Keep the clocks of this machine and of S3 right, by NTP."
    said = f"{where} does not accept {asked.user} or its secret ({code}); see [s3] access_key and secret_key"
    return said, "Set [s3] access_key and secret_key to what Karton's karton.ini has."


def _of_rights(error: S3Error, asked: Asked) -> tuple[str, str]:
    right = f"{asked.grant} on {asked.bucket!r}"
    said = f"{asked.user} may not {asked.action} at {asked.address}: grant {right} to it"
    if isinstance(error, RegionRefused):
        return (
            f"{said}, and s3:GetBucketLocation; or set [s3] region, and it need not ask for that",
            f"Set [s3] region, or grant s3:GetBucketLocation on {asked.bucket!r} to {asked.user}.",
        )
    return said, f"Grant {right} to {asked.user}."
