"""The runner of the doctor's checks: their order, their time, what is left out, and no secret told."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from importlib import resources

import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from drakcelery.cli.doctor import doctor
from drakcelery.doctor import CHECKS, rights
from drakcelery.doctor.finding import Check, Finding, Status, Verdict, failed, ok, skipped, warning
from drakcelery.doctor.runner import chosen, examine
from drakcelery.doctor.subject import Subject, endpoint_of
from drakcelery.doctor.view import findings_view
from drakcelery.errors import SettingsError, StackError, StorageError
from drakcelery.operators.views import console
from drakcelery.settings import CelerySection, RedisSection, S3Section, Settings
from tests import reference


def check(name: str, look: Callable[[Subject], Verdict], *needs: str, seconds: float = 10) -> Check:
    """A check of that name."""
    return Check(name=name, what=f"{name} is", remedy="Mend it.", examine=look, needs=needs, seconds=seconds)


def found(*checks: Check, settings: Settings | None = None) -> dict[str, Finding]:
    """What is found, by check."""
    return {one.check: one for one in examine(checks, Subject(lambda: settings or Settings()))}


def test_a_short_secret_is_no_part_of_a_word() -> None:
    """To mask it there would make findings unreadable, and give it away; a long one is masked anywhere."""
    text = "b://:b@h: everybody, minioadminX"
    ours = Settings(
        redis=RedisSection(password=SecretStr("b")), s3=S3Section(secret_key=SecretStr("minioadmin"))
    )
    told = found(check("a.told", lambda it: failed(text, str(it.settings))), settings=ours)["a.told"]
    assert told.said == "***://:***@h: everybody, ***X"


def test_what_makes_no_sense_is_skipped() -> None:
    """A check whose ground failed, or was skipped, is not looked at; one whose ground only warned is."""
    result = found(
        check("a.bad", lambda _: failed("broken")),
        check("b.on_bad", lambda _: pytest.fail("looked"), "a.bad"),
        check("c.on_skipped", lambda _: pytest.fail("looked"), "b.on_bad"),
        check("d.so_so", lambda _: warning("not good", "Do it better.")),
        check("e.on_so_so", lambda _: ok("fine"), "d.so_so"),
        check("f.elsewhere", lambda _: skipped("not here")),
    )
    assert [(one.status, one.said, one.remedy) for one in result.values()] == [
        (Status.FAILED, "broken", "Mend it."),
        (Status.SKIPPED, "needs a.bad", None),
        (Status.SKIPPED, "needs b.on_bad", None),
        (Status.WARNING, "not good", "Do it better."),
        (Status.OK, "fine", None),
        (Status.SKIPPED, "not here", None),
    ]


def test_a_check_that_hangs_holds_up_nobody() -> None:
    """After its time a check has failed, and the next one is looked at."""
    never = threading.Event()

    def hang(_: Subject) -> Verdict:
        never.wait()
        return ok("at last")

    result = found(check("a.hangs", hang, seconds=0.05), check("b.next", lambda _: ok("fine")))
    never.set()
    assert (result["a.hangs"].status, result["a.hangs"].said) == (Status.FAILED, "no answer within 0 seconds")
    assert result["b.next"].status is Status.OK


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StorageError("S3 is away"), "S3 is away"),
        (PermissionError(13, "Permission denied", "/x"), "[Errno 13] Permission denied: '/x'"),
        (ZeroDivisionError("oh"), "the check itself broke: ZeroDivisionError: oh"),
    ],
)
def test_an_error_is_a_finding(error: Exception, said: str) -> None:
    """Whatever a check raises ends that check, and is said."""

    def look(_: Subject) -> Verdict:
        raise error

    assert (found(check("a.b", look))["a.b"].status, found(check("a.b", look))["a.b"].said) == (
        Status.FAILED,
        said,
    )


def test_settings_that_do_not_load_are_one_finding() -> None:
    """A wrong file fails the first check and leaves out all that need settings; nothing raises."""

    def load() -> Settings:
        raise SettingsError("[redis] port = 'x': expected a number")

    result = {one.check: one for one in examine(CHECKS, Subject(load))}
    assert (result["settings.load"].status, result["settings.load"].said) == (
        Status.FAILED,
        "[redis] port = 'x': expected a number",
    )
    others = {name for name, one in result.items() if one.status is not Status.SKIPPED}
    assert others == {"settings.load", "host.libmagic"}


def test_no_secret_is_told() -> None:
    """Neither in what is found nor in the remedy, as it is or as a URL spells it."""
    settings = Settings(
        redis=RedisSection(password=SecretStr("p@ss/word")),
        s3=S3Section(secret_key=SecretStr("key-of-s3")),
        celery=CelerySection(broker_url=SecretStr("amqp://u:of-rabbit@h//")),
    )
    text = "p@ss/word p%40ss%2Fword key-of-s3 amqp://u:of-rabbit@h// of-rabbit"

    def look(subject: Subject) -> Verdict:
        assert subject.settings is settings
        return failed(text, text)

    finding = found(check("a.b", look), settings=settings)["a.b"]
    assert (finding.said, finding.remedy) == ("*** *** *** *** ***", "*** *** *** *** ***")


def test_a_place_has_no_credentials() -> None:
    """Servers are named by host, port and database."""
    assert endpoint_of("redis://user:secret@h:1/2") == "h:1/2"
    assert endpoint_of("sentinel://:secret@a:1/0;sentinel://:secret@b:2/0") == "a:1, b:2/0"


def test_some_checks_alone() -> None:
    """An area or a check is looked at with all that it needs, in the usual order; no other."""
    assert [one.name for one in chosen(CHECKS, ["karton.bind"])] == [
        "settings.load",
        "redis.reachable",
        "karton.bind",
    ]
    areas = {one.name.partition(".")[0] for one in chosen(CHECKS, ["s3"])}
    assert areas == {"settings", "s3"}
    assert chosen(CHECKS, []) == list(CHECKS)
    with pytest.raises(StackError, match=r"no check s4; there are settings\.load"):
        chosen(CHECKS, ["s4"])


def test_checks_stand_behind_what_they_need() -> None:
    """Names are unique, and each check comes after those that it needs."""
    seen: list[str] = []
    for one in CHECKS:
        assert re.fullmatch(r"[a-z0-9]+\.[a-z_]+", one.name)
        assert one.name not in seen
        assert set(one.needs) <= set(seen), one.name
        seen.append(one.name)


def test_every_check_is_documented() -> None:
    """docs/doctor.md has a row for each check, in their order, with what is checked and how it is fixed."""
    page = (reference.ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    page = page.replace(r"\*", "*")  # as Markdown wants it
    rows = re.findall(r"^\| `([a-z0-9_.]+)` \| (.+?) \| (.+?) \|$", page, re.MULTILINE)
    assert [tuple(row) for row in rows] == [(one.name, one.what, one.remedy) for one in CHECKS]


def test_every_command_of_the_scripts_is_tried() -> None:
    """What a script does inside Redis is among the commands whose rights are checked.

    But for ZINTERCARD, which Redis 6.2 has not: a search does without, and takes longer.
    """
    scripts = resources.files("drakcelery.ledger") / "lua"
    called = {
        command
        for entry in scripts.iterdir()
        if entry.name.endswith(".lua")
        for command in re.findall(r"redis\.p?call\('([A-Z]+)'", entry.read_text(encoding="utf-8"))
    }
    tried = {command[0] for command in rights.ledger_commands("karton.x")}
    assert called
    assert called - {"ZINTERCARD"} <= tried


def test_findings_on_a_terminal() -> None:
    """Each finding has its line, below it the remedy; control characters of others do no harm."""
    finding = Finding(
        check="a.b", what="w", status=Status.FAILED, said="\x1b[2Jgone", remedy="Mend it.", seconds=0.1
    )
    terminal = console()
    with terminal.capture() as captured:
        terminal.print(findings_view([finding]))
    text = captured.get()
    assert "\x1b[2J" not in text
    assert "�[2Jgone" in text
    assert "→ Mend it." in text
    assert "1 failed" in text


def test_a_wrong_name_is_refused() -> None:
    """--only of a check that is not there says which there are, and looks at nothing."""
    result = CliRunner().invoke(doctor, ["--only", "nothing"])
    assert isinstance(result.exception, StackError)
