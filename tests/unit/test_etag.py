"""The ETag of what is sent to S3."""

from __future__ import annotations

import functools
import hashlib

from hypothesis import given
from hypothesis import strategies as st

from drakcelery.storage import etag

md5 = functools.partial(hashlib.md5, usedforsecurity=False)


@given(st.lists(st.binary(min_size=1), min_size=1))
def test_it_is_s3s_own(parts: list[bytes]) -> None:
    """MD5 for one request; for a multipart upload the MD5 of the parts' MD5s and their number."""
    joined = md5(b"".join(md5(part).digest() for part in parts)).hexdigest()
    assert etag.of_object(parts[0]) == md5(parts[0]).hexdigest()
    assert etag.of_parts([etag.of_object(part) for part in parts]) == f"{joined}-{len(parts)}"
