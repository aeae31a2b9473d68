"""The section `on_track` of params.yaml: the scores that runs with these parameters have had."""

from pydantic import Field, model_validator

from fsgr_model.config.section import Count, Section


class ScoreRange(Section):
    """Validation CIDEr-D after an epoch, 1.0 is 100."""

    epoch: Count = Field(description="counted from 1")
    low: float = Field(description="below it a run says so")
    high: float = Field(description="above it a run says so")

    @model_validator(mode="after")
    def _in_order(self) -> "ScoreRange":
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        return self


class OnTrackParams(Section):
    """Ranges of validation CIDEr-D; a run says when it leaves them. No stage depends on this section."""

    xe: list[ScoreRange] = Field([], description="ranges of XE; an epoch without one is not compared")
    scst: list[ScoreRange] = Field([], description="ranges of SCST")
