"""How long a slot stands empty between two guests, with samples waiting: ``python benchmarks/turnaround.py``.

Replays a recorded run of nothing on two slots, so that all there is to measure is the road itself. Prints the
time from the end of a guest to the moment the next sample is in the slot, and the samples an hour.
"""

from __future__ import annotations

import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path

from drakcelery import client, pipeline, settings
from drakcelery.embedded.background import background
from drakcelery.ledger import Ledger, connect
from drakcelery.storage import Storage

SAMPLES = 40
SLOTS = {"vm-1": "default", "vm-2": "default"}
RUN_SECONDS = 0.2


def main() -> None:
    """Run the benchmark and print its figures."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        recorded = directory / "recorded"
        recorded.mkdir()
        (recorded / "drakmon.log").write_text('{"Plugin": "procmon", "TimeStamp": "1.0"}\n')
        replay = {"run_dir": str(recorded), "run_seconds": str(RUN_SECONDS)}
        overrides = {"drakcelery": {"engine": "replay"}, "replay": replay}
        with background(directory / "stack", slots=SLOTS, overrides=overrides) as stack:
            report(settings.load(stack.config), directory)


def report(ours: settings.Settings, directory: Path) -> None:
    """Push the samples, wait for the last, and print what their logs tell."""
    ledger = Ledger(connect(ours.redis), identity=ours.drakrun.identity, record_ttl=600)
    while not (ledger.fleet.hosts() and pipeline.is_bound(ledger.redis, ledger.identity)):
        time.sleep(client.POLL_SECONDS)
    sample = directory / "sample.bat"
    sample.write_text("exit")
    started = time.monotonic()
    uids = [pipeline.push(ours, pipeline.sample_task(sample)) for _ in range(SAMPLES)]
    while len(list(ledger.done(newest=SAMPLES))) < SAMPLES:
        time.sleep(client.POLL_SECONDS)
    seconds = time.monotonic() - started
    gaps = sorted(turnarounds(Storage.connect(ours.s3, threads=4), uids, directory))
    print(f"samples            {SAMPLES} on {len(SLOTS)} slots, {RUN_SECONDS} s each")
    print(f"turnaround p50     {statistics.median(gaps) * 1000:7.0f} ms")
    print(f"turnaround p90     {gaps[len(gaps) * 9 // 10] * 1000:7.0f} ms")
    print(f"turnaround max     {gaps[-1] * 1000:7.0f} ms")
    print(f"samples an hour    {SAMPLES / seconds * 3600:7.0f}")


def turnarounds(storage: Storage, uids: list[str], directory: Path) -> list[float]:
    """Seconds between a guest's end and the next sample in the same slot, for every such pair."""
    lives = []
    for uid in uids:
        storage.download_all("drakrun", uid, directory / uid)
        lines = [json.loads(line) for line in (directory / uid / "drakrun.log").read_text().splitlines()]
        times = {line["message"]: float(line["created"]) for line in lines}
        lives.append((lines[0]["slot"], times["sample_fetched"], times["guest_destroyed"]))
    return [
        start - end
        for _, slot in itertools.groupby(sorted(lives), key=lambda life: life[0])
        for (_, _, end), (_, start, _) in itertools.pairwise(slot)
    ]


if __name__ == "__main__":
    main()
