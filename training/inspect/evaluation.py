"""What `breadcrumbs evaluate` writes beside its tables: CSV files of the test images, and a page with their pictures.

It knows nothing of how a bundle is measured.

Letters: C classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.files import write_whole
from breadcrumbs.models.groups import GROUPS
from breadcrumbs.training.confused import Pair, most_taken_for
from breadcrumbs.training.coverage import TOLD, Curve, coverage_of
from breadcrumbs.training.inspect import cards, csv_files
from breadcrumbs.training.inspect.class_table import ClassRow, class_table
from breadcrumbs.training.inspect.looked import Looked
from breadcrumbs.training.inspect.mistakes import Answers, answers
from breadcrumbs.training.inspect.thumbnails import Thumbnails
from breadcrumbs.training.metrics import Interval
from breadcrumbs.training.report import class_axis, confusion_plot, coverage_plot, html, style
from breadcrumbs.training.report.run_page import CONFUSED, CONFUSION

Found = Mapping[str, Any]
"""What `training.measure.measure` returns."""


@dataclass(frozen=True)
class Outputs:
    """The files that were asked for; None: not this one.

    Attributes:
        wrong: CSV, the test images that the exported head takes for another class, worst first.
        rows: CSV, every test image.
        confusion: CSV, the confusion matrix.
        html: the page.
        coverage: CSV, accuracy against coverage for each rank of the taxonomy.
    """

    wrong: Path | None = None
    rows: Path | None = None
    confusion: Path | None = None
    html: Path | None = None
    coverage: Path | None = None

    def check(self) -> None:
        """Refuse what cannot be written, before anything is computed.

        Raises:
            BreadcrumbsError: naming the flag and the path.
        """
        flags: dict[Path, str] = {}
        for flag, path in self._asked():
            other = flags.setdefault(path.absolute(), flag)
            if other != flag:
                raise BreadcrumbsError(f"{other} and {flag} both name {path}; expected a file for each")
            _check(flag, path)

    def check_bundle(self, bundle: Bundle) -> None:
        """Refuse what a bundle has nothing for.

        Raises:
            BreadcrumbsError: the coverage of ranks is asked for, and there is no taxonomy.
        """
        if self.coverage is not None and bundle.taxonomy is None:
            raise BreadcrumbsError(
                f"--coverage {self.coverage}: {bundle.folder} has no taxonomy, so there are no ranks; leave it out, or "
                "make the bundle with --taxonomy"
            )

    def write(self, bundle: Bundle, found: Found, looked: Looked) -> dict[str, str]:
        """Write the files, each whole or not at all, and return their paths by what they are.

        Args:
            bundle: what was measured; its exported head answers.
            found: what was measured of it.
            looked: the test images, labels among the bundle's classes.
        """
        asked = dict(self._asked())
        if not asked:
            return {}
        classes = bundle.manifest.classes
        told = answers(bundle.head().logits(looked.features), looked.labels)
        if self.wrong is not None:
            csv_files.write_answers(self.wrong, told, told.worst_first().tolist(), looked.images, classes)
        if self.rows is not None:
            csv_files.write_answers(self.rows, told, range(len(told)), looked.images, classes)
        if self.confusion is not None:
            csv_files.write_matrix(self.confusion, told, classes)
        curves = coverage_of(bundle, looked.features, looked.labels) if self.coverage or self.html else []
        if self.coverage is not None:
            csv_files.write_coverage(self.coverage, curves)
        if self.html is not None:
            write_whole(self.html, page(bundle, found, looked, told, curves))
        return {flag.removeprefix("--"): str(path) for flag, path in asked.items()}

    def _asked(self) -> Iterator[tuple[str, Path]]:
        named = {
            "--wrong": self.wrong, "--rows": self.rows, "--confusion": self.confusion, "--html": self.html,
            "--coverage": self.coverage,
        }  # fmt: skip
        return ((flag, path) for flag, path in named.items() if path is not None)


def _check(flag: str, path: Path) -> None:
    """Try to write beside the path, or in the nearest folder above it that is there."""
    try:
        if path.is_dir():
            raise BreadcrumbsError(f"{flag} {path}: that is a folder; expected a file")
        above = path.absolute().parent
        while not above.exists():
            above = above.parent
        trial = above / f".{path.name}.{'0' * 8}"
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise BreadcrumbsError(
            f"{flag} {path}: no file can be written there ({error.strerror}); name one in a folder that can be written"
        ) from error


def page(bundle: Bundle, found: Found, looked: Looked, told: Answers, curves: Sequence[Curve] = ()) -> bytes:
    """Return the page: groups with intervals, classes, coverage, confusions, and the worst mistakes with pictures."""
    manifest = bundle.manifest
    confused = told.confused(len(manifest.classes))
    taken = most_taken_for(confused)
    table = class_table(told, manifest.classes, np.array(manifest.train_counts, np.int64))
    listed, note = _listed(table)
    measured = {_title(found, name): _intervals(head, manifest.groups) for name, head in found["heads"].items()}
    return html.render(
        "evaluation.html",
        f"{manifest.name}: {len(told):,} test images",
        exported=_title(found, found["exported"]),
        convention=manifest.groups,
        heads={name: {metric: interval.value for metric, interval in own.items()} for name, own in measured.items()},
        intervals=measured,
        table=[(table[c], found["classes"]["groups"][manifest.groups][c], taken.get(c)) for c in listed],
        class_note=note,
        classes=manifest.classes,
        confusion=CONFUSION,
        confusion_picture=_confusion(table, confused),
        pairs=confused[:CONFUSED],
        pair_count=len(confused),
        tested_by_class=[row.test_images for row in table],
        wrong=cards.wrong_cards(told, looked, manifest.classes, Thumbnails()),
        wrong_count=int((~told.right).sum()),
        tested=len(told),
        notes=found["notes"],
        coverage=found.get("coverage", []),
        coverage_shares=[f"{share:.0%} answered" for share in TOLD],
        coverage_picture=style.svg(coverage_plot.coverage(curves)) if curves else None,
    )


def _confusion(table: Sequence[ClassRow], confused: Sequence[Pair]) -> bytes | None:
    """The picture of what is taken for what, as SVG."""
    counts, rows = (np.array([getattr(row, name) for row in table]) for name in ("train_images", "test_images"))
    figure = confusion_plot.confusion(counts, rows, confused, [row.name for row in table])
    return None if figure is None else style.svg(figure)


def _title(found: Found, name: str) -> str:
    words = name.replace("_", " ")
    return f"{words} (exported)" if name == found["exported"] else words


def _intervals(head: Mapping[str, Any], convention: str) -> dict[str, Interval]:
    """A head's metrics and groups with their intervals; a group without images is left out."""
    groups = {name: head["groups"][convention].get(name) for name in GROUPS}
    return {name: Interval(**ends) for name, ends in (head["metrics"] | groups).items() if ends is not None}


def _listed(table: Sequence[ClassRow]) -> tuple[list[int], str]:
    """The classes that the page lists (≤ C), most training images first, and a sentence that says which they are."""
    recall = [None if row.recall is None else row.recall.value for row in table]
    listed = class_axis.listed(np.array([row.train_images for row in table]), recall)
    if len(table) <= class_axis.LISTED:
        return listed, "Most training images first."
    return listed, f"The {len(listed):,} of {len(table):,} classes with the lowest recall."
