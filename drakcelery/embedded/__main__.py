"""An embedded stack as :func:`drakcelery.embedded.background.background` starts it."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from drakcelery import garbage, lean

if TYPE_CHECKING:
    from drakcelery.embedded.onlooker import Onlooker


def main(request: Path) -> None:
    """Run the stack until a signal comes; an error's sentence is the last output."""
    garbage.spare()
    lean.start()
    from drakcelery.embedded import stack_class
    from drakcelery.embedded.background import LAST_WORDS
    from drakcelery.errors import DrakceleryError
    from drakcelery.telemetry import logs

    logs.configure(level="info", style="console")
    arguments = json.loads(request.read_text(encoding="utf-8"))
    request.unlink()
    try:
        stack_class()(
            Path(arguments["data_dir"]),
            slots=arguments["slots"],
            overrides=arguments["overrides"],
            procfile=Path(arguments["procfile"]) if arguments["procfile"] else None,
            grace=arguments["grace"],
            onlooker=_onlooker(Path(arguments["data_dir"])) if arguments["tells"] else None,
        ).run()
    except DrakceleryError as error:
        sys.exit(f"{LAST_WORDS}{error}")


def _onlooker(data_dir: Path) -> Onlooker:
    from drakcelery.embedded.lines import Lines

    return Lines(functools.partial(print, flush=True), data_dir)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
