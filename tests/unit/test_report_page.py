"""What an analyst is shown of a report: in which order, how wide, and nothing of it that does something."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.cells import cell_len
from rich.console import Console

from drakcelery.behaviour.report import Report
from drakcelery.operators.report.markdown import code, markdown
from drakcelery.operators.report.processes import DEEPEST, Cast
from drakcelery.operators.report.sections import MOST, document
from drakcelery.operators.report.summary import facts
from drakcelery.operators.report.text import print_page
from drakcelery.operators.report.values import LONG, SHORT, shown, shown_host
from drakcelery.testing import RECORDED
from tests.large_reports import hostile_report
from tests.reports import NASTY, SAMPLE, SEEN, WINDOWS, file, hostile, process, report

EVIL = "\x1b[31m\u202eexe.`|<b>\n[x](http://evil.example/a)\x9b@me"


def text(given: Report, *, width: int | None = None, everything: bool = False, colour: bool = False) -> str:
    """The page as it is printed: on a terminal of *width* columns, or in a pipe."""
    out = io.StringIO()
    console = Console(file=out, width=width or 200, force_terminal=width is not None, no_color=not colour)
    print_page(console, document(given, everything=everything))
    return out.getvalue()


def plain(given: Report, **how: Any) -> str:
    """As :func:`text`, without what makes it bold."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text(given, **how))


def section(page: str, title: str) -> list[str]:
    """The lines below the title of a section."""
    rows = page.split(f"\n{title} (", 1)[1].split("\n\n", 1)[0]
    return rows.splitlines()[1:]


def tokens(page: str) -> Iterator[Token]:
    """What a reader of Markdown makes of *page*, in tables too."""
    for token in MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(page):
        yield token
        yield from token.children or ()


def test_the_recorded_analysis() -> None:
    """Who did what, in a pipe: each line whole, nothing of the terminal in it."""
    page = text(Report.model_validate_json((RECORDED / "report.json").read_bytes()))
    assert "\x1b" not in page
    assert page.splitlines()[0] == "behaviour.exe"
    assert "\nThe sample was watched until the run ended. What it was seen to do is listed.\n" in page
    tree = section(page, "Processes")
    assert tree[0].startswith("  behaviour.exe (1056)  the sample  exit 0  ")
    assert re.fullmatch(r"  `- cmd\.exe \(1108\)  \+\d\.\d s  cmd\.exe /c echo drakcelery-sample", tree[1])
    assert section(page, "Network") == [
        "  name sample[.]drakcelery[.]invalid  is 198[.]51[.]100[.]3  2 times",
        "  TCPv4  198[.]51[.]100[.]3  port 8080",
        "  HTTP GET  hxxp://sample[.]drakcelery[.]invalid/hello  from 198[.]51[.]100[.]3  port 8080",
    ]
    assert section(page, "Indicators")[0] == "  host sample[.]drakcelery[.]invalid"
    assert section(page, "Key calls") == [
        "  network  gethostbyname (1), connect (1)",
        "  execution  CreateProcess (1)",
    ]
    assert (
        "Nothing of the sample's was recorded: Injections, Services, Scheduled tasks, Mutexes, WMI." in page
    )


@pytest.mark.parametrize(
    ("observed", "complete", "is_alert"),
    [
        ("activity", True, False),
        ("activity", False, True),
        ("nothing", True, False),
        ("broke_off", False, True),
        ("not_executed", True, True),
        ("no_log", True, True),
    ],
)
def test_the_end_comes_first(observed: str, complete: bool, is_alert: bool) -> None:
    """The sentence is there as it is; a page that does not say all is not in the colour of a whole one."""
    said = {"execution": "executed", "complete": complete, "observed": observed, "summary": "So it was."}
    page = text(report(ending=said), width=80, colour=True)
    assert f"\x1b[1;{'33' if is_alert else '32'}mSo it was.\x1b[0m" in page
    assert page.index("So it was.") < page.index("Processes (")


def test_what_is_telling_comes_first() -> None:
    """Of many files those that Windows starts, or that can be run; the others are counted."""
    files = [file(f"C:\\data\\{number}.txt") for number in range(100)]
    files += [file("C:\\a.exe", executable=True), file("C:\\b.lnk", autostart="Startup folder", count=3)]
    page = plain(report(files=files))
    lines = section(page, "Files")
    assert lines[0] == "  C:\\a.exe  written  executable"
    assert lines[1] == "  C:\\b.lnk  written  autostart: Startup folder  3 times"
    assert len(lines) == MOST + 1
    assert lines[-1] == f"  … {102 - MOST} more: --all shows them"
    assert len(section(plain(report(files=files), everything=True), "Files")) == 102


def test_registry_services_and_the_rest() -> None:
    """Each kind says what was done, to what, and what it means."""
    run = "\\REGISTRY\\MACHINE\\Software\\Microsoft\\Windows\\CurrentVersion\\Run"
    page = plain(
        report(
            registry=[
                {**SEEN, "action": "deleted", "key": "\\REGISTRY\\X"},
                {**SEEN, "action": "set", "key": "\\REGISTRY\\Y", "value_name": "", "value": ""},
                {**SEEN, "action": "set", "key": run, "value_name": "u", "value": "C:\\u.exe"}
                | {"autostart": "Run key"},
            ],
            services=[{**SEEN, "name": "svc", "actions": ["created", "started"], "program": "C:\\s.exe"}],
            tasks=[{**SEEN, "name": "\\t", "evidence": ["file", "command"]}],
            mutexes=[{**SEEN, "name": "Global\\m"}],
            wmi=[{**SEEN, "method": "ExecQuery", "text": "SELECT * FROM Win32_BIOS"}],
            injections=[{**SEEN, "target": 0, "methods": ["WriteProcessMemory"]}],
            dumps=[
                {**SEEN, "name": "d_1", "base": "0x4", "size": 9, "reason": "r", "method": "m"}
                | {"in_zip": False}
            ],
            files=[file("C:\\a", renamed_to="C:\\b", sha256="cd" * 32)],
        )
    )
    assert section(page, "Registry") == [
        "  HKLM\\Software\\Microsoft\\Windows\\CurrentVersion\\Run  set u  to C:\\u.exe  autostart: Run key",
        "  \\REGISTRY\\X  deleted",
        "  \\REGISTRY\\Y  set (default)  to (empty)",
    ]
    assert section(page, "Services") == ["  svc  created, started  runs C:\\s.exe"]
    assert section(page, "Scheduled tasks") == ["  \\t  known by file, command"]
    assert section(page, "Mutexes") == ["  Global\\m"]
    assert section(page, "WMI") == ["  ExecQuery  SELECT * FROM Win32_BIOS"]
    assert section(page, "Injections") == ["  into explorer.exe (100)  WriteProcessMemory"]
    assert section(page, "Memory dumps") == ["  d_1  9 bytes  at 0x4  r  not in dumps.zip, which has a limit"]
    assert section(page, "Files") == [f"  C:\\a  written  to C:\\b  sha256 {'cd' * 32}"]


def test_what_only_windows_did_is_counted() -> None:
    """It is shown on demand; traffic, which tells no process, is shown always."""
    own, others = file("C:\\own"), file("C:\\others", processes=[0])
    tls = {**SEEN, "processes": [], "name": "c2.example", "address": "2001:db8::1", "port": 443}
    stranger = process(2, origin="windows", image="svchost.exe")
    given = report(files=[own, others], network={"tls": [tls]}, processes=[WINDOWS, SAMPLE, stranger])
    page = plain(given)
    assert section(page, "Files") == ["  C:\\own  written"]
    assert section(page, "Network") == ["  TLS c2[.]example  at 2001[:]db8[:][:]1  port 443"]
    assert "Not shown, since only Windows did it: processes 1, files 1." in page
    whole = plain(given, everything=True)
    assert section(whole, "Files")[1] == "  C:\\others  written  by explorer.exe (100)"
    assert "Not shown" not in whole


def test_nobody_is_the_samples() -> None:
    """Where no process is known to be the sample's, that is said, and what Windows did is shown."""
    page = plain(report(processes=[WINDOWS], files=[file("C:\\others", processes=[0])]))
    assert "No process is known to be the sample's: what is listed is what Windows did.\n" in page
    assert section(page, "Files") == ["  C:\\others  written  by explorer.exe (100)"]


def test_what_was_left_out_is_said() -> None:
    """Full lists, unreadable lines, and traffic that nobody read."""
    page = plain(
        report(
            left_out={"files": 7, "traffic_bytes": 5000},
            unreadable=2,
            plugins=[{"plugin": "procmon", "lines": 9}],
        )
    )
    assert "\n7 events were left out of a full list: files\n" in page
    assert "\n5000 bytes of traffic after the first packets were not read.\n" in page
    assert "\n2 lines or packets could not be read.\n" in page
    assert page.endswith("Lines of the log, by plugin: procmon 9\n")


def test_capabilities() -> None:
    """Those with ATT&CK first, each with what ATT&CK and MBC call it; how much capa looked at."""
    attack = {"id": "T1059.003", "tactic": "Execution", "technique": "Interpreter", "subtechnique": "Shell"}
    mbc = {"id": "C0017", "objective": "Process", "behavior": "Create Process"}
    matched = [
        {**SEEN, "rule": "create a process", "mbc": [mbc]},
        {**SEEN, "rule": "run a shell", "attack": [attack, {**attack, "id": "T1", "subtechnique": None}]},
    ]
    run = {"version": "10.0.0", "rules": 5, "calls": 7}
    page = text(report(capabilities=matched, capa=run))
    lines = page.splitlines()
    at = lines.index("Capabilities (2)")
    assert lines[at + 1 : at + 3] == [
        "  run a shell  ATT&CK T1059.003 Execution: Interpreter, Shell; T1 Execution: Interpreter",
        "  create a process  MBC C0017 Process: Create Process",
    ]
    assert "Capabilities: capa 10.0.0 looked at 7 calls by 5 rules." in page
    assert "later calls" not in page
    summary = {fact.name: [part.text for part in fact.parts] for fact in facts(report(capabilities=matched))}
    assert summary["ATT&CK"] == ["T1059.003 Interpreter", "T1 Interpreter"]
    assert "T1059.003" in markdown(document(report(capabilities=matched, capa=run)))


def test_what_became_of_capa() -> None:
    """Later calls that were left out and a failure are told; nothing where it is not set up."""
    assert "its limit of time was reached" in text(report(capa={"version": "1", "limit": "time"}))
    failed = text(report(capa={"version": "1", "failure": "capa ran into the limit of 60 s"}))
    assert "No capabilities: capa ran into the limit of 60 s." in failed
    assert "Nothing of the sample's was recorded: Capabilities" in text(report(capa={"version": "1"}))
    assert "apabilities" not in text(report()) + failed.replace("No capabilities: ", "")


def test_the_tree() -> None:
    """Children below their parents, by time; who was injected, ended, or failed says so."""
    page = plain(
        report(
            processes=[
                WINDOWS,
                SAMPLE,
                process(2, parent=1, image="a.exe", started=1700000002.0, exit_code=0xC0000005)
                | {"exit_status": "ACCESS_VIOLATION"},
                process(3, parent=2, image="b.exe", started=1700000003.25, command_line="b.exe -x"),
                process(4, parent=1, image="c.exe", started=1700000001.0, ended=1700000002.0, killed_by=1),
                process(5, origin="injected", image="svchost.exe", injected_by=[2]),
            ]
        )
    )
    assert section(page, "Processes") == [
        "  explorer.exe (100)  \\Device\\HarddiskVolume2\\Windows\\explorer.exe",
        "  `- malwar.exe (101)  the sample  +0.5 s  exit 0  C:\\x\\malwar.exe",
        "     |- c.exe (104)  +1.0 s  ended  ended by malwar.exe (101)  c.exe",
        "     `- a.exe (102)  +2.0 s  exit 0xc0000005 ACCESS_VIOLATION  a.exe",
        "        `- b.exe (103)  +3.2 s  b.exe -x",
        "  svchost.exe (105)  injected by a.exe (102)  svchost.exe",
    ]


def test_processes_that_are_their_own_ancestors() -> None:
    """Each is shown once, whatever a report says of its parent."""
    pairs = [process(n, parent=n ^ 1) for n in range(20)]
    odd = [process(20, parent=20), process(21, parent=99)]
    shown_ones = [entry.parts[0].text for entry in Cast(report(processes=[*pairs, *odd])).tree(range(22))]
    assert sorted(shown_ones) == sorted(f"unknown ({100 + n})" for n in range(22))


def test_what_is_not_shown_is_not_made() -> None:
    """A page and a summary cost what they show: a command line is made fit to be shown when it is shown."""
    given = hostile_report(processes=5_000, entries=10, few=10)

    def cost(make: Callable[[], object]) -> float:
        begun = time.process_time()
        make()
        return time.process_time() - begun

    whole = cost(lambda: document(given, everything=True))
    assert cost(lambda: document(given)) < whole / 4
    assert cost(lambda: list(facts(given))) < whole / 4


def test_a_long_line_of_processes() -> None:
    """Twenty thousand generations are shown at once; the deep ones are not indented further."""
    chain = [process(n, parent=n - 1 if n else None) for n in range(20_000)]
    begun = time.process_time()
    lines = section(plain(report(processes=chain), everything=True), "Processes")
    assert time.process_time() - begun < 30
    assert lines[DEEPEST].lstrip(" ") == f"`- unknown ({100 + DEEPEST})"
    assert lines[19_999].lstrip(" ") == "`- (19999) unknown (20099)"
    assert len(lines[19_999]) < 80


@pytest.mark.parametrize("width", [80, 200])
def test_lines_fit_the_terminal(width: int) -> None:
    """Nothing is cut: what does not fit goes on in the next line, indented."""
    path = "C:\\" + "long\\" * 30 + "漢字" * 10 + ".exe"
    deep = [process(n, parent=n - 1, command_line="word " * 30) for n in range(2, 30)]
    page = plain(report(files=[file(path)], processes=[WINDOWS, SAMPLE, *deep]), width=width)
    lines = page.splitlines()
    assert max(map(cell_len, lines)) <= width
    joined = "".join(line.strip() for line in section(page, "Files"))
    assert joined.replace(" ", "").startswith(shown(path))
    assert any(cell_len(line) > width - 10 for line in lines)


def test_colours_only_where_they_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """None in a pipe, and none with NO_COLOR, where only bold is left."""
    given = report(files=[file("C:\\a.exe", executable=True)])
    assert "\x1b[1;31mexecutable" in text(given, width=80, colour=True)
    assert "\x1b" not in text(given)
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    print_page(Console(file=out, force_terminal=True, width=80), document(given))
    assert re.findall(r"\x1b\[[0-9;]*m", out.getvalue())
    assert not re.findall(r"\x1b\[[0-9;]*3\d[0-9;]*m", out.getvalue())


@pytest.mark.parametrize(
    ("given", "defanged"),
    [
        ("iwr http://a.b.example:80/x.y?z=1.2", "iwr hxxp://a[.]b[.]example:80/x.y?z=1.2"),
        ("HTTPS://A.example", "HXXPS://A[.]example"),
        ("ftp://1.2.3.4/a", "fxp://1[.]2[.]3[.]4/a"),
        ("http://a[.]b", "hxxp://a[.]b"),
        ("http://a.exampl…http://b.c/d", "hxxp://a[.]exampl…hxxp://b[.]c/d"),
        ("http://ahttp://b.c", "hxxp://ahxxp://b[.]c"),
        ("wss://a.example/x", "wss[:]//a[.]example/x"),
        ("SFTP://u@a.example", "SFXP://u@a[.]example"),
        ("tcp://1.2.3.4:4444", "tcp[:]//1[.]2[.]3[.]4:4444"),
        ("search-ms://" + "a" * 3 + ".b", "search-ms[:]//aaa[.]b"),
        ("x" * 40 + "://a.b", "x" * 40 + "[:]//a[.]b"),
        ("see www.a.example/b.c, WWW.b.example", "see www[.]a[.]example/b.c, WWW[.]b[.]example"),
        ("C:\\www.txt", "C:\\www[.]txt"),
        ("awww.no", "awww.no"),
        ("C:\\a.b\\c.exe", "C:\\a.b\\c.exe"),
        ("a\x1b[31m\u202eb\r\n\x9b", "a�[31m�b���"),
        (7, "7"),
    ],
)
def test_values_are_defanged(given: object, defanged: str) -> None:
    """Links cannot be clicked, and nothing moves the cursor or turns the text around."""
    assert shown(given) == defanged


@pytest.mark.parametrize(
    ("name", "defanged"),
    [
        ("a.example", "a[.]example"),
        ("1.2.3.4", "1[.]2[.]3[.]4"),
        ("2001:db8::1", "2001[:]db8[:][:]1"),
        ("ws://a:1:2", "ws[:]//a[:]1[:]2"),
        ("a.example:80", "a[.]example:80"),
        ("\x1b]8;;http://a.b\x07", "�]8;;hxxp://a[.]b�"),
    ],
)
def test_hosts_are_defanged(name: str, defanged: str) -> None:
    """Names, and addresses of both kinds."""
    assert shown_host(name) == defanged


def test_long_values_lose_their_middle() -> None:
    """The end of a path says more than its middle."""
    path = "C:\\" + "a" * 40_000 + "\\evil.exe"
    assert len(shown(path)) == LONG
    assert shown(path).startswith("C:\\aaa")
    assert shown(path).endswith("aaa\\evil.exe")
    page = plain(report(files=[file(path)], processes=[SAMPLE | {"command_line": path}]), everything=True)
    assert max(map(len, page.splitlines())) < 2200


@pytest.mark.parametrize("limit", [SHORT, LONG])
@pytest.mark.parametrize("link", ["http://a.example/b.c", "www.a.example", "search-ms-012345://a.b"])
def test_a_link_is_not_cut_in_its_host(link: str, limit: int) -> None:
    """What follows the middle has a link as a whole, or nothing of its scheme and host."""
    whole = shown(link)
    ends = {""} | {"/b.c"[place:] for place in range(4)}
    found = set()
    for place in range(2 * limit):
        made = shown(f"{'-' * (4 * limit)} {link}{'|' * place}", limit)
        end = made.partition("…")[2].strip("-| ")
        assert end in {whole, *ends}
        assert len(made) == limit + (len(whole) - len(link)) * (end == whole)
        found.add(end)
    assert {whole, ""} <= found


def test_links_on_both_sides_of_the_middle() -> None:
    """One is cut, one is whole, and both are defanged apart from each other."""
    text = f"http://{'a.' * 200}{'|' * 500}http://b.example/c.d"
    assert shown(text, SHORT) == f"hxxp://{'a[.]' * 16}…hxxp://b[.]example/c.d"


BETWEEN = {"inline", "text", "paragraph_open", "paragraph_close", "list_item_open", "list_item_close"} | {
    f"{kind}_{end}" for kind in ("bullet_list", "heading", "strong") for end in ("open", "close")
}


@given(value=NASTY | st.text(max_size=30))
def test_nothing_that_a_sample_chose_does_anything(value: str) -> None:
    """On a terminal only what can be printed; in Markdown only code, lists and headings, and no link."""
    given = hostile(value)
    page = document(given)
    assert all(char.isprintable() or char == "\n" for char in text(given))
    assert not re.search(r"(?i)https?://", text(given))
    made = markdown(page)
    assert all(char.isprintable() or char == "\n" for char in made)
    assert not re.search(r"(?i)https?://", made)
    kinds = {token.type for token in tokens(made)}
    assert kinds - BETWEEN == {"code_inline", "fence"}
    assert made.count("\n") == markdown(document(hostile("x"))).count("\n")


@given(value=NASTY.map(shown).filter(lambda one: one.strip() != ""))
def test_code_is_what_it_was(value: str) -> None:
    """A reader of Markdown shows each value as it is, between words."""
    spans = [token for token in tokens(f"- a {code(value)} · {code(value)}") if token.type == "code_inline"]
    assert [one.content for one in spans] == [value, value]


def test_the_markdown_of_an_evil_name() -> None:
    """As it is typed: a fence, a list, and code that ends where we end it."""
    made = markdown(document(hostile(EVIL)))
    name = "�[31m�exe.`|<b>�[x](hxxp://evil[.]example/a)�@me"
    assert made.splitlines()[0] == f"# What ``{name}`` did"
    assert f"- ``{name}`` · written · to ``{name}`` · **executable** · **autostart: " in made
    assert code("") == "(empty)"
    assert code("`") == "`` ` ``"


def test_a_few_lines_say_the_most() -> None:
    """What a person who waited is told: names of a few, numbers of the rest, nothing of what is not there."""
    given = report(
        files=[
            *(file(f"C:\\{number}.exe", executable=True) for number in range(6)),
            file("C:\\u.lnk", autostart="Startup folder", executable=True),
            file("C:\\others.exe", executable=True, processes=[0]),
        ],
        injections=[{**SEEN, "target": 0, "methods": ["x"]}] * 2,
        indicators={"hosts": ["c2.example"], "urls": ["http://c2.example/a"]},
    )
    said = {one.name: [part.text for part in one.parts] for one in facts(given)}
    assert said == {
        "processes": ["malwar.exe (101)"],
        "injected into": ["explorer.exe (100)"],
        "autostart": ["Startup folder: C:\\u.lnk"],
        "executables": ["C:\\0.exe", "C:\\1.exe", "C:\\2.exe", "C:\\3.exe", "and 3 more"],
        "files": ["7"],
        "network": ["hxxp://c2[.]example/a", "c2[.]example"],
    }
    assert [one.name for one in facts(report())] == ["processes"]


@pytest.mark.slow
def test_large_reports_are_quick() -> None:
    """As many lines as a report can have, all of them shown."""
    own = {**SEEN, "actions": ["written"]}
    files = [{**own, "path": f"C:\\{number}\\" + "x" * 1000} for number in range(5000)]
    processes = [WINDOWS, SAMPLE, *(process(n, parent=1, command_line="y" * 400) for n in range(2, 20_000))]
    given = Report.model_validate(orjson.loads(report(files=files, processes=processes).model_dump_json()))
    begun = time.process_time()
    page = text(given, everything=True)
    assert time.process_time() - begun < 30
    assert page.count("\n") > 25_000
