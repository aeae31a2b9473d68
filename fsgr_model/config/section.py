"""The base class of every section of params.yaml."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Rate = Annotated[float, Field(gt=0, le=0.01)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A frozen group of parameters that knows all of its names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
