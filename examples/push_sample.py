"""Push a sample into Karton, as any producer would. Knows Karton, and nothing of drakcelery.

KARTON_CONFIG_FILE=~/.local/state/drakcelery/drakcelery.ini python examples/push_sample.py FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

from karton.core import Config, Producer, Resource, Task


def main(path: Path) -> None:
    """Send *path* as a recognized 64-bit Windows sample and print the uid of the task tree."""
    task = Task(
        headers={"type": "sample", "stage": "recognized", "platform": "win64", "extension": "exe"},
        payload={"timeout": 60},
    )
    task.add_payload("sample", Resource(path.name, path=str(path)))
    Producer(config=Config(), identity="karton.example-producer").send_task(task)
    print(task.root_uid)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: push_sample.py FILE")
    main(Path(sys.argv[1]))
