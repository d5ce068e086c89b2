"""``python -m drakcelery``: the ``drakcelery`` command."""

from __future__ import annotations

from drakcelery.cli import main

if __name__ == "__main__":
    main()
