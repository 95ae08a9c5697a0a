"""Pictures with words below them, alone or as pairs: what a page shows of mistakes, suspects and near-duplicates.

It knows nothing of HTML, and nothing of how anything was found.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from breadcrumbs.training.inspect.duplicates import Duplicate
from breadcrumbs.training.inspect.looked import Looked
from breadcrumbs.training.inspect.mistakes import Answers
from breadcrumbs.training.inspect.suspects import Suspect
from breadcrumbs.training.inspect.thumbnails import Thumbnails
from breadcrumbs.training.report.html import percent

WRONG, PAIRS = 24, 6  # of the 60 pictures that a page may have: 24, and six pairs of each of three kinds


@dataclass(frozen=True)
class Card:
    """One picture.

    Attributes:
        source: a data URI; None: the picture is not shown.
        words: what it shows, for readers who cannot see it.
        name: of the image.
        label: the class that it is filed under.
        note: what else is to be said of it.
    """

    source: str | None
    words: str
    name: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class CardPair:
    """Two pictures that are to be compared, and what is to be said of both."""

    left: Card
    right: Card
    note: str


def card(looked: Looked, row: int, classes: Sequence[str], pictures: Thumbnails, note: str = "") -> Card:
    """Return the card of one image; a page may have no room left for its picture."""
    name, label = short(looked.images.name(row)), classes[looked.labels[row]]
    words = f"{name}, filed under {label}" + (f"; {note}" if note else "")
    return Card(pictures.of(looked.images, row), words, name, label, note)


def short(name: str) -> str:
    """Return the last part of an image's path: a page is passed on, the folders of its maker are not."""
    return PurePath(name).name or name


def wrong_cards(found: Answers, looked: Looked, classes: Sequence[str], pictures: Thumbnails) -> list[Card]:
    """Return the worst mistakes, with what they were taken for."""
    return [
        card(
            looked, int(row), classes, pictures,
            f"taken for {classes[found.predicted[row]]} ({percent(float(found.predicted_probability[row]))}); "
            f"its own class has {percent(float(found.given_probability[row]))}, place {found.rank[row]:,}",
        )
        for row in found.worst_first()[:WRONG]
    ]  # fmt: skip


def suspect_pairs(
    found: Iterable[Suspect], looked: Looked, classes: Sequence[str], pictures: Thumbnails
) -> list[CardPair]:
    """Return the likeliest wrong labels, each beside a typical image of the suggested class."""
    pairs = []
    for one in (one for one in found if one.typical is not None):
        note = f"{percent(one.given_probability)}, or {classes[one.suggested]} {percent(one.suggested_probability)}?"
        left = card(looked, one.row, classes, pictures)
        right = card(looked, one.typical or 0, classes, pictures, "typical of its class")
        pairs.append(CardPair(left, right, f"{classes[one.given]} {note}"))
        if len(pairs) == PAIRS:
            break
    return pairs


def duplicate_pairs(
    found: Sequence[Duplicate], looked: Looked, others: Looked, classes: Sequence[str], pictures: Thumbnails
) -> list[CardPair]:
    """Return the nearest pairs of images."""
    return [
        CardPair(
            card(looked, one.row, classes, pictures),
            card(others, one.other, classes, pictures),
            f"similarity {one.similarity:.3f}",
        )
        for one in found[:PAIRS]
    ]
