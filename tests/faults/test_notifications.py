"""The webhook on a fleet: nothing is lost when the ingress dies with a notice, and the road does not wait."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from drakcelery.embedded.services import Services
from drakcelery.model.analysis import State
from drakcelery.stages import cancellation
from tests.faults.fleet import Fleet, Options
from tests.servers import lent
from tests.waiting import wait_until
from tests.webhook import SLOW, make_certificates, receiving

SECRET = "a secret of the fleet, long enough"


def test_an_ingress_that_dies_with_a_notice(services: Services, tmp_path: Path) -> None:
    """Killed while the server is silent, it sends the notice again; meanwhile analyses go on."""
    certificates = make_certificates(tmp_path)
    with receiving(certificates) as receiver, lent(services) as servers:
        section = {"url": receiver.url, "secret": SECRET, "ca_file": str(certificates / "ca.pem")}
        only_ingress = {"rack-1": {"notifications": section}}
        options = Options(hosts=("rack-1", "rack-2"), slots=1, of_host=only_ingress)
        with Fleet(tmp_path / "fleet", servers, options) as fleet:
            receiver.plan += [SLOW]
            fleet.push("first", host="rack-2")
            wait_until(lambda: receiver.posts, "the first notice is on its way")
            fleet.signal("ingress", signal.SIGKILL)
            fleet.processes["ingress"].running.wait()
            fleet.respawn()
            fleet.push("second")
            fleet.push("refused", host="nowhere")
            fleet.push("cancelled", host="rack-1", timeout=600)
            record = wait_until(lambda: fleet.record("cancelled"), "it is there")
            cancellation.cancel(fleet.ledger, record, by="the test")
            records = fleet.wait_over(["first", "second", "refused", "cancelled"])
            wait_until(lambda: len(receiver.taken) >= 4, "all four are told")
            assert receiver.posts[0].body in [post.body for post in receiver.taken]
            told = {one["uid"]: one for one in (json.loads(post.body) for post in receiver.taken)}
            assert {uid: one["state"] for uid, one in told.items()} == {
                uid: record.state.value for uid, record in records.items()
            }
            assert records["first"].state is records["second"].state is State.PUBLISHED
            assert told["first"]["karton"]["analysis_task"] == records["first"].analysis_task_uid
            assert {one["id"] for one in told.values()} == {one.task_uid for one in records.values()}
            logs = "".join(path.read_text() for path in (fleet.directory / "log").glob("*.log"))
            assert "notice_sent" in logs
            assert SECRET not in logs
            assert "path-key" not in logs
