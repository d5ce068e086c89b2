"""The JSON of ``status`` is a documented form of its own."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter

from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from drakcelery.operators.status_document import AnalysisStatus, OneAnalysis, OneQueued, StatusDocument
from tests import reference

SCHEMA = reference.ROOT / "docs" / "status.schema.json"
PRIVATE = ("machine", "busy", "beat", "beat_text", "updated_text", "silence", "sent", "resends", "postponed")


def schema() -> str:
    """The JSON Schema of all three forms, as it is published."""
    adapter: TypeAdapter[Any] = TypeAdapter(StatusDocument | OneAnalysis | OneQueued)
    return json.dumps(adapter.json_schema(mode="serialization"), indent=2) + "\n"


def test_the_schema_is_published() -> None:
    """docs/status.schema.json is the model's; `python -m tests.unit.test_status_document` writes it."""
    assert SCHEMA.read_text(encoding="utf-8") == schema()


def test_what_only_the_ledger_needs_is_left_out() -> None:
    """Claims, signs of life and counters of messages are nobody's business, and may change."""
    record = Record(
        uid="a",
        task_uid="t",
        root_uid="r",
        state=State.FAILED,
        attempt=2,
        first_attempt=1,
        received=1.0,
        updated=2.0,
        finished=3.0,
        refusal="no",
        updated_text="2.0",
    )
    shown = json.loads(OneAnalysis.of(record).model_dump_json())
    assert (shown["version"], shown["state"], shown["reason"], shown["estimate"]) == (1, "FAILED", "no", None)
    assert not set(PRIVATE) & shown.keys()
    assert shown.keys() - {"version"} == set(AnalysisStatus.model_fields)


if __name__ == "__main__":
    SCHEMA.write_text(schema(), encoding="utf-8")
