"""``[tracing]``: where spans may go, and that a token stays secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.settings.reading import complaint, read

EXPECTED = "expected https://host:port/path, or http:// for a collector on this machine (127.0.0.1)"
HEADERS = 'expected a JSON object of headers such as {"Authorization": "Bearer ..."}'


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("https://collector:4318/v1/traces", "https://collector:4318/v1/traces"),
        ("https://collector", "https://collector/v1/traces"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
        ("http://localhost:4318/otlp/v1/traces", "http://localhost:4318/otlp/v1/traces"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
    ],
)
def test_endpoint(tmp_path: Path, text: str, endpoint: str) -> None:
    """TLS, or this machine; the path is OTLP's where none is given."""
    assert read(tmp_path, f"[tracing]\nendpoint={text}\n").tracing.endpoint == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "http://collector:4318",
        "http://192.0.2.1:4318",
        "https://me:hunter2@collector",
        "https://collector?key=hunter2",
        "https://",
        "https://collector:0",
        "https://collector:x",
        "https://[::1",
        "grpc://127.0.0.1:4317",
        "collector:4318",
    ],
)
def test_endpoint_that_is_none(tmp_path: Path, text: str) -> None:
    """No span goes through a network in the clear, and no password stands in an address."""
    said = complaint(tmp_path, f"[tracing]\nendpoint={text}\n")
    assert said.startswith("settings.ini: [tracing] endpoint = ")
    assert said.endswith(EXPECTED)


def test_headers(tmp_path: Path) -> None:
    """Headers are a JSON object; nothing shows their values."""
    settings = read(tmp_path, '[tracing]\nrequest_headers={"Authorization": "Bearer hunter2"}\n')
    assert settings.tracing.headers() == {"Authorization": "Bearer hunter2"}
    assert "hunter2" not in repr(settings)
    assert read(tmp_path, "").tracing.headers() == {}


@pytest.mark.parametrize(
    "text",
    [
        "Bearer hunter2",
        '["hunter2"]',
        '{"X-Token": 1}',
        '{"X-Token": ["hunter2"]}',
        '{"X Token": "hunter2"}',
        '{"X-Token": "hunter2\\r\\nX-Other: 1"}',
        '{"": "hunter2"}',
    ],
)
def test_headers_that_are_none(tmp_path: Path, text: str) -> None:
    """What would break a request, or be two headers, is refused without being quoted."""
    said = complaint(tmp_path, f"[tracing]\nrequest_headers={text}\n")
    assert said == f"settings.ini: [tracing] request_headers = ***: {HEADERS}"
