"""Speakeasy's own schema of its configuration."""

from __future__ import annotations

import importlib
import json
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def speakeasy_takes(config: dict[str, Any]) -> None:
    """Fail unless Speakeasy's schema accepts *config*."""
    _validator().validate(config)


@cache
def _validator() -> Any:
    spec = find_spec("speakeasy")
    assert spec is not None
    assert spec.origin is not None
    schema = json.loads((Path(spec.origin).parent / "config_schema.json").read_text(encoding="utf-8"))
    before = set(sys.modules)
    # As in the guest's process: jsonschema loads it for 0.9 s, and this schema has no use for it
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type] # its import fails, as documented
    jsonschema = importlib.import_module("jsonschema")
    # Whoever imports it after us needs all of it
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("jsonschema", "rfc3987_syntax"):
            del sys.modules[name]
    return jsonschema.Draft7Validator(schema)
