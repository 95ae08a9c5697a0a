"""What a refit's report tells of probabilities: the temperature, and how far they hold before it and after it.

The judged rows are weighted as the deployment prior says. It knows nothing of how the numbers come about.
"""

from typing import Literal

from breadcrumbs.models.report_part import Interval, ReportPart


class Bin(ReportPart):
    """Rows whose top classes are about as probable; every bin has the same weight."""

    probability: float
    """Mean probability of the top class."""
    right: float
    """Share of the rows whose top class is right."""


class Calibrated(ReportPart):
    """How far the probabilities of one head hold on some rows."""

    ece: Interval
    """Expected calibration error: mean over the bins of how far `right` is from `probability`."""
    nll: Interval
    """Mean negative log-likelihood, nats."""
    curve: list[Bin]
    """The least probable first."""


class CalibrationChange(ReportPart):
    """What the temperature changed on some rows, paired."""

    ece: Interval
    nll: Interval


class CalibratedGroup(ReportPart):
    """The rows that are answered with a class of a group; the temperature changes no answer."""

    rows: int
    before: Calibrated
    """At T = 1."""
    after: Calibrated
    """As the head answers."""
    change: CalibrationChange
    """After less before."""


class Calibration(ReportPart):
    """The temperature of a head, and what it did."""

    temperature: Interval
    """T; 1 where there was no row to fit it to."""
    fitted_rows: int
    """Rows out of fold that T was fitted to."""
    effective_rows: float
    """Equally weighted rows that vary as these do."""
    prior: Literal["uniform", "training", "given"]
    """The deployment prior."""
    groups: dict[str, CalibratedGroup]
    """`all`, and each group that is answered."""
