"""What every section has in common: an unknown key is an error, and a blank one is not set."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import (
    BaseModel,
    ConfigDict,
    model_validator,
)


class Section(BaseModel):
    """One section of the file. Unknown keys are errors: a setting is honoured or refused (I8).

    A key with nothing after its ``=`` counts as not set, as v0.18's own file is written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _blank_is_default(cls, data: object) -> object:
        if not isinstance(data, Mapping):
            return data
        return {
            key: value for key, value in data.items() if not (isinstance(value, str) and not value.strip())
        }
