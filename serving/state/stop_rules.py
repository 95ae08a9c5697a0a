"""When a trial of a head is stopped, and how long a head that went live is watched.

These are parts of records in the store. It knows nothing of how a rule is decided.
"""

from pydantic import BaseModel, ConfigDict, Field


class StopIf(BaseModel):
    """What stops a trial. A rule that is absent never stops it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    worse: float | None = Field(default=None, ge=1e-6, le=0.5)
    """Verified labels show that the head on trial recalls less than the other, on all classes or in a group. The number
    is the probability of stopping a head that is no worse, however often one looks."""
    disagreement: float | None = Field(default=None, gt=0, lt=1)
    """The two heads disagree on more than this share of the answers, beyond chance."""
    errors: float | None = Field(default=None, gt=0, lt=1)
    """The head on trial fails on more than this share of the answers, beyond chance."""
    unknown: float | None = Field(default=None, gt=0, lt=1)
    """Of the answers, the share that the head on trial does not know (`known` below 0.05) is larger by more than this
    than the share that the other head does not know, beyond chance."""

    @property
    def level(self) -> float:
        """The level of what labels must show, 0.05 where `worse` says none."""
        return 0.05 if self.worse is None else self.worse

    @property
    def none(self) -> bool:
        """Whether nothing stops the trial."""
        return self == StopIf()


class Bake(BaseModel):
    """How a head is watched after it went live: the head before it goes on as its comparison."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    until: str
    """When it ends, ISO 8601."""
    stop_if: StopIf
    """What brings the head before it back."""
