"""Trials in `/metrics`: by mode and group, so that no series is without a bound.

It knows nothing of how heads are compared.
"""

from collections.abc import Sequence
from typing import get_args

from breadcrumbs.serving.http.metrics import Metrics
from breadcrumbs.serving.trials.trial import Mode, Start, TrialGroup


class TrialMetrics:
    """Told what happens in trials.

    Args:
        metrics: of the app.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def compared(self, mode: Mode, group: TrialGroup, compared: int, disagreed: int) -> None:
        """Count answers of a group."""
        self._metrics.trial_answers.labels(mode, group, "yes").inc(compared - disagreed)
        self._metrics.trial_answers.labels(mode, group, "no").inc(disagreed)

    def failed(self, mode: Mode, errors: int) -> None:
        """Count answers for which a head failed."""
        self._metrics.trial_errors.labels(mode).inc(errors)

    def running(self, starts: Sequence[Start]) -> None:
        """Set how many trials run."""
        for mode in get_args(Mode):
            self._metrics.trials.labels(mode).set(sum(start.mode == mode for start in starts))
