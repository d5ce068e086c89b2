"""A Karton service on drakcelery's analyses: prints what each one holds, and what the sample did.

KARTON_CONFIG_FILE=~/.local/state/drakcelery/drakcelery.ini python examples/consumer.py [--once]
"""

from __future__ import annotations

import sys

from karton.core import Config, Karton, Task

from drakcelery.reading import Analysis, Report


class ExampleConsumer(Karton):
    """Prints each analysis' artifacts, and what the sample did."""

    identity = "karton.example-consumer"
    filters = [{"type": "analysis", "kind": "drakrun"}]  # noqa: RUF012 Karton's own type

    def process(self, task: Task) -> None:
        """Called by Karton for every analysis."""
        analysis = Analysis.of(task)
        print(f"{analysis.uid} by {analysis.metadata.engine} on {analysis.metadata.host}")
        for name, size in sorted(analysis.artifacts.items()):
            print(f"  {name:24} {size:>10} bytes")
        if "report.json" in analysis.artifacts:
            show(analysis.report)
        with analysis.dumps() as dumps:
            print(f"  {len(dumps)} memory dumps")

    def consume_one(self) -> None:
        """Register with Karton, wait for one analysis, and end."""
        self.backend.register_bind(self._bind)
        with self.graceful_killer():
            while not self.shutdown:
                task = self.backend.consume_routed_task(self.identity)
                if task is not None:
                    self.internal_process(task)
                    return


def show(report: Report) -> None:
    """What the sample did, without what Windows did meanwhile."""
    print(f"  {report.ending.summary}")
    own = {process.seqid for process in report.processes if process.origin != "windows"}
    for process in report.processes:
        if process.seqid in own:
            print(f"  process {process.pid:>6}  {process.command_line or process.image!r:.160}")
    for file in report.files:
        if own & set(file.processes):
            print(f"  {'/'.join(file.actions):>14}  {file.path!r:.160}")
    for name in report.network.names:
        print(f"  {'looked up':>14}  {name.name!r:.160}")


if __name__ == "__main__":
    consumer = ExampleConsumer(config=Config())
    if "--once" in sys.argv[1:]:
        consumer.consume_one()
    else:
        consumer.loop()
