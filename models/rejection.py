"""What a report tells of `known` as a threshold: how many judged rows it would reject, by group of their class.

Every threshold is set so that it rejects 5 in 100 of the judged rows in all, and none is used in answers. It knows
nothing of how the numbers come about.
"""

from breadcrumbs.models.report_part import ReportPart


class Rejected(ReportPart):
    """Shares of the rows that a threshold rejects, 0 … 1; a group without rows is null."""

    all: float
    many: float | None
    medium: float | None
    few: float | None


class Rejection(ReportPart):
    """What three kinds of thresholds reject of the same rows."""

    rows: int
    """Judged rows that were looked at."""
    one: Rejected
    """One threshold for all: of the similarity to the nearest point."""
    by_group: Rejected
    """One for each group: of `known`."""
    by_class: Rejected
    """One for each class, shrunk to that of its group."""
