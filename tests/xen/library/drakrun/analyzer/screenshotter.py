"""Screenshots of a guest; importing it takes most of what the command's imports take."""

from __future__ import annotations

import base64
import json
import threading
import time
from pathlib import Path

from drakrun.simulated import MACHINE, SHARE, cost

cost(1 - SHARE)

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""A PNG of one pixel."""


class Screenshotter:
    """Takes one every *loop_interval* seconds."""

    def __init__(
        self,
        output_dir: Path,
        vnc_host: str,
        vnc_port: int,
        vnc_password: str,
        loop_interval: float = 5,
        max_screenshots: int = 30,
        diff_threshold: float = 0.05,
    ) -> None:
        del vnc_host, vnc_password, diff_threshold
        self._directory = output_dir
        self._vm = f"vm-{vnc_port - 5900}"
        self._interval = loop_interval
        self._most = max_screenshots
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._perform)

    def start(self) -> None:
        """Begin."""
        MACHINE.enter("drakrun", ["screenshots", "--vm-id", self._vm.removeprefix("vm-")])
        self._thread.start()

    def stop(self) -> None:
        """End."""
        order = MACHINE.take("drakrun screenshots", vm=self._vm)
        if order and order["how"] == "hangs":
            time.sleep(3600)
        self._stop.set()
        self._thread.join()

    def _perform(self) -> None:
        order = MACHINE.take("drakrun screenshots", vm=self._vm)
        size = order["details"].get("size", 0) if order else 0
        (self._directory / "screenshots").mkdir()
        with (self._directory / "screenshots.json").open("w") as log:
            for number in range(1, self._most + 1):
                if MACHINE.guest(self._vm) is None:
                    return
                image = self._directory / "screenshots" / f"screenshot_{number}.png"
                image.write_bytes(PIXEL + bytes(size))
                log.write(json.dumps({"timestamp": time.time(), "image_hash": "c", "index": number}) + "\n")
                log.flush()
                if self._stop.wait(self._interval):
                    return
