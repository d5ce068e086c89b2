"""A real Prometheus asks a fleet under load: every query of the dashboard has an answer, and it is true."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3
from prometheus_client.parser import text_string_to_metric_families

from drakcelery.embedded.ports import assign
from drakcelery.embedded.services import Services
from drakcelery.forecast.news import WatchedRuns
from drakcelery.karton import kept
from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from drakcelery.stages import cancellation
from drakcelery.telemetry import instruments
from tests import reference
from tests.conftest import require
from tests.faults.fleet import Fleet, Options
from tests.servers import lent
from tests.waiting import wait_until

CONFIG = reference.ROOT / "config"
PROFILES = {"rack-1": "default", "rack-2": "win7-x64"}
SLOTS = 2
DUMP_LIMIT = "100"
"""Bytes: the recorded dump is larger, and is left out."""
LOST, REFUSED, CANCELLED = "metrics-lost", "metrics-refused", "metrics-cancelled"
TIMEOUT = 5.0


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A fleet, and the Prometheus that asks it."""

    fleet: Fleet
    targets: Mapping[str, int]
    """Port of each process, by ``<role>@<host>``; ``ingress``."""
    port: int
    """Of Prometheus."""
    started: float

    def ask(self, path: str, **fields: str | float) -> Any:
        """What Prometheus' API answers, the data only."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}"
        answer = urllib3.request(
            "GET", url, fields={name: str(value) for name, value in fields.items()}
        ).json()
        assert answer["status"] == "success", (fields, answer)
        return answer["data"]

    def value(self, query: str) -> float | None:
        """The one value of a query now; None if there is none."""
        result = self.ask("query", query=query)["result"]
        assert len(result) < 2, f"{query} has several answers"
        return float(result[0]["value"][1]) if result else None

    def numbers(self, query: str) -> list[float]:
        """Every value that is a number, of all series of a query, since Prometheus began."""
        data = self.ask("query_range", query=query, start=self.started, end=time.time(), step=1)
        values = [float(value) for series in data["result"] for _, value in series["values"]]
        return [value for value in values if math.isfinite(value)]

    def page(self, target: str) -> str:
        """What a process says to Prometheus."""
        url = f"http://127.0.0.1:{self.targets[target]}/metrics"
        return urllib3.request("GET", url, timeout=TIMEOUT).data.decode()

    def series(self) -> set[tuple[str, str, tuple[tuple[str, str], ...]]]:
        """(process, name, labels) of each of drakcelery's own series."""
        return {
            (target, sample.name, tuple(sorted(sample.labels.items())))
            for target in self.targets
            for family in text_string_to_metric_families(self.page(target))
            for sample in family.samples
            if sample.name.startswith("drakcelery_")
        }


@pytest.fixture(scope="module")
def watched(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Two hosts of two profiles with metrics on, and a Prometheus with our configuration, only faster."""
    program = shutil.which("prometheus")
    require(program is not None, "prometheus is not installed (Debian: apt-get install prometheus)")
    directory = tmp_path_factory.mktemp("metrics")
    roles = [f"{role}@{host}" for host in PROFILES for role in ("vm", "io")]
    ports = assign(("prometheus", "ingress", *roles), kept={})
    port = ports.pop("prometheus")
    options = Options(
        hosts=tuple(PROFILES),
        slots=SLOTS,
        profiles=PROFILES,
        more={
            "metrics": {"serve": "1", "ingress_port": str(ports["ingress"])},
            "drakcelery": {"dumps_total_size": DUMP_LIMIT},
            "watch": {"enabled": "1"},
        },
        of_host={
            host: {"metrics": {f"{role}_port": str(ports[f"{role}@{host}"]) for role in ("vm", "io")}}
            for host in PROFILES
        },
    )
    with (
        lent(services),
        Fleet(directory / "fleet", services, options) as fleet,
        _prometheus(str(program), directory / "prometheus", port, ports),
    ):
        yield Watched(fleet=fleet, targets=ports, port=port, started=time.time())


@contextlib.contextmanager
def _prometheus(program: str, directory: Path, port: int, targets: Mapping[str, int]) -> Iterator[None]:
    """A Prometheus that asks *targets* every second, by our own scrape.yml and alerts.yml."""
    directory.mkdir()
    text = (CONFIG / "prometheus" / "scrape.yml").read_text(encoding="utf-8")
    roles = {"ingress": 9651, "vm": 9652, "io": 9653}
    for target, own_port in targets.items():
        role, _, host = target.partition("@")
        example = f"{host or 'ingress'}.example:{roles[role]}"
        assert example in text
        text = text.replace(example, f"127.0.0.1:{own_port}")
    (directory / "prometheus.yml").write_text(text.replace("interval: 15s", "interval: 1s"))
    shutil.copy(CONFIG / "prometheus" / "alerts.yml", directory)
    command = [
        program,
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    log = directory / "log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            wait_until(lambda: _is_ready(port) or process.poll() is not None, "Prometheus is ready")
            assert process.poll() is None, log.read_text()
            yield
        finally:
            process.terminate()


def _is_ready(port: int) -> bool:
    try:
        return urllib3.request("GET", f"http://127.0.0.1:{port}/-/ready", retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False


@pytest.fixture(scope="module")
def over(watched: Watched) -> dict[str, Record]:
    """A load with everything in it: more than there is room for, a death, a refusal, a cancel by hand."""
    fleet = watched.fleet
    wait_until(
        lambda: watched.value("count(up == 1)") == len(watched.targets), "Prometheus reaches every process"
    )
    fleet.plan(LOST, "run.running", "child")
    fleet.push(LOST)
    fleet.push(REFUSED, profile="no-such-profile")
    uids = [f"metrics-{number}" for number in range(20)]
    for number, uid in enumerate(uids):
        fleet.hold(uid)  # until Prometheus has seen that some wait
        fleet.push(uid, profile=list(PROFILES.values())[number % 2])
    wait_until(
        lambda: (watched.value("max(drakcelery:waiting_samples)") or 0) > 0,
        "Prometheus sees samples wait",
    )
    fleet.let_go(*uids)
    fleet.push(CANCELLED)
    record = wait_until(lambda: fleet.record(CANCELLED), "the last sample begins")
    cancellation.cancel(fleet.ledger, record, by="a terminal")
    return fleet.wait_over([*uids, LOST, REFUSED, CANCELLED])


def stored(fleet: Fleet) -> int:
    """Bytes in the bucket of the analyses, without what S3 has copied there itself."""
    sizes = fleet.storage.list("drakrun", "")
    fleet.storage._server.pool.clear()  # SeaweedFS waits for connected clients before it stops
    return sum(size for key, size in sizes.items() if key.rpartition("/")[2] not in kept.RESOURCES)


def test_counts_are_true(watched: Watched, over: dict[str, Record]) -> None:
    """What Prometheus has counted is what the ledger and the bucket say; pool processes' counts included."""
    published = sum(record.state is State.PUBLISHED for record in over.values())
    assert published == len(over) - 2
    fault = over[LOST].failures[0].fault  # the worker sees it at once, unless the machine is very slow
    expected = {
        "sum(drakcelery_analyses_received_total)": published + 1,
        "sum(drakcelery_analyses_published_total)": published,
        'drakcelery_analyses_failed_total{cause="refused"}': 1,
        'drakcelery_analyses_failed_total{cause="cancelled"}': 1,
        "sum(drakcelery_analyses_failed_total)": 2,
        "drakcelery_analysis_attempts_sum": published + 1,
        "sum(drakcelery_karton_wait_seconds_count)": published + 1,
        'sum(drakcelery_stage_duration_seconds_count{stage="run", profile="win7-x64", host="rack-2"})': 10,
        'sum(drakcelery_stage_duration_seconds_count{stage="publish"})': published,
        f'sum(drakcelery_attempts_failed_total{{cause="{fault.value}"}})': 1,
        "sum(drakcelery_attempts_failed_total)": 1,
        "sum(drakcelery_dumps_dropped_total)": published,
        'sum(drakcelery_watch_measured_runs_total{mode="shadow"})': published,
        "sum(drakcelery_quiet_stops_total)": 0,
        "max(drakcelery_watch_max_loss)": 0.02,
        "sum(drakcelery_uploaded_bytes_total)": stored(watched.fleet),
        'sum(drakcelery_slots{state="free"})': len(PROFILES) * SLOTS,
        "sum(drakcelery_host_up)": len(PROFILES),
        "sum(drakcelery_in_flight_analyses)": 0,
        "drakcelery:waiting_samples": 0,
        "sum(drakcelery_reports_lost_total)": 0,
    }
    for query, value in expected.items():
        wait_until(
            lambda query=query, value=value: watched.value(query) == value,  # type: ignore[misc] # mypy cannot type a lambda with a default
            f"{query} is {value}, and not {watched.value(query)}",
        )
    runs = WatchedRuns(watched.fleet.ledger.news)
    assert sum(run.news is not None for pair in runs.pairs() for run in runs.of(pair)) == published
    busy = watched.value('sum(drakcelery_slot_state_seconds_total{state=~"preparing|ready|running"})') or 0
    options = watched.fleet.options
    assert busy >= (options.restore_seconds + options.run_seconds) * published
    assert max(watched.numbers("drakcelery:waiting_samples")) > 0
    assert max(watched.numbers("sum(drakcelery_in_flight_analyses)")) > 0


def queries() -> list[str]:
    """Every query of the dashboard, as Grafana sends it with all hosts and profiles chosen."""
    panels = json.loads((CONFIG / "grafana" / "drakcelery.json").read_text(encoding="utf-8"))["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return [
        query.replace("$__rate_interval", "5s").replace("$host", ".*").replace("$profile", ".*")
        for query in asked
    ]


@pytest.mark.usefixtures("over")
def test_dashboard_has_answers(watched: Watched) -> None:
    """Each query of the dashboard gives numbers; none has to be left empty."""
    unanswered = queries()
    assert len(unanswered) > 40

    def answered() -> bool:
        unanswered[:] = [query for query in unanswered if not watched.numbers(query)]
        return not unanswered

    with contextlib.suppress(AssertionError):  # what is left says more
        wait_until(answered, "every query is answered")
    assert unanswered == []


@pytest.mark.usefixtures("over")
def test_alerts_are_loaded(watched: Watched) -> None:
    """Prometheus evaluates every rule without an error, and a fleet that is well raises no alert."""

    def rules() -> list[dict[str, Any]]:
        return [rule for group in watched.ask("rules")["groups"] for rule in group["rules"]]

    wait_until(lambda: {rule["health"] for rule in rules()} == {"ok"}, "every rule was evaluated")
    alerts = [rule for rule in rules() if rule["type"] == "alerting"]
    assert len(alerts) == (CONFIG / "prometheus" / "alerts.yml").read_text(encoding="utf-8").count("alert: ")
    assert [rule["name"] for rule in alerts if rule["state"] == "firing"] == []


def test_series_do_not_grow_with_samples(watched: Watched, over: dict[str, Record]) -> None:
    """More samples, of other names, make no more series; no label says anything of a sample."""
    fleet = watched.fleet
    before = watched.series()
    more = [f"others-{number}" for number in range(4)]
    for number, uid in enumerate(more):
        fleet.push(uid, profile=list(PROFILES.values())[number % 2])
    fleet.wait_over(more)
    wait_until(
        lambda: (watched.value("sum(drakcelery_analyses_published_total)") or 0) > len(over), "counted"
    )
    assert watched.series() == before
    allowed = {
        "host": set(PROFILES),
        "profile": set(PROFILES.values()),
        "stage": {"prepare", "run", "collect", "upload", "publish"},
        "state": set(instruments.SLOT_STATES),
        "cause": set(instruments.CAUSES),
        "outcome": {*instruments.INTERRUPTIONS, *instruments.REUSES, *instruments.OFFERS},
        "action": {*instruments.RECONCILED, *instruments.RECOVERIES},
        "priority": set(instruments.PRIORITIES),
        "mode": {"shadow", "active"},
        "reason": set(instruments.THROTTLES),
        "quantile": {"0.1", "0.5", "0.9"},
        "slot": {f"vm-{number + 1}" for number in range(SLOTS)},
    }
    for _, name, labels in before:
        for label, value in labels:
            assert label == "le" or value in allowed[label], (name, label, value)
    workers = len(watched.targets) - 1
    # As docs/metrics.md says; here each host has one profile
    assert len(before) <= 30 + (45 + 9) * len(PROFILES) + workers * (120 + 120)


def test_worker_that_died_is_seen(watched: Watched) -> None:
    """A vm worker that dies with a guest is down for Prometheus; once back, it counts what it had to end."""
    fleet = watched.fleet
    worker, uid = "vm@rack-2", "dies-with-its-worker"
    up = 'up{job="drakcelery-vm", host="rack-2"}'
    fleet.plan(uid, "run.running", "worker")
    fleet.push(uid, host="rack-2", profile=PROFILES["rack-2"])
    fleet.processes[worker].running.wait(timeout=60)
    wait_until(lambda: watched.value(up) == 0, "Prometheus sees it")
    assert fleet.respawn() == [worker]
    wait_until(lambda: watched.value(up) == 1, "it answers again")
    recovered = 'drakcelery_recoveries_total{action="ended", job="drakcelery-vm", host="rack-2"}'
    wait_until(lambda: watched.value(recovered) == 1, "it has ended the attempt")
    assert fleet.wait_over([uid])[uid].attempts == 2
