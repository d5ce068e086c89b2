"""What OpenSSL says, as each library hands it on, in words for people."""

from __future__ import annotations

import pytest
from pydantic import SecretStr, ValidationError

from drakcelery.errors import SettingsError
from drakcelery.model.certificates import tls_fault
from drakcelery.settings import RedisSection, S3Section, Settings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1)",
            "vouches",
        ),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed (_ssl.c:1)", "vouches"),
        (
            "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:1)",
            "does not accept our certificate",
        ),
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] required (_ssl.c:1)", "demands a certificate"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1)", "does not speak TLS"),
        ("[SSL: NO_CIPHERS_AVAILABLE] no ciphers available (_ssl.c:1)", "no way to speak TLS"),
    ],
)
def test_words_of_openssl(text: str, said: str) -> None:
    """They are found in an error, in what it wraps, and in what it comes from."""
    wrapped = OSError("lost")
    wrapped.__context__ = ValueError(text)
    for error in (OSError(text), OSError(1, OSError(text)), wrapped):
        fault = tls_fault(error, section="s3", plain="say http")
        assert fault is not None
        assert said in fault.said


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("redis", "[redis] ssl_ca_certs"),
        (None, "ssl_ca_certs in the query of [celery] broker_url"),
    ],
)
def test_the_remedy_names_the_key_that_counts(section: str | None, key: str) -> None:
    """A broker of its own has the files in its URL: the keys of Karton's Redis are not for it."""
    text = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1)"
    fault = tls_fault(OSError(text), section=section, plain="")
    assert fault is not None
    assert fault.remedy.endswith(f"{key}.")


def test_other_errors_are_none_of_tls() -> None:
    """A connection that was refused says nothing of certificates."""
    assert tls_fault(ConnectionRefusedError(111, "Connection refused"), section="s3", plain="") is None


@pytest.mark.parametrize(
    ("redis", "s3", "said"),
    [
        ({"ssl_ca_certs": "/ca.pem"}, {}, r"ssl = 1, or a url with rediss://"),
        ({}, {"ssl_ca_certs": "/ca.pem"}, r"an address with https://"),
        ({"ssl": True, "ssl_keyfile": "/key.pem"}, {}, "ssl_certfile as well"),
        ({}, {"address": "https://s3:1", "ssl_keyfile": "/key.pem"}, "ssl_certfile as well"),
    ],
)
def test_files_without_effect_are_refused(redis: dict[str, object], s3: dict[str, object], said: str) -> None:
    """A file for TLS where there is none, and a key without its certificate."""
    with pytest.raises(ValidationError, match=said):
        Settings.model_validate({"redis": redis, "s3": s3})


def test_the_url_wins(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a URL names counts before the other keys, and the broker gets all of it."""
    ca = tmp_path_factory.mktemp("ca") / "ca.pem"
    url = SecretStr("rediss://h:1/2?ssl_ca_certs=/other.pem")
    section = RedisSection(url=url, ssl_ca_certs=ca, ssl_certfile=ca)
    assert section.address().startswith("rediss://h:1/2?ssl_ca_certs=%2Fother.pem&ssl_certfile=")
    assert "ssl_ca_certs=%2Fother.pem" in Settings(redis=section).broker_url
    with pytest.raises(SettingsError, match=r"\[redis\] ssl_ca_certs = /other\.pem: cannot be read"):
        section.require_files()
    with pytest.raises(SettingsError, match=r"\[s3\] ssl_keyfile = .*ca\.pem: cannot be read"):
        S3Section(address="https://h:1", ssl_keyfile=ca).require_files()
