"""``python -m drakcelery.worker …``: as ``celery --quiet -A drakcelery worker …``, in half the time.

The ``celery`` command imports each of its commands and of its plugins, Flower and Tornado among them, before
it looks which one is wanted. This imports only the command ``worker`` of the same app.
"""

from __future__ import annotations

import gc

from drakcelery import garbage, lean


def main() -> None:
    """Run a worker until it is stopped. Does not return."""
    garbage.spare()
    lean.start()
    from celery.app.utils import find_app
    from celery.bin.base import CLIContext
    from celery.bin.worker import worker

    context = CLIContext(app=find_app("drakcelery"), no_color=False, workdir=None, quiet=True)
    gc.freeze()  # the pool's processes share this memory for as long as no collection writes to it
    worker.main(prog_name="drakcelery worker", obj=context, auto_envvar_prefix="CELERY_WORKER")


if __name__ == "__main__":
    main()
