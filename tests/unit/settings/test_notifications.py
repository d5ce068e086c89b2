"""``[notifications]``: which addresses and secrets are taken, and that neither is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from drakcelery.model.analysis import State
from drakcelery.settings import load
from tests.unit.settings.reading import complaint, read

SECRET = "hunter2hunter2hunter2"


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.org/a/b?c=d",
        "https://10.0.0.1:8443/",
        "http://127.0.0.1:8080/hook",
        "http://localhost/hook",
        "http://[::1]:8080/hook",
    ],
)
def test_addresses(tmp_path: Path, url: str) -> None:
    """HTTPS anywhere, HTTP on this machine only."""
    ours = read(tmp_path, f"[notifications]\nurl={url}\nsecret={SECRET}").notifications
    assert ours.url is not None
    assert ours.url.get_secret_value() == url
    assert ours.events == {State.PUBLISHED, State.FAILED, State.CANCELLED}


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.org/hunter2",
        "http://10.0.0.1/hunter2",
        "http://127.0.0.1.example.org/hunter2",
        "https:///hunter2",
        "https://me:hunter2@host/",
        "https://host/#hunter2",
        "https://host:99999/hunter2",
        "https://host/hunter2 a",
        "https://hôst/hunter2",
        "ftp://host/hunter2",
        "file:///hunter2",
        "hunter2",
    ],
)
def test_other_addresses_are_refused(tmp_path: Path, url: str) -> None:
    """With a sentence that does not repeat the address."""
    assert complaint(tmp_path, f"[notifications]\nurl={url}\nsecret={SECRET}") == (
        "settings.ini: [notifications] url = ***: expected https://host/path, or http:// for a server "
        "on this machine (127.0.0.1, localhost)"
    )


def test_every_notice_is_signed(tmp_path: Path) -> None:
    """A url needs a secret, and a secret some length."""
    assert complaint(tmp_path, "[notifications]\nurl=https://host/") == (
        "settings.ini: [notifications] secret = ***: expected a secret, since [notifications] url is set: "
        "every notice is signed"
    )
    assert complaint(tmp_path, "[notifications]\nsecret=hunter2") == (
        "settings.ini: [notifications] secret = ***: expected 16 characters or more, such as openssl rand "
        "-hex 32 prints"
    )


def test_they_are_not_shown(tmp_path: Path) -> None:
    """Neither the secret nor the address, which may hold a key, is in what is printed of the settings."""
    settings = read(tmp_path, f"[notifications]\nurl=https://host/hunter2\nsecret={SECRET}")
    assert "hunter2" not in f"{settings!r} {settings} {settings.notifications!r}"
    assert "hunter2" not in settings.model_dump_json()


def test_off_by_default() -> None:
    """Nobody is told unless somebody asks."""
    assert load(environment={}).notifications.url is None


def test_ends_are_chosen(tmp_path: Path) -> None:
    """Each end can be left out."""
    assert read(tmp_path, "[notifications]\npublished=0\ncancelled=0").notifications.events == {State.FAILED}
