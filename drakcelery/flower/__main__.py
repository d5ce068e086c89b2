"""``python -m drakcelery.flower …``: as ``celery --quiet -A drakcelery flower …``, in less time."""

from __future__ import annotations

import sys

from drakcelery import garbage, lean


def main() -> None:
    """Serve Flower until it is stopped. Does not return."""
    garbage.spare()
    lean.start()
    from celery.bin import celery

    sys.argv[1:1] = ["--quiet", "-A", "drakcelery", "flower"]
    celery.main()


if __name__ == "__main__":
    main()
