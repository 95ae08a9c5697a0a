"""Faults in data: all are counted, the first ones are listed in one error.

It knows nothing of the checks.
"""

from collections.abc import Iterable

from breadcrumbs.training.data.split import DataError

SHOWN = 20
"""Faults listed in one error; the others are only counted."""


class Faults:
    """Faults found so far; however many there are, only the first `SHOWN` are kept.

    Args:
        where: where the faults are, for the error message.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._first: list[str] = []
        self._remedies: dict[str, None] = {}
        self.count = 0

    def add(self, fault: str, remedy: str = "") -> None:
        """Count one fault, a sentence that names file, class or line; each remedy is given once, at the end."""
        self.count += 1
        if len(self._first) < SHOWN:
            self._first.append(fault)
        if remedy:
            self._remedies[remedy] = None

    def extend(self, faults: Iterable[str]) -> None:
        """Count several."""
        for fault in faults:
            self.add(fault)

    def tell(self) -> None:
        """Raise an error if there are faults.

        Raises:
            DataError: with the first faults, the number of all, and the remedies.
        """
        if not self.count:
            return
        more = [f"… and {self.count - SHOWN} more"] if self.count > SHOWN else []
        title = f"{self.count} problem{'s' if self.count > 1 else ''} in {self._where}:"
        raise DataError("\n".join([title, *self._first, *more, *self._remedies]))
