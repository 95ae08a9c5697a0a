"""What was measured, read from `benchmarks/results.md`: a machine's speed under load, the solver's per unit of work.

It knows nothing of what is made of the numbers.
"""

import re
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).with_name("results.md")
SERVING, SOLVER = "## Serving beside peers and the ceiling", "## Speed of the refit's solver"
CORES = 2
"""Of the machine that all of it was measured on."""


class RowMissing(Exception):
    """The page has not the row that was expected."""


@dataclass(frozen=True)
class Served:
    """One server under a closed loop of users.

    Attributes:
        model: as the page names it.
        rates: images a second, by users.
        p50: milliseconds, by users.
        p99: the same.
    """

    model: str
    rates: dict[int, float]
    p50: dict[int, float]
    p99: dict[int, float]


@dataclass(frozen=True)
class Solved:
    """One refit's solution from nothing: rows (N), classes (C), dimensions (D), seconds of wall time, passes."""

    rows: int
    classes: int
    dimensions: int
    seconds: float
    passes: int

    @property
    def unit(self) -> float:
        """Seconds for a row, a class, a dimension and a pass."""
        return self.seconds / (self.rows * self.classes * self.dimensions * self.passes)


def section(title: str, page: Path = RESULTS) -> list[str]:
    """The lines of one section.

    Raises:
        RowMissing: there is none of that title.
    """
    found = re.search(rf"^{re.escape(title)}\n(.*?)(?=^## |\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
    if found is None:
        raise RowMissing(f"{page.name} has no section {title!r}")
    return found[1].splitlines()


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _first(text: str) -> float:
    return float(text.split(maxsplit=1)[0].rstrip(",").replace(",", ""))


def served(model: str, server: str = "ours", page: Path = RESULTS) -> Served:
    """A server's row in the table of a model, `resnet18` or `resnet10t`.

    Raises:
        RowMissing: no such table or row.
    """
    lines = section(SERVING, page)
    start = next((i for i, line in enumerate(lines) if re.match(rf"{re.escape(model)} at [0-9]+ px", line)), None)
    if start is None:
        raise RowMissing(f"{page.name} has no table of {model}")
    table = [line for line in lines[start : start + 12] if line.startswith("|")]
    users = [int(n) for n in re.findall(r"([0-9]+): requests/s", table[0])]
    row = next((_cells(line) for line in table if _cells(line)[0] == server), None)
    if row is None:
        raise RowMissing(f"{page.name}: the table of {model} has no row {server!r}")
    rates, p50, p99 = {}, {}, {}
    for i, count in enumerate(users):
        rates[count] = _first(row[1 + 2 * i])
        p50[count], p99[count] = (float(part) for part in row[2 + 2 * i].split(","))
    return Served(model, rates, p50, p99)


def solved(page: Path = RESULTS) -> list[Solved]:
    """Every refit on 10,000 rows and more, solved from nothing by ours.

    Raises:
        RowMissing: there is none.
    """
    found, shape = [], None
    for line in section(SOLVER, page):
        head = re.search(r"([0-9,]+) rows, ([0-9,]+) classes, D = ([0-9]+)", line) if line.startswith("|") else None
        if head:
            shape = [int(part.replace(",", "")) for part in head.groups()]
        cells = _cells(line)
        if shape and cells[0] == "ours, cold" and shape[0] >= 10_000:
            rows, classes, dimensions = shape
            found.append(Solved(rows, classes, dimensions, _first(cells[1]), int(cells[3])))
    if not found:
        raise RowMissing(f"{page.name}: no row 'ours, cold' of the solver")
    return found
