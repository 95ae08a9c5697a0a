"""A taxonomy: above each class the groups that it belongs to, from `taxonomy.csv`.

    class,genus,family           or    child,parent
    Lynx lynx,Lynx,Felidae             Lynx lynx,Lynx
    Felis catus,Felis,Felidae          Lynx,Felidae

The first form has a column for each rank, from the nearest to the root. The second has a row for each link, at any
depth; the ranks are then `depth 0` for the roots, `depth 1` below them, and so on, and `class` where nothing is below.
A class may be a group of others there. Commas, semicolons and tabs
separate; the file is UTF-8. It may have more classes than a bundle. It knows nothing of heads or probabilities.
"""

import csv
import io
import itertools
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from breadcrumbs.models import printable
from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.near_names import suggestion

CLASS = "class"
"""Rank of the class itself."""
LINKS = ({"child", "class"}, "parent")
"""Names of the two columns of the second form."""
SEPARATORS = ",;\t"
ROWS = 1_000_000
"""Largest number of rows."""
DEEPEST = 100
"""Largest number of groups, one in the other, above a class."""


class TaxonomyError(FormatError):
    """A taxonomy that is damaged, goes in a circle, or has no place for a class."""


@dataclass(frozen=True)
class Node:
    """A group of classes, or a class: its name, and its rank."""

    name: str
    rank: str


@dataclass(frozen=True, eq=False)
class Taxonomy:
    """The lineage of each class.

    Attributes:
        lineages: by class, itself and the groups that it belongs to, the nearest first.
        ranks: of the groups, the nearest to the classes first.
    """

    lineages: Mapping[str, tuple[Node, ...]]
    ranks: tuple[str, ...]

    def lineage(self, name: str) -> tuple[Node, ...]:
        """Return the lineage of a class, itself first; a class without a place is its own."""
        return self.lineages.get(unicodedata.normalize("NFC", name)) or (Node(name, CLASS),)

    def check(self, classes: Sequence[str]) -> None:
        """Refuse classes that have no place.

        Raises:
            TaxonomyError: naming the first, with names that are near.
        """
        missing = [name for name in classes if unicodedata.normalize("NFC", name) not in self.lineages]
        if missing:
            more = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
            raise TaxonomyError(
                f"taxonomy: class {missing[0]!r:.80}{more} of {len(classes)} has no place: no row begins with it"
                f"{suggestion(missing[0], self.lineages)}"
            )


def parse(data: bytes) -> Taxonomy:
    """Read a taxonomy.

    Raises:
        TaxonomyError: it is no table of one of the two forms, a cell is empty, a name has two places, or its rows go
            in a circle.
    """
    header, rows = _table(data)
    if _is_links(header):
        return _of_links(rows)
    if len(header) < 2 or header[0].casefold() != CLASS:
        came = printable.listed([f"{name!r:.40}" for name in header], 5)
        raise TaxonomyError(f"taxonomy: expected the columns class and its ranks, or child and parent, got {came}")
    if len(set(header)) < len(header):
        raise TaxonomyError("taxonomy: two columns have one name; expected another for each rank")
    return _of_columns(tuple(header[1:]), rows)


def renamed(data: bytes, became: Mapping[str, str | None]) -> bytes:
    """Return a taxonomy's bytes with classes called what they became; None: there is no such class any more.

    Of classes that became one, the place of the first stays; where one has that name already, its own does. A group of
    others that was a class, too, stays where it is.
    """
    header, rows = _table(data)
    groups = {row[1] for row in rows} if _is_links(header) else set[str]()
    kept = {row[0] for row in rows if became.get(row[0], row[0]) == row[0]}
    changed = {
        old: new for old, new in became.items() if old != new and not (old in groups and (new is None or new in kept))
    }
    if not changed:
        return data
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(header)
    for name, *above in rows:
        new = changed.get(name, name)
        if name in changed and (new is None or new in kept):
            continue
        kept.add(str(new))
        table.writerow([new, *(changed.get(one, one) if one in groups else one for one in above)])
    return file.getvalue().encode()


def _table(data: bytes) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of a CSV file, each with as many cells as the header, and none of them empty."""
    try:
        text = unicodedata.normalize("NFC", data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise TaxonomyError(f"taxonomy: expected UTF-8, got byte {data[error.start]:#04x} at {error.start}") from error
    first = text.partition("\n")[0]
    separator = max(SEPARATORS, key=first.count)
    try:
        rows = [
            [cell.strip() for cell in row] for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        ]
    except csv.Error as error:
        raise TaxonomyError(f"taxonomy: expected a CSV file ({error})") from error
    numbered = [(number, row) for number, row in enumerate(rows, 1) if any(row)]
    if len(numbered) < 2:
        raise TaxonomyError("taxonomy: expected a header and a row for each class, got no row")
    if len(numbered) > ROWS:
        raise TaxonomyError(f"taxonomy: {len(numbered)} rows; expected at most {ROWS}")
    (_, header), *body = numbered
    for number, row in numbered:
        _check_row(number, row, header)
    return header, [row for _, row in body]


def _check_row(number: int, row: Sequence[str], header: Sequence[str]) -> None:
    if len(row) != len(header):
        raise TaxonomyError(f"taxonomy: row {number} has {len(row)} cells; expected {len(header)}, as the header")
    for cell, column in zip(row, header, strict=True):
        if not cell:
            raise TaxonomyError(
                f"taxonomy: row {number}, {column or 'the header':.40}: the cell is empty; name the group"
            )
        if why := printable.defect(cell):
            raise TaxonomyError(f"taxonomy: row {number}: {cell!r:.80} {why}")


def _is_links(header: Sequence[str]) -> bool:
    children, parent = LINKS
    return len(header) == 2 and header[0].casefold() in children and header[1].casefold() == parent


def _parents(links: Iterable[tuple[Node, Node]]) -> dict[Node, Node]:
    """The one parent of each node."""
    found: dict[Node, Node] = {}
    for child, parent in links:
        known = found.setdefault(child, parent)
        if known != parent:
            raise TaxonomyError(
                f"taxonomy: {child.name!r:.80} is in {known.name!r:.80} and in {parent.name!r:.80}; "
                "expected one of both"
            )
    return found


def _of_columns(ranks: tuple[str, ...], rows: Sequence[Sequence[str]]) -> Taxonomy:
    """From a column for each rank. Groups of two ranks may have one name, as a genus of one species often has."""
    nodes = [[Node(cell, rank) for cell, rank in zip(row, (CLASS, *ranks), strict=True)] for row in rows]
    _parents(link for row in nodes for link in itertools.pairwise(row))
    return Taxonomy({row[0].name: tuple(row) for row in nodes}, ranks)


def _of_links(rows: Sequence[Sequence[str]]) -> Taxonomy:
    """From a row for each link."""
    above = {
        child.name: parent.name
        for child, parent in _parents((Node(child, ""), Node(parent, "")) for child, parent in rows).items()
    }
    depths: dict[str, int] = {}
    for name in above:
        _measure_depth(name, above, depths)
    groups = set(above.values())
    nodes = {name: Node(name, f"depth {depth}" if name in groups else CLASS) for name, depth in depths.items()}
    lineages = {name: tuple(nodes[one] for one in (name, *_ancestors(name, above))) for name in above}
    deepest = max(depths[group] for group in groups)
    return Taxonomy(lineages, tuple(f"depth {depth}" for depth in range(deepest, -1, -1)))


def _measure_depth(name: str, above: Mapping[str, str], depths: dict[str, int]) -> None:
    """Add to `depths` how many nodes are above a name, and above those on the way to its root."""
    way: dict[str, None] = {}
    while name not in depths:
        if name in way:
            circle = [*list(way)[list(way).index(name) :], name]
            raise TaxonomyError(
                f"taxonomy: the rows go in a circle: {' in '.join(f'{one!r:.40}' for one in circle[:6])}; take one out"
            )
        way[name] = None
        if name not in above:
            depths[name] = 0
            del way[name]
            break
        name = above[name]
    for one in reversed(way):
        depths[one] = depths[above[one]] + 1
        if depths[one] > DEEPEST:
            raise TaxonomyError(f"taxonomy: more than {DEEPEST} groups are above {one!r:.80}, which is the limit")


def _ancestors(name: str, above: Mapping[str, str]) -> list[str]:
    found = []
    while name in above:
        name = above[name]
        found.append(name)
    return found
