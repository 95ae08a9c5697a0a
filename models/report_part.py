"""What every part of a report is: checked when it is made, without a field that is not known or a number that is not
finite.

It knows nothing of what a report tells.
"""

from pydantic import BaseModel, ConfigDict


class ReportPart(BaseModel):
    """A part of a report."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Interval(ReportPart):
    """A value and the two ends of its 95 % interval."""

    value: float
    low: float
    high: float
