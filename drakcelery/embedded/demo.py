"""The demo: one sample through a stack of its own, received as any Karton service would receive it."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from karton.core import Karton, Task
from karton.core.resource import RemoteResource
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from drakcelery import settings
from drakcelery.artifacts.metadata import METADATA
from drakcelery.embedded.background import background
from drakcelery.embedded.layout import home
from drakcelery.errors import BadTask, StackError
from drakcelery.karton import submit
from drakcelery.karton.kept import Wishes
from drakcelery.ledger import Ledger
from drakcelery.model.text import clean
from drakcelery.operators import analyses, views
from drakcelery.operators.report.summary import print_summary
from drakcelery.reading import Analysis
from drakcelery.settings import Settings
from drakcelery.wiring import make_ledger

BEHAVIOUR_LOGS = ("procmon.log", "filetracer.log", "regmon.log", "socketmon.log", "memdump.log", "apimon.log")
FIRST_LINES = 3
LONGEST_LINE = 65536
COMMON_FIELDS = frozenset(
    {
        *("Plugin", "TimeStamp", "PID", "PPID", "TID", "UserName", "UserId", "ProcessName", "Method"),
        *("EventUID", "Event", "CLSID", "CalledFrom"),
    }
)
DELIVERY_SECONDS = 60
"""How long karton-system may take to route the analysis task; it takes a second."""
HOST_SECONDS = 60


class AnalysisConsumer(Karton):
    """An independent Karton service: it knows Karton and the contract, and nothing of drakcelery."""

    identity = "karton.drakcelery-demo"
    filters = [{"type": "analysis", "kind": "drakrun"}]  # noqa: RUF012 Karton's own type
    persistent = False
    received: Task | None = None
    to: Path

    def process(self, task: Task) -> None:
        """Download every resource of the analysis, the way Karton services do, and keep its metadata."""
        for name, resource in task.payload.items():
            if isinstance(resource, RemoteResource) and name != "sample":
                resource.download_to_file(str(self.to / name))
        (self.to / METADATA).write_text(json.dumps(task.payload["metadata"]), encoding="utf-8")
        self.received = task

    def bind(self) -> None:
        """Tell karton-system which tasks are wanted."""
        self.backend.register_bind(self._bind)

    def wait(self, seconds: float) -> Task:
        """The next analysis. Raises :class:`StackError` if none comes in time."""
        deadline = time.monotonic() + seconds
        while self.received is None:
            if time.monotonic() > deadline:
                raise StackError(
                    f"the analysis was published, but did not come out of Karton in {seconds:.0f} s"
                )
            task = self.backend.consume_routed_task(self.identity, timeout=1)
            if task is not None:
                self.internal_process(task)
        return self.received


def default_sample() -> Path:
    """The behaviour sample that comes with drakcelery, in a checkout or in the installed package."""
    return home() / "samples" / "behaviour.exe"


def run(sample: Path | None, *, timeout: int, to: Path, console: Console) -> None:
    """Start a stack, push *sample*, show what happens and what comes back, stop the stack.

    The files stay in a directory below *to*; the stack's own data are gone afterwards.

    Raises:
        DrakceleryError: the sample is refused, the stack did not come up, or the analysis was not
            published; says why.
    """
    sample = sample or default_sample()
    task = _task(sample, Wishes(timeout=timeout))
    console.print("[bold]Starting[/] Valkey, SeaweedFS, karton-system, ingress, workers and Flower …")
    with (
        tempfile.TemporaryDirectory(prefix="drakcelery-demo-") as data_dir,
        background(Path(data_dir), overrides={"drakcelery": {"log_format": "json"}}) as stack,
    ):
        for name, address in stack.addresses.items():
            console.print(f"  {name:8} {address}")
        ours = settings.load(stack.config)
        ledger = make_ledger(ours)
        _wait_for_host(ledger)
        config = submit.karton_config(ours)
        config.load_from_dict({"logging": {"enable_publish": False, "level": "WARNING"}})
        consumer = AnalysisConsumer(config=config)
        consumer.bind()
        uid = submit.push(ours, task)
        console.print(f"[bold]Pushed[/] {escape(clean(sample.name))} into Karton: {uid}")
        record = None
        for record in analyses.follow(ledger, uid):
            console.print(" ", views.progress_line(record))
        if record is not None:
            analyses.require_published(record)
        consumer.to = _results(to, uid)
        task = consumer.wait(DELIVERY_SECONDS)
        show(console, task, consumer.to)
        if (said := Console(stderr=True, emoji=False)).is_terminal:
            print_summary(said, partial(Analysis.of, task), where=str(to / uid))
        console.print("[bold]Stopping[/] everything …")
    console.print(f"[bold green]Done.[/] The files are in {consumer.to}")


def _task(sample: Path, wishes: Wishes) -> Task:
    """The sample task. Raises :class:`BadTask`, before anything is started, if it would be refused."""
    if not sample.is_file():  # to open a pipe would last until somebody writes into it
        raise BadTask(f"{clean(sample)} is no file")
    try:
        facts = submit.facts_of(sample)
    except OSError as error:
        raise BadTask(f"{clean(sample)} cannot be read: {clean(error.strerror or error, 80)}") from None
    most = Settings().drakcelery.max_sample_size
    if facts.size > most:
        raise BadTask(f"{clean(sample.name)} has {facts.size} bytes; at most {most} are accepted")
    return submit.sample_task(sample, wishes, facts=facts)


def _wait_for_host(ledger: Ledger) -> None:
    """Until a vm worker and an ingress are there. Raises :class:`StackError` if they do not come."""
    deadline = time.monotonic() + HOST_SECONDS
    while not (ledger.fleet.hosts() and ledger.bound()):
        if time.monotonic() > deadline:
            raise StackError(f"no vm worker and ingress came up in {HOST_SECONDS} s")
        time.sleep(analyses.POLL_SECONDS)


def _results(to: Path, uid: str) -> Path:
    directory = to / uid
    directory.mkdir(parents=True, exist_ok=True)
    return directory.absolute()


def show(console: Console, task: Task, directory: Path) -> None:
    """Print what a consumer got: metadata, artifacts, and how the behaviour logs begin."""
    console.print(f"[bold]Received[/] from Karton: {task.headers['type']}/{task.headers['kind']} {task.uid}")
    metadata = Table.grid(padding=(0, 2))
    for key, value in task.payload["metadata"].items():
        metadata.add_row(f"  {key}", clean(value if isinstance(value, str) else json.dumps(value)))
    console.print(metadata)
    console.print(views.files_table(directory.iterdir()))
    for name in BEHAVIOUR_LOGS:
        path = directory / name
        if path.is_file():
            console.print(f"[bold]{name}[/] [dim](without what all lines have in common)[/]")
            for line in first_events(path):
                console.print(f"  {line}", markup=False, highlight=False, no_wrap=True, overflow="ellipsis")


def first_events(log: Path) -> Iterator[str]:
    """The first events of a plugin's log: the method, and what is special about the event."""
    with log.open("rb") as file:
        for _ in range(FIRST_LINES):
            line = file.readline(LONGEST_LINE)
            if not line:
                return
            try:
                event = json.loads(line)
            except ValueError:
                yield clean(line.decode("utf-8", "replace").rstrip("\n"))
                continue
            special = (f"{key}={value}" for key, value in event.items() if key not in COMMON_FIELDS)
            yield clean(f"{event.get('Method', '?'):28} {' '.join(special)}")
