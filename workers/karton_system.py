"""karton-system, which routes tasks; as the Procfile starts it."""

from __future__ import annotations

from drakcelery.cli import main

if __name__ == "__main__":
    main(["system"])
