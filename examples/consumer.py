"""A Karton service on drakcelery's analyses: prints what each one holds. Knows Karton, nothing of drakcelery.

KARTON_CONFIG_FILE=~/.local/state/drakcelery/drakcelery.ini python examples/consumer.py [--once]
"""

from __future__ import annotations

import json
import sys
from typing import Any

from karton.core import Config, Karton, RemoteResource, Task


class ExampleConsumer(Karton):
    """Prints each analysis' artifacts, and what the sample did."""

    identity = "karton.example-consumer"
    filters = [{"type": "analysis", "kind": "drakrun"}]  # noqa: RUF012 Karton's own type

    def process(self, task: Task) -> None:
        """Called by Karton for every analysis."""
        metadata = task.get_payload("metadata")
        print(f"{task.get_payload('analysis_uid')} by {metadata['engine']} on {metadata['host']}")
        for name, resource in sorted(task.payload.items()):
            if isinstance(resource, RemoteResource):
                print(f"  {name:24} {resource.size:>10} bytes  {resource.sha256}")
        if task.has_payload("report.json"):
            show(json.loads(task.get_resource("report.json").content or b""))
        dumps_zip = task.get_resource("dumps.zip")
        if not isinstance(dumps_zip, RemoteResource):
            raise TypeError("a consumer gets remote resources only")
        with dumps_zip.zip_file() as dumps:
            print(f"  {sum(not member.endswith('/') for member in dumps.namelist())} memory dumps")

    def consume_one(self) -> None:
        """Register with Karton, wait for one analysis, and end."""
        self.backend.register_bind(self._bind)
        with self.graceful_killer():
            while not self.shutdown:
                task = self.backend.consume_routed_task(self.identity)
                if task is not None:
                    self.internal_process(task)
                    return


def show(report: dict[str, Any]) -> None:
    """What the sample did, without what Windows did meanwhile."""
    print(f"  {report['ending']['summary']}")
    own = {one["seqid"] for one in report["processes"] if one["origin"] != "windows"}
    for process in report["processes"]:
        if process["seqid"] in own:
            print(f"  process {process['pid']:>6}  {process['command_line'] or process['image']!r:.160}")
    for file in report["files"]:
        if own & set(file["processes"]):
            print(f"  {'/'.join(file['actions']):>14}  {file['path']!r:.160}")
    for name in report["network"]["names"]:
        print(f"  {'looked up':>14}  {name['name']!r:.160}")


if __name__ == "__main__":
    consumer = ExampleConsumer(config=Config())
    if "--once" in sys.argv[1:]:
        consumer.consume_one()
    else:
        consumer.loop()
