"""What every value of the model is: frozen, and read leniently."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from drakcelery.model.text import storable


def _storable(value: Any) -> Any:
    return storable(value) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_storable)]
"""Text by others, for people only: anything is accepted, and what UTF-8 cannot hold is replaced."""


class Value(BaseModel):
    """A frozen record. Unknown fields are skipped: a fleet is upgraded host by host."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
