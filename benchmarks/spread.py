"""Numbers of several seeds as a table's cells, in percent and points.

It knows nothing of what was measured.
"""

import statistics
from collections.abc import Sequence

Values = Sequence[float | None]
"""One of each seed; None where a seed has none."""


def spread(values: Values) -> str:
    """Return mean ± standard deviation, in percent."""
    known = [100 * value for value in values if value is not None]
    if not known:
        return "–"
    return f"{statistics.mean(known):.1f} ± {statistics.stdev(known) if len(known) > 1 else 0:.1f}"


def change(values: Values, reference: Values) -> str:
    """Return the mean of the differences, seed by seed, ± its standard error, in points."""
    pairs = zip(values, reference, strict=True)
    known = [100 * (one - other) for one, other in pairs if one is not None and other is not None]
    if not known:
        return "–"
    error = statistics.stdev(known) / len(known) ** 0.5 if len(known) > 1 else 0
    return f"{statistics.mean(known):+.2f} ± {error:.2f}"
