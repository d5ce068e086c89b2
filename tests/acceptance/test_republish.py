"""An engineer sends an analysis again to a service that was not there when it was published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from karton.core import Config, Karton, Task
from karton.core.task import TaskState

from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from drakcelery.reading import Analysis, Metadata
from drakcelery.testing import RECORDED
from tests.acceptance.deployment import Deployment, Receiver, karton_config
from tests.waiting import wait_until


class Late(Karton):
    """A service that came later."""

    identity = "karton.acceptance-late"
    filters = [{"type": "analysis", "kind": "drakrun"}]  # noqa: RUF012 Karton's own type

    def __init__(self, config: Config) -> None:
        super().__init__(config=config)
        self.seen: list[Analysis] = []
        self.backend.register_bind(self._bind)

    def process(self, task: Task) -> None:
        """Reads it while the task is there."""
        one = Analysis.of(task)
        assert list(one.events("procmon"))
        self.seen.append(one)

    def take(self) -> Analysis:
        """The analysis that comes next."""

        def arrived() -> bool:
            task = self.backend.consume_routed_task(self.identity, timeout=1)
            if task is not None:
                self.internal_process(task)
                assert task.status is TaskState.FINISHED, task.error
            return bool(self.seen)

        wait_until(arrived, "the analysis comes again")
        return self.seen.pop()


@pytest.fixture(scope="module")
def published(deployment: Deployment) -> Record:
    """An analysis that was published before the service came."""
    record = deployment.wait_over(deployment.send(Path("samples/behaviour.exe"), payload={"timeout": 30}))
    assert record.state is State.PUBLISHED
    return record


def test_republish(deployment: Deployment, receiver: Receiver, published: Record, tmp_path: Path) -> None:
    """By the command, to all and to one; the service reads it without a VM having run."""
    receiver.sent_again.add(published.uid)
    late = Late(karton_config(deployment.running))
    try:
        sent = deployment.started("republish", published.uid)
        assert sent.returncode == 0, sent.stderr
        assert sent.stdout.startswith(f"sent {published.uid} with ")
        assert late.identity in sent.stdout
        assert late.take().uid == published.uid
        to_one = deployment.drakcelery("republish", published.uid, "--to", late.identity, "--json")
        said = json.loads(to_one.stdout)
        assert (said["uid"], said["to"]) == (published.uid, [late.identity])
        again = late.take()
        assert again.metadata.time_started == fetched_metadata(deployment, published, tmp_path).time_started
        refused = deployment.drakcelery("republish", published.uid, "--to", "karton.nobody")
        assert refused.returncode == 1
        assert refused.stderr.startswith("Error: no consumer 'karton.nobody' in this Karton")
        unknown = deployment.drakcelery("republish", "no-such-uid")
        assert (unknown.returncode, unknown.stdout) == (1, "")
        assert unknown.stderr.startswith("Error: no analysis no-such-uid in the bucket 'drakrun'")
        assert len(deployment.children(published)) >= 1
    finally:
        late.backend.unregister_bind(late.identity)
        late.backend.redis.close()
        late.backend.s3.close()


def fetched_metadata(deployment: Deployment, published: Record, tmp_path: Path) -> Metadata:
    """What `drakcelery fetch` says of the same analysis; the recorded one is like it."""
    to = tmp_path / "fetched"
    assert deployment.drakcelery("fetch", published.uid, "--to", to).returncode == 0
    fetched, recorded = Analysis.from_directory(to), Analysis.from_directory(RECORDED)
    beside = {"drakrun.log", "analysis_task.json"}
    assert set(fetched.artifacts) - beside == set(recorded.artifacts) - beside
    assert set(fetched.metadata.payload()) == set(recorded.metadata.payload())
    return fetched.metadata
