"""What one analysis saw and another did not: each real difference, and nothing that is only chance."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from drakcelery.behaviour.difference import MOST_SAID, Change, Difference, difference
from drakcelery.behaviour.report import Report
from drakcelery.cli import cli
from drakcelery.operators.report.comparison import document
from drakcelery.operators.report.markdown import markdown
from drakcelery.testing import RECORDED
from tests.reports import NASTY, SAMPLE, SEEN, WINDOWS, Fields, file, hostile, process, report

SOFTWARE = "\\REGISTRY\\MACHINE\\SOFTWARE"
FALSE_DIFFERENCES = 0.05
"""The share of what is compared that two runs of the same sample may seem to differ in."""


def share(found: Difference) -> float:
    """The share of differences among all that was compared."""
    compared = sum(found.same.values()) + sum(found.alike.values()) + len(found.changes)
    return len(found.changes) / compared


def told(found: Difference) -> list[tuple[str, str, str]]:
    """The differences in short."""
    return [(one.kind, one.what, one.shown) for one in found.changes]


def value(key: str, name: str, data: str, **more: Any) -> Fields:
    """A registry value that the sample set."""
    return {**SEEN, "action": "set", "key": key, "value_name": name, "value": data, **more}


def host(name: str, *addresses: str) -> Fields:
    """A name that the sample asked for."""
    return {**SEEN, "name": name, "sources": ["dns"], "addresses": addresses}


def connection(address: str, port: int = 443) -> Fields:
    """A connection of the sample's."""
    return {**SEEN, "protocol": "TCPv4", "address": address, "port": port}


def request(url: str, host: str) -> Fields:
    """A request of the sample's."""
    return {**SEEN, "method": "GET", "url": url, "host": host, "address": "198.51.100.1", "port": 80}


FULL: Fields = {
    "processes": [WINDOWS, SAMPLE, process(2, parent=1, image="C:\\cmd.exe", command_line="cmd /c x")],
    "injections": [{**SEEN, "target": 0, "methods": ["WriteProcessMemory"]}],
    "files": [file("C:\\a.exe", executable=True, sha256="ab" * 32)],
    "registry": [value(f"{SOFTWARE}\\x", "y", "z")],
    "services": [{**SEEN, "name": "svc", "actions": ["created"], "program": "C:\\s.exe"}],
    "tasks": [{**SEEN, "name": "\\t", "evidence": ["file"]}],
    "mutexes": [{**SEEN, "name": "Global\\m"}],
    "wmi": [{**SEEN, "method": "ExecQuery", "text": "SELECT * FROM Win32_BIOS"}],
    "capabilities": [{**SEEN, "rule": "create process"}],
    "calls": [{**SEEN, "function": "connect", "category": "network"}],
    "network": {
        "names": [host("c2.example", "198.51.100.1")],
        "connections": [connection("198.51.100.1")],
        "http": [request("http://c2.example/gate", "c2.example")],
    },
}


def test_the_same_twice() -> None:
    """The recorded analysis does not differ from itself, nor does one with something of each kind."""
    recorded = Report.model_validate_json((RECORDED / "report.json").read_bytes())
    for one in (recorded, report(**FULL)):
        found = difference(one, one)
        assert (found.is_same, found.alike) == (True, {})
    assert sum(found.same.values()) == 14
    assert document(found).ending.text == "Both samples did the same, as far as it was seen."


@pytest.mark.parametrize("kind", [name for name in FULL if name != "network"])
def test_what_only_one_did(kind: str) -> None:
    """Each kind is told: missing where the first has it, new where the second has."""
    lacking = report(**{**FULL, kind: FULL[kind][:2] if kind == "processes" else []})
    (missing,) = difference(report(**FULL), lacking).changes
    (new,) = difference(lacking, report(**FULL)).changes
    assert (missing.kind, missing.what, new.what) == (kind, "missing", "new")
    assert missing.shown == new.shown


def test_what_differs_on_the_network() -> None:
    """Another host, another port, another request; numbers in a name are no chance."""
    first = report(
        network={"names": [host("c2-1234.example")], "connections": [connection("192.0.2.1", 443)]}
    )
    second = report(
        network={"names": [host("c2-5678.example")], "connections": [connection("192.0.2.1", 8443)]}
    )
    assert told(difference(first, second)) == [
        ("hosts", "missing", "c2-1234.example"),
        ("hosts", "new", "c2-5678.example"),
        ("connections", "missing", "TCPv4 192.0.2.1 port 443"),
        ("connections", "new", "TCPv4 192.0.2.1 port 8443"),
    ]


def test_what_has_changed() -> None:
    """The same thing with another result: a value, a program, what was done to a file."""
    first = report(
        files=[file("C:\\a.exe", executable=True, sha256="ab" * 32), file("C:\\b.txt")],
        registry=[value(f"{SOFTWARE}\\x", "mode", "stealth")],
    )
    second = report(
        files=[
            file("C:\\a.exe", executable=True, sha256="cd" * 32),
            file("C:\\b.txt", actions=["written", "deleted"]),
        ],
        registry=[value(f"{SOFTWARE}\\x", "mode", "loud")],
    )
    program, text, mode = difference(first, second).changes
    assert (program.what, text.first, text.second) == ("changed", (), ("deleted",))
    assert (mode.first, mode.second) == (("to stealth",), ("to loud",))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            "C:\\Users\\u\\AppData\\Local\\Temp\\nsq12F4.tmp\\a.dll",
            "C:\\Users\\u\\AppData\\Local\\Temp\\nsk9A.tmp\\a.dll",
        ),
        ("C:\\Temp\\is-7K2LQ.tmp\\setup.tmp", "C:\\Temp\\is-ABCDE.tmp\\setup.tmp"),
        ("C:\\Temp\\tmpabc_d1xq\\x", "C:\\Temp\\tmpqqqqqqqq\\x"),
        ("C:\\{0A1B2C3D-0000-4444-8888-0123456789AB}.dat", "C:\\{11111111-2222-3333-4444-555555555555}.dat"),
        ("C:\\log-2026-11-29_1403.txt", "C:\\log-2026-11-30_0915.txt"),
        ("C:\\ProgramData\\qkzjhwpx.exe", "C:\\ProgramData\\xvbtrmnq.exe"),
        ("C:\\x\\a1b2c3d4e5.bin", "C:\\x\\0f9e8d7c6b.bin"),
        ("\\Device\\HarddiskVolume2\\x.txt", "C:\\X.TXT"),
        ("C:\\x\\malwar.exe.config", "\\??\\C:\\x\\malwar.exe.config"),
        ("C:\\Users\\anna\\AppData\\evil.txt", "C:\\Users\\John Doe\\AppData\\evil.txt"),
    ],
)
def test_names_of_chance(first: str, second: str) -> None:
    """Temporary names, identifiers, times, random words, users and ways to write a path are no difference."""
    found = difference(report(files=[file(first)]), report(files=[file(second)]))
    assert told(found) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("C:\\Windows\\System32\\evil.dll", "C:\\Windows\\System32\\drivers\\evil.sys"),
        ("C:\\a\\config.txt", "C:\\a\\readme.txt"),
        ("C:\\a\\v1.txt", "C:\\a\\v2.txt"),
        ("C:\\Users\\anna\\evil.txt", "C:\\Users\\Public\\evil.txt"),
        ("C:\\Users\\anna\\mine\\a.txt", "C:\\Users\\anna\\yours\\a.txt"),
        ("C:\\a\\setup.exe", "C:\\a\\update.exe"),
        ("C:\\Temp\\nsq12F4.tmp", "C:\\Temp\\nsq12F4.exe"),
    ],
)
def test_names_that_somebody_chose(first: str, second: str) -> None:
    """Other words are a difference, and so is another ending."""
    found = difference(report(files=[file(first)]), report(files=[file(second)]))
    assert told(found) == [("files", "missing", first), ("files", "new", second)]


def sha256(content: str) -> str:
    """Of a program."""
    return hashlib.sha256(content.encode()).hexdigest()


def dropped(name: str, content: str | None = None, **more: Any) -> Fields:
    """A program that the sample wrote."""
    return file(f"C:\\Temp\\{name}", executable=True, sha256=content and sha256(content), **more)


def test_another_program_of_the_same_name() -> None:
    """A hash is no word of chance; nothing is said where one of them is not known."""
    first, second = (report(files=[dropped("a.exe", content)]) for content in ("one", "other"))
    (change,) = difference(first, second).changes
    assert (change.first, change.second) == (
        (f"content {sha256('one')}",),
        (f"content {sha256('other')}",),
    )
    assert difference(first, report(files=[dropped("a.exe")])).is_same


PROGRAM = "C:\\Temp\\<*>.exe"


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ([dropped("0f9e8d.exe", "one")], None),
        ([dropped("0f9e8d.exe", "one"), dropped("1a2b3c.exe", "one")], None),
        ([dropped("0f9e8d.exe")], None),
        ([dropped("0f9e8d.exe", "other")], ((f"content {sha256('one')}",), (f"content {sha256('other')}",))),
        ([dropped(f"{one}{one}9876.exe", "one") for one in "abcd"], (("1 of them",), ("4 of them",))),
        ([dropped("0f9e8d.exe", "one", actions=["written", "deleted"])], ((), ("deleted",))),
        ([file("C:\\Temp\\0f9e8d.exe")], (("can be run",), ())),
        (
            [dropped("a1b2c3.exe", "one"), dropped("1a2b3c.exe", "other")],
            ((), (f"content {sha256('other')}",)),
        ),
    ],
)
def test_what_names_of_chance_do_not_hide(
    second: list[Fields], said: tuple[tuple[str, ...], tuple[str, ...]] | None
) -> None:
    """Programs of random names are one thing; another program, fate or kind of it, or far more, is told."""
    found = difference(report(files=[dropped("a1b2c3.exe", "one")]), report(files=second))
    changes = [(one.shown, one.first, one.second) for one in found.changes]
    assert changes == ([] if said is None else [(PROGRAM, *said)])
    assert found.alike["files"] >= 1


@pytest.mark.parametrize(("few", "many", "told"), [(1, 3, 0), (1, 4, 1), (3, 6, 0), (3, 7, 1), (9, 12, 0)])
def test_how_many_is_no_exact_number(few: int, many: int, told: int) -> None:
    """A machine's speed may double what a sample gets done, or add one or two."""
    names = [[f"m-{one}" for one in range(700, 700 + number)] for number in (few, many)]
    both = (report(mutexes=[{**SEEN, "name": name} for name in some]) for some in names)
    assert len(difference(*both).changes) == told


def test_long_changes_are_cut() -> None:
    """A hundred new programs behind one name are told by the first of them."""
    files = [[dropped(f"{one}.exe", f"{one}") for one in range(start, start + 100)] for start in (200, 300)]
    (change,) = difference(*(report(files=some) for some in files)).changes
    assert (len(change.first), change.first[-1]) == (MOST_SAID + 1, "and 92 more")


def test_windows_own_doings_are_not_compared() -> None:
    """Neither by its processes nor by its libraries in the sample's; what it starts by itself is."""
    noise = [
        file("C:\\Windows\\Prefetch\\X.EXE-1.pf"),
        file("C:\\x.log", processes=[0]),
        file("C:\\Windows\\Logs\\a.exe", autostart="Startup folder"),
    ]
    keys = [value("\\REGISTRY\\USER\\S-1-5-21-1-2-3-4\\Software\\Microsoft\\Tracing\\a_RASAPI32", "x", "0x0")]
    found = difference(report(), report(files=noise, registry=keys))
    assert told(found) == [("files", "new", "C:\\Windows\\Logs\\a.exe")]
    assert found.background == (0, 2)


USER = "\\REGISTRY\\USER\\S-1-5-21-1-2-3-1001\\Software"
MACHINE = f"{SOFTWARE}\\Microsoft"
BACKGROUND = (
    *("C:\\Windows\\Prefetch\\X.EXE-12345678.pf", "C:\\Windows\\System32\\sru\\SRU.chk"),
    *("C:\\Windows\\System32\\config\\SOFTWARE.LOG1", "C:\\Users\\u\\Desktop\\desktop.ini"),
    *("C:\\Windows\\INF\\setupapi.dev.log", "C:\\Windows\\System32\\LogFiles\\Scm\\a"),
    "C:\\Users\\u\\AppData\\Local\\Microsoft\\CLR_v4.0\\UsageLogs\\malwar.exe.log",
    "C:\\Users\\u\\AppData\\Local\\GDIPFONTCACHEV1.DAT",
)
BACKGROUND_KEYS = (
    f"{USER}\\Microsoft\\Windows\\CurrentVersion\\Explorer\\UserAssist\\{{CEBFF5CD}}\\Count",
    f"{USER}\\Classes\\Local Settings\\MuiCache\\2c\\52C64B7E",
    f"{USER}\\Microsoft\\Windows\\CurrentVersion\\Internet Settings\\ZoneMap",
    *(f"{MACHINE}\\Tracing\\malwar_RASMANCS", f"{MACHINE}\\SystemCertificates\\AuthRoot\\Certificates\\AB"),
    f"{MACHINE}\\Windows NT\\CurrentVersion\\NetworkList\\Nla\\Cache\\Intranet",
)
NO_BACKGROUND = (
    *("C:\\Windows\\System32\\config\\systemprofile\\AppData\\Roaming\\a.dat", "C:\\Windows\\INF\\a.inf"),
    "C:\\Windows\\System32\\drivers\\etc\\hosts",
)
NO_BACKGROUND_KEYS = (
    *(f"{MACHINE}\\SystemCertificates\\Root\\Certificates\\AB", f"{MACHINE}\\Windows Defender\\Exclusions"),
    f"{MACHINE}\\Windows NT\\CurrentVersion\\AppCompatFlags\\InstalledSDB\\{{AB}}",
    f"{USER}\\Microsoft\\Windows\\CurrentVersion\\Internet Settings\\ZoneMap\\Domains\\evil.example",
    f"{USER}\\Microsoft\\Windows\\CurrentVersion\\Internet Settings\\Connections",
    f"{USER}\\Microsoft\\Windows\\CurrentVersion\\Explorer\\FileExts\\.txt\\UserChoice",
    f"{MACHINE}\\Windows\\Windows Error Reporting",
)


def test_what_is_background() -> None:
    """What the sources of drakcelery/behaviour/background.py name; nothing by which a sample gets hold of a
    machine, and no program that it hides among Windows' logs."""
    files, keys = [file(path) for path in BACKGROUND], [value(key, "x", "y") for key in BACKGROUND_KEYS]
    found = difference(report(), report(files=files, registry=keys))
    assert (told(found), found.background) == ([], (0, len(BACKGROUND) + len(BACKGROUND_KEYS)))
    files = [file(path) for path in NO_BACKGROUND]
    files.append(file("C:\\Windows\\Debug\\a.exe", executable=True))
    keys = [value(key, "x", "y") for key in NO_BACKGROUND_KEYS]
    found = difference(report(), report(files=files, registry=keys))
    assert (len(found.changes), found.background) == (len(files) + len(keys), (0, 0))


def test_addresses_go_by_their_names() -> None:
    """The same name with another answer is the same connection."""
    first = report(
        network={"names": [host("a.example", "192.0.2.1")], "connections": [connection("192.0.2.1")]}
    )
    second = report(
        network={"names": [host("a.example", "192.0.2.9")], "connections": [connection("192.0.2.9")]}
    )
    assert difference(first, second).is_same


def test_another_name_of_the_sample() -> None:
    """Two samples are compared by what they did, whatever they are called."""
    second = report(
        sample={"sha256": "cd" * 32, "name": "invoice.exe", "magic": "PE32"},
        processes=[SAMPLE | {"image": "C:\\x\\invoice.exe", "command_line": "C:\\x\\invoice.exe -a"}],
        files=[file("C:\\x\\invoice.exe.bak")],
    )
    first = report(
        processes=[SAMPLE | {"command_line": "C:\\x\\malwar.exe -a"}], files=[file("C:\\x\\malwar.exe.bak")]
    )
    assert difference(first, second).is_same


def test_what_is_not_whole_is_said() -> None:
    """A run that broke off did not do less; another engine sees other things."""
    broken = {"execution": "executed", "complete": False, "observed": "broke_off", "summary": "It broke off."}
    found = difference(report(), report(ending=broken))
    assert not found.is_whole
    assert "not whole" in document(found).notes[0][0].text
    assert not difference(report(left_out={"files": 1}), report()).is_whole


@pytest.mark.parametrize("observed", ["not_executed", "broke_off", "not_seen", "no_log"])
def test_two_analyses_that_say_nothing_are_not_the_same(observed: str) -> None:
    """Nobody is told that both did the same where nothing is known of what they do."""
    nothing = report(ending={"execution": "executed", "complete": True, "observed": observed, "summary": "x"})
    found = difference(nothing, nothing)
    assert (found.is_same, found.is_whole) == (True, False)
    page = document(found)
    assert (page.ending.text, page.ending.kind) == (
        "No difference was seen, but that says little: see below.",
        "alert",
    )
    assert "not whole" in page.notes[0][0].text
    assert document(difference(report(), report())).ending.text.startswith("Both samples did the same")


class Jitter:
    """A second run of the same sample: what differs from run to run does."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 a test's jitter

    def _hex(self, digits: int) -> str:
        return "".join(self._random.choices("0123456789ABCDEF", k=digits))

    def guid(self) -> str:
        """An identifier."""
        return "-".join((self._hex(8), self._hex(4), self._hex(4), self._hex(4), self._hex(12)))

    def word(self) -> str:
        """A name that a program made of random letters and digits."""
        return self._hex(self._random.randint(8, 12)).lower() + "42"

    def run(self) -> Report:
        """A report of it."""
        pids = self._random.sample(range(300, 9000, 4), 30)
        began = 1_700_000_000 + self._random.random() * 10**6
        temp = f"C:\\Users\\user\\AppData\\Local\\Temp\\ns{self._random.choice('abcxyz')}{self._hex(4)}.tmp"
        processes = [
            {**process(number, origin="sample" if number == 1 else "started", parent=1), "pid": pids[number]}
            | {
                "image": f"C:\\bin\\tool{number}.exe",
                "command_line": f"tool{number} --pid={pids[1]} {temp}\\run",
            }
            for number in range(1, 11)
        ]
        files = [f"C:\\data\\fixed{chr(97 + number)}.txt" for number in range(25)]
        files += [f"{temp}\\part{chr(97 + number)}.dll" for number in range(10)]
        files += [f"C:\\ProgramData\\{{{self.guid()}}}\\state.db", f"C:\\Users\\user\\{self.word()}.dat"]
        files += [f"C:\\Windows\\Prefetch\\{self._hex(8)}.pf" for _ in range(self._random.randint(0, 9))]
        address = f"203.0.113.{self._random.randint(1, 250)}"
        self._random.shuffle(files)
        made: Fields = {
            "files": [file(path, first=began + self._random.random()) for path in files],
            "processes": [WINDOWS, *processes],
            "registry": [value(f"{SOFTWARE}\\App", name, f"{began:.0f}") for name in ("Installed", "Seen")]
            + [value(f"{SOFTWARE}\\App", "Id", self.guid())],
            "mutexes": [{**SEEN, "name": f"Local\\SM0:{pids[1]}:304:WilStaging_02"}],
            "network": {
                "names": [host("c2.example", address)],
                "connections": [connection(address)],
                "http": [request(f"http://c2.example/gate?id={self.word()}&t={began:.0f}", "c2.example")],
            },
        }
        return report(**made)


@pytest.mark.slow
def test_jitter_is_no_difference() -> None:
    """Fifty pairs of runs: at most 5 % of what is compared seems to differ (issue 14)."""
    shares = [share(difference(Jitter(seed).run(), Jitter(seed + 1).run())) for seed in range(0, 100, 2)]
    assert max(shares) <= FALSE_DIFFERENCES
    assert sum(shares) / len(shares) <= FALSE_DIFFERENCES / 5


@given(value=NASTY | st.text(max_size=30))
def test_nothing_that_a_sample_chose_does_anything(value: str) -> None:
    """On the page only what can be printed, and in JSON what JSON can hold."""
    found = difference(report(), hostile(value))
    made = markdown(document(found))
    assert all(char.isprintable() or char == "\n" for char in made)
    assert "http://" not in made.lower()
    assert json.loads(found.model_dump_json(ensure_ascii=True))["version"] == 1


def test_long_lists_are_cut() -> None:
    """The page shows the first of them, and says how many there are."""
    files = [file(f"C:\\{chr(97 + number % 26)}{number // 26:b}.txt") for number in range(90)]
    found = difference(report(), report(files=files))
    (section,) = document(found).sections
    assert (len(section.entries), section.count) == (30, 90)
    (section,) = document(found, everything=True).sections
    assert len(section.entries) == 90


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """What `drakcelery fetch` downloads, twice."""
    first, second = (Path(shutil.copytree(RECORDED, tmp_path / name)) for name in ("first", "second"))
    return first, second


def typed(*words: str | Path) -> tuple[int, str, str]:
    """Exit status, output and errors of `drakcelery diff`."""
    done = CliRunner(env={"DRAKCELERY_CONFIG": "/nowhere/drakcelery.ini"}).invoke(
        cli, ["diff", *map(str, words)], prog_name="drakcelery"
    )
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def test_the_command(two: tuple[Path, Path]) -> None:
    """It exits as diff(1): 0 if both are the same, 1 if not, 2 if they cannot be compared."""
    first, second = two
    status, text, said = typed(first, second)
    assert (status, said) == (0, "")
    assert "Both samples did the same" in text
    written = json.loads((second / "report.json").read_bytes())
    (second / "report.json").write_text(json.dumps(written | {"mutexes": [{**SEEN, "name": "http://evil/"}]}))
    status, text, said = typed(first, second)
    assert (status, said) == (1, "")
    assert "\nMutexes (1)\n  new  hxxp://evil/\n" in text
    status, text, _ = typed(first, second, "--json")
    assert status == 1
    found = Difference.model_validate_json(text)
    assert found.changes == (Change(kind="mutexes", what="new", shown="http://evil/"),)
    assert typed(first, second, "--format", "json")[1] == text
    (second / "report.json").unlink()
    status, text, said = typed(first, second)
    assert (status, text) == (2, "")
    assert said.startswith("Error: analysis 0a6d79eb-8cce-4588-8100-eae9490ff37b has no report.json")
    assert typed(first)[0] == 2
    assert "another form than --format text" in typed(first, first, "--json", "--format", "text")[2]
