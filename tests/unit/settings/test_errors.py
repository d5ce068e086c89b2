"""What is said when a setting is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakcelery.errors import SettingsError
from drakcelery.settings import load
from tests.unit.settings.reading import complaint, read


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[redis]\nport=abc", "[redis] port = 'abc': expected a whole number"),
        ("[redis]\nport=0", "[redis] port = '0': expected at least 1"),
        ("[redis]\nport=70000", "[redis] port = '70000': expected at most 65535"),
        ("[redis]\nssl=maybe", "[redis] ssl = 'maybe': expected true or false (1/0, yes/no, on/off)"),
        ("[redis]\nhots=x", "[redis] hots: no such setting; did you mean host?"),
        *(
            (
                f"[redis]\nhost={host}",
                f"[redis] host = '{host}': expected a name or an IP address, without scheme and port",
            )
            for host in ("redis:6379", "http://redis", "[::1]", "a b", "redis/1", "redis?x")
        ),
        (
            "[drakmon]\nzzz=1",
            "[drakmon] zzz: no such setting; [drakmon] has system_disable",
        ),
        (
            "[s3]\naddress=localhost:9000",
            "[s3] address = 'localhost:9000': expected http://host:port or https://host:port",
        ),
        (
            "[drakrun]\nidentity=a b",
            "[drakrun] identity = 'a b': expected a Karton identity: no spaces, no '?'",
        ),
        (
            "[drakrun]\nfilters=[{}",
            "[drakrun] filters = '[{}': expected JSON (Expecting ',' delimiter: column 4)",
        ),
        (
            "[drakrun]\nfilters={}",
            '[drakrun] filters = {}: expected a JSON list of objects such as [{"type": "sample"}]',
        ),
        ("[drakrun]\nfilters=[]", "[drakrun] filters = '[]': expected at least one entry"),
        (
            '[drakrun]\nfilters=[{"type": "sample"}, 3]',
            '[drakrun] filters = 3: expected a JSON object such as {"type": "sample"} (entry 2)',
        ),
        ("[drakrun]\nheaders={}", "[drakrun] headers = '{}': expected at least one entry"),
        (
            "[drakrun]\nxen_cmdline_check=maybe",
            "[drakrun] xen_cmdline_check = 'maybe': expected fail or ignore",
        ),
        (
            "[drakrun]\nanalysis_timeout=1201",
            "[drakrun] analysis_timeout = 1201: expected at most 1200, the [drakcelery] hard_time_limit",
        ),
        (
            "[watch]\nextend_to=600",
            (
                "[watch] extend_to = 600: expected 0, or more than 600, the [drakrun] analysis_timeout, "
                "and at most 1200, the [drakcelery] hard_time_limit"
            ),
        ),
        (
            "[watch]\nqualities=high, not this",
            (
                "[watch] qualities = 'high, not this': expected names of qualities such as high, low; "
                "'not this' is none"
            ),
        ),
        ("[watch]\nmode=off", "[watch] mode = 'off': expected shadow or active"),
        (
            "[drakvuf_plugins]\nlow=apimon,memdmp",
            (
                "[drakvuf_plugins] low = 'apimon,memdmp': "
                "expected names of DRAKVUF plugins, and memdmp is none (did you mean memdump?)"
            ),
        ),
        (
            "[slots]\nvm-1=win 10",
            (
                "[slots] vm-1 = 'win 10': "
                "expected a name of letters, digits, '.', '_' and '-' (64 at most, a letter or digit first)"
            ),
        ),
        (
            "[slots]\n../vm=win10",
            (
                "[slots] ../vm = '../vm': expected left of the '=' "
                "a name of letters, digits, '.', '_' and '-' (64 at most, a letter or digit first)"
            ),
        ),
        (
            "[drakcelery]\nengine=xen",
            "[drakcelery] engine = 'xen': expected auto, drakvuf, emulator or replay",
        ),
        (
            "[drakcelery]\nbucket=A",
            (
                "[drakcelery] bucket = 'A': "
                "expected a bucket name: 3 to 63 lower-case letters, digits, '.' and '-'"
            ),
        ),
        (
            "[drakcelery]\nstate_dir=state",
            (
                "[drakcelery] state_dir = 'state': "
                "expected an absolute path: the processes of a host start in different directories"
            ),
        ),
        ("[replay]\nrun_seconds=x", "[replay] run_seconds = 'x': expected a number"),
        ("[watch]\nmax_loss=0.6", "[watch] max_loss = '0.6': expected at most 0.5"),
        ("[watch]\nmax_loss=0", "[watch] max_loss = '0': expected at least 0.005"),
        ("[replay]\nrun_seconds=-1", "[replay] run_seconds = '-1': expected at least 0"),
        ("[replay]\nrun_seconds=inf", "[replay] run_seconds = 'inf': expected a finite number"),
        (
            "[redis]\nurl=unix:///run/redis",
            "[redis] url = ***: expected redis://[user:password@]host:port/database, or rediss:// for TLS",
        ),
        (
            "[celery]\nbroker_url=redis://h/x",
            (
                "[celery] broker_url = ***: "
                "expected redis://[user:password@]host:port/database, rediss:// for TLS, "
                "sentinel://host:port/database?master_name=name, or amqp:// or amqps:// of a RabbitMQ"
            ),
        ),
        ("[redis]\nport=1\nport=2", "line 3: [redis] port is set a second time"),
        ("[redis]\n[s3]\n[redis]", "line 3: a second section [redis]"),
        ("host=x", "line 1: expected a [section] before the first key"),
        ("[redis]\nhost=a\nhunter2", "line 3: expected key = value"),
        ("[DEFAULT]\nhost=x", "[DEFAULT]: expected each key in the section it belongs to"),
        ("[slot]\nvm-1=win10", "[slot]: no such section; did you mean [slots]?"),
        ("[Redis]\nhost=x", "[Redis]: no such section; did you mean [redis]?"),
        ("[minio]\nsecure=maybe", "[minio] secure = 'maybe': expected true or false (1/0, yes/no, on/off)"),
    ],
)
def test_wrong_setting_is_named(tmp_path: Path, text: str, said: str) -> None:
    """The sentence has the file, the section, the key, the value and what was expected."""
    assert complaint(tmp_path, text) == f"settings.ini: {said}"


def test_every_wrong_value_gets_its_sentence(tmp_path: Path) -> None:
    """All faults of a file are reported at once, each from where it came."""
    said = complaint(tmp_path, "[redis]\nport=x\ndb=y\n", DRAKCELERY_REDIS_DB="z")
    assert said.splitlines() == [
        "settings.ini: [redis] port = 'x': expected a whole number",
        "DRAKCELERY_REDIS_DB: [redis] db = 'z': expected a whole number",
    ]


def test_file_that_is_no_text(tmp_path: Path) -> None:
    """A binary file is refused with the place of the first wrong byte."""
    path = tmp_path / "settings.ini"
    path.write_bytes(b"[redis]\nhost=\xff\n")
    with pytest.raises(SettingsError, match=r"expected text in UTF-8 \(byte 14 is not\)"):
        load(path, environment={})


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("percent sign", "[redis]\npassword=hunter2%x"),
        ("unknown reference", "[redis]\npassword=hunter2%(x)s"),
        ("no key", "[redis]\nhunter2"),
        ("no section", "hunter2=1"),
        ("number", "[redis]\nurl=redis://:hunter2@host:hunter2/0"),
        ("address", "[redis]\nurl=redis://:hunter2@[::1/0"),
        ("broker", "[celery]\nbroker_url=mqtt://me:hunter2@host"),
        ("S3 without scheme", "[s3]\naddress=me:hunter2@host:9000"),
        ("S3", "[s3]\naddress=http://me:hunter2@host:9000"),
        ("collector", "[tracing]\nendpoint=https://me:hunter2@host"),
        ("host", "[redis]\nhost=me:hunter2@host"),
    ],
)
def test_errors_keep_secrets(tmp_path: Path, key: str, text: str) -> None:
    """No error quotes a line or a value that may hold a password."""
    assert "hunter2" not in complaint(tmp_path, text), key


def test_repr_keeps_secrets(tmp_path: Path) -> None:
    """Printing the settings shows no credential."""
    settings = read(
        tmp_path,
        "[redis]\npassword=hunter2\nurl=redis://:hunter2@host/0\n"
        "[s3]\naccess_key=hunter2\nsecret_key=hunter2\n[celery]\nbroker_url=redis://:hunter2@host/1\n",
    )
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings)


@given(st.binary(max_size=200))
def test_any_bytes_give_settings_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Whatever a file holds, loading it ends with settings or with a SettingsError."""
    path = tmp_path_factory.getbasetemp() / "any.ini"
    path.write_bytes(content)
    said = str(path)
    try:
        load(path, environment={})
    except SettingsError as error:
        said = str(error)
    assert str(path) in said
