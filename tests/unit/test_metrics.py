"""Metrics: declared once, documented, bounded, counted across processes, and served at one path."""

from __future__ import annotations

import ast
import itertools
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import urllib3
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
)

from drakcelery.errors import SettingsError
from drakcelery.host.slot import Slot, SlotState
from drakcelery.model.analysis import Stage
from drakcelery.telemetry import exposition, instruments, metrics
from drakcelery.telemetry.relay import Relay
from drakcelery.worker.slot_metrics import SlotClock
from tests import reference
from tests.modules import MODULES, Module, walk
from tests.waiting import wait_until

PAGE = (reference.ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
ALERTS = (reference.ROOT / "config" / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
DASHBOARD = json.loads(
    (reference.ROOT / "config" / "grafana" / "drakcelery.json").read_text(encoding="utf-8")
)
OURS = re.compile(r"drakcelery_[a-z_]+")
FLEETS_OWN = {"host", "profile", "slot", "key"}
"""Labels whose values are names that the fleet's operators gave, or made of such."""
OF_THE_FLEET = (instruments.SLOTS, instruments.HOST_UP, instruments.SLOT_SCORE, instruments.SNAPSHOT_CHANGED)
"""What an ingress tells of hosts."""
OF_THE_PROCESS = (GCCollector, PlatformCollector, ProcessCollector)
"""What the operating system and Python say of a process, which is nobody's metric."""
MADE = re.compile(r"(?:\w+\.)*(?:Counter|Gauge|Histogram|Summary|Info|Enum)")
FEW_WORDS = {
    "state",
    "stage",
    "cause",
    "outcome",
    "action",
    "priority",
    "quantile",
    "reason",
    "where",
    "mode",
}


def declared() -> dict[str, Counter | Gauge | Histogram]:
    """Every metric of the two registries, by the name that Prometheus knows it by."""
    found = {
        id(one): one
        for registry in (instruments.INGRESS, instruments.WORKER)
        for one in registry._collector_to_names
        if type(one) not in OF_THE_PROCESS
    }
    odd = [one for one in found.values() if not isinstance(one, Counter | Gauge | Histogram)]
    assert odd == [], "these are of a kind that docs/metrics.md does not know"
    return {_name(one): one for one in found.values() if isinstance(one, Counter | Gauge | Histogram)}


def _name(metric: Counter | Gauge | Histogram) -> str:
    family: Metric = next(iter(metric.describe()))
    return f"{family.name}_total" if family.type == "counter" else family.name


def _type(metric: Counter | Gauge | Histogram) -> str:
    return type(metric).__name__.lower()


def documented() -> dict[str, tuple[str, str]]:
    """Type and labels of every row of docs/metrics.md that describes a metric."""
    row = re.compile(r"^\| `(drakcelery_[a-z_]+)` \| (\w+) \|([\w, ]*)\| [\w ]+ \| .{20,} \|$", re.MULTILINE)
    return {name: (kind, labels.strip()) for name, kind, labels in row.findall(PAGE)}


def test_every_metric_is_documented() -> None:
    """docs/metrics.md has a row for each metric, with its type and labels, and no other rows."""
    assert documented() == {
        name: (_type(metric), ", ".join(metric._labelnames)) for name, metric in declared().items()
    }


def metrics_made(module: Module) -> Iterator[int]:
    """The lines of *module* that make a metric of prometheus_client's."""
    imported = {
        alias.asname or alias.name
        for node in walk(module.tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        and (getattr(node, "module", None) or node.names[0].name).startswith("prometheus_client")
        for alias in node.names
    }
    for node in walk(module.tree):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Call) and MADE.fullmatch(called) and called.partition(".")[0] in imported:
            yield node.lineno


def test_metrics_are_made_in_one_place() -> None:
    """No other module makes one, in whatever registry: it would be in no table and on no dashboard."""
    assert {one.name for one in MODULES if list(metrics_made(one))} == {"telemetry.instruments"}


@pytest.mark.parametrize(
    "text",
    [
        "from prometheus_client import Summary\nx = {1: Summary('a', 'b')}",
        "import prometheus_client\nprometheus_client.Counter('a', 'b')",
        "from prometheus_client.metrics import Counter\nCounter('a', 'b')",
    ],
)
def test_a_metric_elsewhere_is_noticed(text: str) -> None:
    """The check above sees each way to make one."""
    assert list(metrics_made(Module(name="probe", text=text))) == [2]


@pytest.mark.parametrize(
    "word",
    [
        *(*instruments.CAUSES, *instruments.RECOVERIES, *instruments.RECONCILED, *instruments.INTERRUPTIONS),
        *(*instruments.THROTTLES, *instruments.PRIORITIES, *instruments.SLOT_STATES, *Stage),
    ],
)
def test_every_word_is_explained(word: str) -> None:
    """What a label may say is explained in docs/metrics.md."""
    assert f"`{word}`" in PAGE


def test_every_label_is_explained() -> None:
    """docs/metrics.md says of each label what its values are, and of no others."""
    part = PAGE.split("\n## What labels say\n")[1].partition("\n## ")[0]
    cells = re.findall(
        r"^\| ((?:`[a-z]+`(?:, )?)+) \| .{10,} \|$", part.partition("| State of")[0], re.MULTILINE
    )
    named = [name for cell in cells for name in re.findall(r"`([a-z]+)`", cell)]
    assert sorted(named) == sorted({label for metric in declared().values() for label in metric._labelnames})


def test_every_loop_with_a_quarantine_is_explained() -> None:
    """The label `where` may be the name of any loop that puts aside what it cannot deal with."""
    code = "".join(path.read_text(encoding="utf-8") for path in (reference.ROOT / "drakcelery").rglob("*.py"))
    loops = set(re.findall(r'Isolation\([^()]*where="([a-z]+)"', code))
    assert {"inbox", "reconcile"} <= loops
    [row] = [line for line in PAGE.splitlines() if line.startswith("| `where` |")]
    assert loops == set(re.findall(r"`([a-z]+)`", row)) - {"where"}


def test_every_alert_is_documented() -> None:
    """docs/metrics.md says of each alert how bad it is, what it means and what to do, and of no others."""
    rows = re.findall(r"^\| `(Drakcelery\w+)` \| (\w+) \| .{20,} \| .{20,} \|$", PAGE, re.MULTILINE)
    assert dict(rows) == dict(re.findall(r"- alert: (\w+)\n(?:.*\n)+?\s+labels: \{severity: (\w+)\}", ALERTS))


def test_units_are_in_the_names() -> None:
    """A metric of seconds or bytes says so in its name, the unit last but for _total."""
    for name, metric in declared().items():
        text = metric._documentation.lower()
        for word in ("seconds", "bytes"):
            assert text.startswith(word) == name.removesuffix("_total").endswith(word), name


def test_labels_are_bounded() -> None:
    """No label can have a value from a sample: only names of the fleet, and words that are all there is."""
    for name, metric in declared().items():
        labels = set(metric._labelnames)
        assert labels <= FLEETS_OWN | FEW_WORDS, name
        assert "host" not in labels or metric in OF_THE_FLEET, (
            f"{name}: a worker's host is a label of its target"
        )


def test_every_metric_is_on_the_dashboard() -> None:
    """The dashboard shows each metric, and asks for no other, nor for sums that alerts.yml lacks."""
    asked = " ".join(expressions())
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in OURS.findall(asked)}
    sums = set(re.findall(r"record: (drakcelery:\w+)", ALERTS))
    assert set(re.findall(r"drakcelery:\w+", asked)) <= sums
    assert names == set(declared())


def expressions() -> Iterator[str]:
    """Every query of the dashboard."""
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def test_panels_say_what_they_show() -> None:
    """Each panel has a title, a description and a unit, and no two lie on each other."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["title"]
            assert panel["description"]
            assert panel["fieldConfig"]["defaults"]["unit"]


def _slot(state: SlotState, since: float) -> Slot:
    return Slot(name="vm-1", profile="clock", state=state, uid=None, attempt=None, since=since, failures=0)


def _value(name: str, **labels: str) -> float:
    return instruments.WORKER.get_sample_value(name, labels) or 0.0


def test_slot_clock() -> None:
    """Each second goes to the state that the slot was in, and a new claim ends the turnaround."""
    clock = SlotClock()
    clock.observe([_slot(SlotState.RUNNING, 100)], now=110)
    clock.observe([_slot(SlotState.RUNNING, 100)], now=115)
    clock.observe([_slot(SlotState.FREE, 118)], now=120)
    clock.observe([_slot(SlotState.PREPARING, 121)], now=130)
    clock.observe([_slot(SlotState.QUARANTINED, 131)], now=132)
    seconds = {
        state.value: _value("drakcelery_slot_state_seconds_total", profile="clock", state=state)
        for state in SlotState
    }
    assert {state: spent for state, spent in seconds.items() if spent} == {
        "running": 8,
        "free": 3,
        "preparing": 10,
        "quarantined": 1,
    }
    assert _value("drakcelery_slot_turnaround_seconds_sum", profile="clock") == 3
    assert _value("drakcelery_slot_turnaround_seconds_count", profile="clock") == 1
    assert _value("drakcelery_slot_quarantines_total", profile="clock") == 1


FORKED = """
import os
from drakcelery.model.analysis import Stage
from drakcelery.telemetry import metrics
from tests.waiting import wait_until

metrics.relay()
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        metrics.stage_done(Stage.RUN, "win10", seconds=2)
        metrics.uploaded(1000)
        os.kill(os.getpid(), 9)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
metrics.uploaded(1)
from drakcelery.telemetry import instruments
sample = instruments.WORKER.get_sample_value
wait_until(lambda: sample("drakcelery_uploaded_bytes_total") == 3001, "what dead children said is counted")
labels = {"stage": "run", "profile": "win10"}
wait_until(lambda: sample("drakcelery_stage_duration_seconds_sum", labels) == 6, "labels and amounts arrive")
assert sample("drakcelery_reports_lost_total") == 0
"""


def test_pool_processes_report() -> None:
    """What pool processes count is in the main process, even if they die at once."""
    done = subprocess.run(
        [sys.executable, "-c", FORKED], cwd=reference.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_nobody_waits_for_a_frozen_worker() -> None:
    """A pipe that is full loses reports, in order and counted, and holds up nobody."""
    awake = threading.Event()
    heard: list[int] = []
    lost: list[int] = []

    def receive(missed: int, number: int) -> None:
        awake.wait()
        heard.append(number)
        lost.append(missed)

    relay = Relay(receive)
    relay.begin()
    numbers = iter(range(1_000_000))
    for number in itertools.islice(numbers, 20_000):
        relay.send(number)
    awake.set()

    def is_through() -> bool:
        relay.send(last := next(numbers))
        return bool(heard) and len(heard) + sum(lost) >= last

    wait_until(is_through, "a report gets through")
    assert len(heard) > 500
    assert sum(lost) > 1000
    assert heard == sorted(heard)


def test_lost_reports_are_counted() -> None:
    """A report that gets through says how many before it did not."""
    before = _value("drakcelery_reports_lost_total")
    metrics._receive(3, metrics._RELAYED.index(instruments.UPLOADED), [], 0)
    assert _value("drakcelery_reports_lost_total") == before + 3


def test_events_cost_next_to_nothing() -> None:
    """An event takes a few microseconds: generously, less than 100 on any machine."""
    rounds = 2000
    started = time.thread_time()
    for _ in range(rounds):
        metrics.dumps_dropped(0)
    assert (time.thread_time() - started) / rounds < 100e-6


@pytest.fixture
def address() -> Iterator[str]:
    """A server of a registry with one counter."""
    registry = CollectorRegistry()
    Counter("asked", "How often it was asked", registry=registry).inc()
    server = exposition.listen("127.0.0.1", 0, exposition.app(registry), setting="[metrics] io_port")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_one_path_is_served(address: str) -> None:
    """/metrics answers in Prometheus' format; no other path and no other method does."""
    answer = urllib3.request("GET", f"{address}/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert b"asked_total 1.0" in answer.data
    for path, method, status in (
        ("/", "GET", 404),
        ("/metrics/", "GET", 404),
        ("/metrics/../x", "GET", 404),
        ("/metrics", "POST", 405),
    ):
        assert urllib3.request(method, address + path).status == status, path


def test_port_that_is_taken_is_a_sentence(address: str) -> None:
    """A port that somebody has is named with its setting."""
    port = int(address.rpartition(":")[2])
    with pytest.raises(
        SettingsError, match=rf"\[metrics\] io_port = {port}: cannot listen there on 127.0.0.1"
    ):
        exposition.listen("127.0.0.1", port, exposition.app(CollectorRegistry()), setting="[metrics] io_port")
