"""What the report says of a sample of which nothing was seen, and of what only the traffic shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import IP, UDP
from scapy.packet import Packet

from drakcelery.behaviour import indicators as indicators_module
from drakcelery.behaviour.report import Report
from drakcelery.behaviour.windows_hosts import is_of_windows
from drakcelery.model.news import WatchPlan, WatchRun
from tests.builders import OUTCOME
from tests.captures import ETHER, GUEST, SERVER, captured, hello, segment
from tests.guest_log import EXPLORER, Log, collected, reported

COMPLETE = OUTCOME.model_copy(update={"complete": True})
SETTING = {"Key": "k", "ValueName": "by Windows"}


def of_windows() -> Log:
    """A log with one line, of a process of Windows'."""
    log = Log()
    log.add("regmon", "NtSetValueKey", pid=100, ppid=4, **SETTING)
    return log


def all_on(log: Log) -> Log:
    """Each plugin that records what lasts wrote something."""
    log.add("filetracer", "NtReadFile", pid=100, ppid=4)
    log.add("regmon", "NtOpenKey", pid=100, ppid=4)
    log.add("socketmon", "DnsQuery_W", pid=100, ppid=4)
    log.add("procmon", "NtProtectVirtualMemory", pid=100, ppid=4)
    return log


def with_traffic(log: Log, tmp_path: Path, *packets: Packet, **changes: Any) -> Report:
    """The report of *log* and of what was recorded on the network."""
    raw = log.write(tmp_path / "raw")
    (raw / "dump.pcap").write_bytes(captured(*packets))
    collected(raw, COMPLETE.model_copy(update=changes))
    return Report.model_validate_json((tmp_path / "out" / "report.json").read_bytes())


def get(host: str, *, source: int = 50000) -> Packet:
    """A request of the guest's."""
    return segment(f"GET /a HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(), source=source)


def lookup(name: str) -> Packet:
    """A question for a name."""
    return ETHER / IP(src=GUEST, dst="10.0.0.1") / UDP(sport=5353, dport=53) / DNS(qd=DNSQR(qname=name))


def test_all_was_watched(tmp_path: Path) -> None:
    """Then it did nothing, which is said without any doubt."""
    ending = reported(all_on(Log().started()), tmp_path).ending
    assert ending.observed == "nothing"
    assert ending.summary.startswith("The sample did nothing that lasts: no file")


def test_no_process_of_its_own(tmp_path: Path) -> None:
    """It may have done anything."""
    log = all_on(Log())
    log.lines.insert(
        0,
        {"Plugin": "procmon", "TimeStamp": "1.0", "PID": 100, "PPID": 4, "RunningProcess": EXPLORER},
    )
    ending = reported(log, tmp_path).ending
    assert ending.observed == "not_seen"
    assert ending.summary.startswith("No process of the sample's is in the log, so it is not known")


def test_nothing_that_lasts_could_be_seen(tmp_path: Path) -> None:
    """Only plugins that record other things were on."""
    log = Log()
    log.add("apimon", "GetTickCount", Event="api_called", Arguments=[])
    log.add("apimon", "CryptEncrypt", Event="api_called", Arguments=[])
    report = reported(log, tmp_path)
    assert [one.origin for one in report.processes] == ["sample"]
    assert report.ending.observed == "not_seen"
    assert report.ending.summary == (
        "The plugins that record what lasts were off (procmon, filetracer, regmon and socketmon), so it is "
        "not known what the sample does."
    )


def test_some_plugins_were_off(tmp_path: Path) -> None:
    """It did nothing as far as anybody looked, and it is said where nobody did."""
    log = Log().started()
    log.add("regmon", "NtSetValueKey", pid=100, ppid=4, **SETTING)
    ending = reported(log, tmp_path, reason="time limit").ending
    assert ending.observed == "nothing"
    assert ending.summary == (
        "The sample did nothing that lasts, as far as plugins were on to record it until the run ended: time "
        "limit. Nothing is known of files and connections, since filetracer and socketmon were off."
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "by itself."),
        ({"complete": False, "reason": "crash"}, "The run broke off: crash, so what came after"),
        ({"complete": None}, "is not known, because the host has an older version"),
    ],
)
def test_only_the_traffic_says_something(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    """A request that no process is known for, and that is not Windows' own."""
    ending = with_traffic(all_on(Log().started()), tmp_path, get("evil.example"), **changes).ending
    assert ending.observed == "traffic"
    assert "the recorded traffic, which does not tell whose it is, has more" in ending.summary
    assert said in ending.summary


def test_traffic_of_windows_alone(tmp_path: Path) -> None:
    """It says nothing of the sample, and is no indicator."""
    packets = (
        lookup("www.msftconnecttest.com"),
        get("ctldl.windowsupdate.com"),
        segment(hello("settings-win.data.microsoft.com"), port=443, source=2),
    )
    report = with_traffic(all_on(Log().started()), tmp_path, *packets)
    assert (len(report.network.names), len(report.network.http), len(report.network.tls)) == (1, 1, 1)
    assert report.ending.observed == "nothing"
    assert (report.indicators.hosts, report.indicators.urls) == ((), ())


def connected(log: Log, *, pid: int, port: int) -> None:
    """A process connected to the server of the traffic."""
    place = {"RemoteIp": SERVER, "RemotePort": port, "OwnerPID": pid}
    log.add("socketmon", "TcpCreateAndConnectTcbComplete", pid=pid, ppid=4, Protocol="TCPv4", **place)


def test_whose_traffic_it_is(tmp_path: Path) -> None:
    """By the connections to its address and port, where those are known: the names count elsewhere."""
    log = Log().started()
    connected(log, pid=100, port=80)
    connected(log, pid=200, port=443)
    packets = (get("cdn.example"), segment(hello("www.bing.com"), port=443, source=2))
    report = with_traffic(log, tmp_path, *packets)
    assert report.indicators.urls == ()
    assert report.indicators.hosts == ("www.bing.com",)


def test_traffic_to_a_place_that_both_used(tmp_path: Path) -> None:
    """As where one server answers for all names: then the name decides."""
    log = Log().started()
    connected(log, pid=100, port=80)
    connected(log, pid=200, port=80)
    report = with_traffic(log, tmp_path, get("evil.example:80"), get("www.msftncsi.com:80", source=2))
    assert report.indicators.urls == ("http://evil.example:80/a",)


@pytest.mark.parametrize(
    ("host", "is_windows"),
    [
        ("CTLDL.windowsupdate.com.", True),
        ("v10.events.data.microsoft.com", True),
        ("7.2.0.192.in-addr.arpa", True),
        ("wpad", True),
        ("evil.wpad.example", False),
        ("notwindowsupdate.com", False),
        ("windowsupdate.com.evil.example", False),
        ("blob.core.windows.net", False),
        ("", False),
        ("." * 300, False),
    ],
)
def test_hosts_of_windows(host: str, is_windows: bool) -> None:
    """Whole names, and all below some."""
    assert is_of_windows(host) is is_windows


def test_indicators_that_are_left_out_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As what any other list has no room for."""
    monkeypatch.setattr(indicators_module, "MOST", 2)
    packets = [get(f"{number}.example", source=number) for number in range(1, 6)]
    report = with_traffic(Log().started(), tmp_path, *packets)
    assert len(report.indicators.urls) == 2
    assert report.left_out == {"indicators": 3}


PLAN = WatchPlan(min_seconds=10, quiet_seconds=60, mode="active")
STOPPED = WatchRun(plan=PLAN, ended="quiet", seconds=143, stop_second=142, facts=1)


def test_a_quiet_stop_is_no_end(tmp_path: Path) -> None:
    """A run that was stopped neither ended nor broke off, and what came later is not known."""
    log = all_on(Log().started())
    stopped = {"watch": STOPPED, "reason": STOPPED.words}
    unknown = (
        "The run did not go on until its time was over: stopped after 143 s, since nothing new had come for "
        "60 s. What the sample would have done later is not known."
    )
    (tmp_path / "idle").mkdir()
    ending = reported(log, tmp_path / "idle", **stopped).ending
    assert (ending.ended, ending.observed, ending.complete) == ("quiet", "nothing", True)
    assert ending.summary.startswith("The sample did nothing that lasts: ")
    assert ending.summary.endswith(f"was recorded. {unknown}")
    log.add("regmon", "NtSetValueKey", Key="k", ValueName="v", Value="1")
    (tmp_path / "busy").mkdir()
    ending = reported(log, tmp_path / "busy", **stopped).ending
    assert ending.summary == f"What the sample was seen to do is listed. {unknown}"
    for name, empty in (("unseen", Log().started()), ("blank", Log())):
        (tmp_path / name).mkdir()
        del empty.lines[2:]
        ending = reported(empty, tmp_path / name, **stopped).ending
        assert ending.observed == ("not_seen" if name == "unseen" else "no_log")
        assert "it is not known what the sample does. " in ending.summary
        assert ending.summary.endswith(unknown)
    (tmp_path / "cut").mkdir()
    ending = reported(log, tmp_path / "cut", complete=False, watch=STOPPED, reason="DRAKVUF died").ending
    assert ending.summary.startswith("The run broke off: DRAKVUF died.")


def test_a_run_in_shadow_ended(tmp_path: Path) -> None:
    """It says what ended it, and no more in its summary than any other."""
    shadow = STOPPED.model_copy(update={"ended": "timeout", "seconds": 600})
    ending = reported(all_on(Log().started()), tmp_path, watch=shadow).ending
    assert ending.ended == "timeout"
    assert "was recorded until the run ended." in ending.summary
