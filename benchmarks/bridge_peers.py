"""The peers of ``benchmarks/bridge.py``; each works in a process of its own.

Five empty jobs, one after the other, are what an analysis of ours is to its transport. The last one says that
it is done on a list in Redis, the same way for each peer.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import celery
import dramatiq
import redis
import rq
from dramatiq.brokers.redis import RedisBroker
from karton.core import Karton, Resource, Task

from benchmarks.stacks import KB
from drakcelery import settings
from drakcelery.karton import submit
from drakcelery.settings import Settings

STEPS = 5
DONE = "bench:done"
"""List in a peer's database: an element for each row of jobs that is done."""
WANTED = {"type": "bench-sample"}
SENT = {"type": "bench-analysis"}
DATABASES = {"celery": 11, "rq": 12, "dramatiq": 13}
"""How far from Karton's."""
PROCESSES = 2
"""Of Celery's pool: one a core."""

_clients: dict[str, redis.Redis] = {}


class TrivialConsumer(Karton):
    """What a bridge that does nothing at all would be: one file in, one file out."""

    identity = "karton.bench-pair"
    filters = [WANTED]  # noqa: RUF012 Karton's own type

    def process(self, task: Task) -> None:
        """Download the sample, send a file of its size on."""
        content = task.get_resource("sample").content
        self.send_task(Task(SENT, payload={"artifact": Resource("artifact", content[:KB])}))


def job(last: bool) -> None:
    """An empty job, of any peer."""
    if last:
        _clients["done"].rpush(DONE, 1)


def address(peer: str, ours: Settings) -> str:
    """The URL of a peer's database."""
    return ours.redis.address(db_offset=DATABASES[peer])


# How each is sent


def celery_chain(url: str) -> Callable[[], object]:
    """Sends a Celery chain. Configured as Celery is by default; results are ignored, as ours are."""
    task = celery_app(url).tasks["job"]
    links = [task.si(number == STEPS) for number in range(1, STEPS + 1)]
    return lambda: celery.chain(*links).apply_async()


def rq_jobs(url: str) -> Callable[[], object]:
    """Sends jobs of RQ, each of which depends on the one before."""
    queue = rq.Queue(connection=redis.Redis.from_url(url))

    def send() -> None:
        before = None
        for number in range(1, STEPS + 1):
            before = queue.enqueue(job, number == STEPS, depends_on=before)

    return send


def dramatiq_pipeline(url: str) -> Callable[[], object]:
    """Sends a pipeline of dramatiq."""
    actor = dramatiq_actor(url)

    def send() -> None:
        rows = [
            actor.message_with_options(args=(number == STEPS,), pipe_ignore=True)
            for number in range(1, STEPS + 1)
        ]
        dramatiq.pipeline(rows, broker=actor.broker).run()  # type: ignore[no-untyped-call] # dramatiq leaves it so

    return send


def celery_app(url: str) -> celery.Celery:
    """A bare Celery app."""
    app = celery.Celery("bench", broker=url)
    app.conf.task_ignore_result = True
    app.task(name="job")(job)
    return app


def dramatiq_actor(url: str) -> Any:
    """dramatiq's job."""
    broker = RedisBroker(url=url)  # type: ignore[no-untyped-call] # dramatiq leaves it so
    return dramatiq.actor(broker=broker)(job)


SENDERS = {"celery": celery_chain, "rq": rq_jobs, "dramatiq": dramatiq_pipeline}

# The processes


def celery_worker(url: str) -> None:
    """Celery's worker."""
    celery_app(url).worker_main(["worker", f"--concurrency={PROCESSES}", "--loglevel=WARNING"])


def rq_worker(url: str) -> None:
    """RQ's worker, which forks for each job."""
    connection = redis.Redis.from_url(url)
    rq.Worker([rq.Queue(connection=connection)], connection=connection).work(logging_level="WARNING")


def dramatiq_worker(url: str) -> None:
    """dramatiq's worker, in eight threads."""
    worker = dramatiq.Worker(dramatiq_actor(url).broker)
    worker.start()
    signal.pause()


WORKERS = {"celery": celery_worker, "rq": rq_worker, "dramatiq": dramatiq_worker}


def main(peer: str, config: str) -> None:
    """Work until SIGTERM."""
    ours = settings.load(Path(config))
    if peer == "karton":
        TrivialConsumer(config=submit.karton_config(ours)).loop()
        return
    url = address(peer, ours)
    _clients["done"] = redis.Redis.from_url(url)
    WORKERS[peer](url)
