"""The report that a run ends with: one page that needs nothing beside it, and each picture as SVG and PNG.

The content is a `Story`. If a part is missing, a sentence stands in place of its picture. It knows nothing of training
or of models. `run_plots`, `trail_plots`, `confusion_plot` and `calibration_plot` draw the pictures, and the page is
`templates/run.html`.

Letters: N test images, C classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from breadcrumbs.models.files import write_whole
from breadcrumbs.models.groups import Convention, Group
from breadcrumbs.training.calibration import curves
from breadcrumbs.training.confused import Pair, most_taken_for, pairs
from breadcrumbs.training.metrics import wilson
from breadcrumbs.training.report import (
    calibration_plot,
    class_axis,
    confusion_plot,
    group_table,
    html,
    run_plots,
    style,
    trail_plots,
)
from breadcrumbs.training.report.html import Interval, Picture

if TYPE_CHECKING:
    from markupsafe import Markup

CONVENTIONS: dict[Convention, str] = {
    "A": "many: at least 100 training images, few: at most 20",
    "B": "many: more than 100 training images, few: fewer than 20",
}


@dataclass(frozen=True)
class Story:
    """The content of the report of one finished run.

    Attributes:
        title: the page's heading.
        classes, counts, groups: name, training images and group of each class (C,).
        convention: of the bounds of the groups.
        config: the resolved configuration, JSON values; of an absolute path only the last part is shown.
        history: the lines of `log.jsonl`, an epoch each: `epoch`, losses as `<head>_loss`, `seconds`, metrics under
            each head's name; and, if measured, `drift` (movement of each class's mean in units of its spread, null
            if undefined) and `crumbs` (share of each class's balanced features that are from older epochs).
        labels: of the test images (N,).
        logits: of each head (N, C); empty if they were not kept.
        metrics: of each head, as `Metrics.as_dict()` gives them.
        intervals: 95 % intervals of each head's metrics, by the metric's name.
        exported: the head that is served; None means `balanced` if there is one, else the first.
        notes: remarks on the data that are not errors, a sentence each.
        trained: whether the backbone was trained; if not, there are no epochs to draw.
        unlike: share of the test images that are unlike what the exported head was fitted to, of `all` and by group.
        findings: what was found in the images themselves, as a part of the page; None: they were not examined.
    """

    title: str
    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    groups: tuple[Group, ...]
    convention: Convention
    config: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    labels: NDArray[np.int64]
    logits: Mapping[str, NDArray[np.floating]]
    metrics: Mapping[str, Mapping[str, Any]]
    intervals: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    exported: str | None = None
    notes: Sequence[str] = ()
    unlike: group_table.Shares = field(default_factory=dict)
    findings: "Markup | None" = None
    trained: bool = True

    @property
    def pictures(self) -> list[Picture]:
        """What there may be a picture of."""
        return [picture for picture in PICTURES if self.trained or picture.name not in OF_EPOCHS]

    @property
    def head(self) -> str:
        """The exported head."""
        return self.exported or ("balanced" if "balanced" in self.metrics else next(iter(self.metrics), "balanced"))

    def recall(self, head: str) -> Sequence[float | None]:
        """Return a head's recall of each class (C,); None means that the test set has no image of it."""
        return self.metrics[head].get("recall") or (None,) * len(self.classes)

    @cached_property
    def told(self) -> NDArray[np.int64] | None:
        """The classes (N,) that the exported head tells; None: its logits were not kept."""
        logits = self.logits.get(self.head)
        return None if logits is None else np.asarray(logits.argmax(1), np.int64)

    @cached_property
    def tested(self) -> NDArray[np.int64]:
        """Test images of each class (C,)."""
        return np.bincount(self.labels, minlength=len(self.classes))

    @cached_property
    def confused(self) -> list[Pair]:
        """The pairs of classes that the exported head confuses, most images first."""
        return [] if self.told is None else pairs(self.told, self.labels, len(self.classes))


CONFUSION = Picture(
    "confusion",
    "What is taken for what",
    "A table of percentages: rows are true classes, columns what their test images are predicted as.",
    "Each row shows how the test images of a class are classified by the exported head, in percent. The outlined cell "
    "is the share that is right; another dark cell is a frequent confusion. Up to 40 classes are all there, most "
    "training images first; of more, the classes that are confused most, each beside those that it is confused with.",
    "The exported head’s logits on the test images were not kept, or it is never wrong, so there is nothing to draw.",
)
PICTURES = (
    Picture(
        "groups",
        "Recall by group",
        "Bars of mean recall of many-, medium-, few-shot and all classes for each head, with 95 % intervals.",
        "Each bar is the mean recall of a group’s classes (“all”: the share of images), and the thin line its 95 % "
        "bootstrap interval: how much the number would vary with other test images of the same classes.",
        "No head was measured, so there are no groups to compare.",
    ),
    Picture(
        "counts-and-recall",
        "The long tail, and recall along it",
        "Above, the recall of each class for each head; below, its training images on a logarithmic scale.",
        "Classes have the same order in both panels, most training images first. The recall of a head that treats the "
        "tail fairly stays level while the counts fall. With many classes, the thick line is a running mean.",
        "There are no classes to draw.",
    ),
    Picture(
        "curves",
        "Epoch by epoch",
        "Lines of the loss and of the balanced accuracy of each head over the epochs.",
        "The losses of two heads cannot be compared, since each averages over another mix of classes; the balanced "
        "accuracies below them can. If one still rises at the right edge, more epochs may help.",
        "The log has no epoch with a loss or a balanced accuracy, so there is no curve.",
    ),
    CONFUSION,
    Picture(
        "calibration",
        "Do the probabilities hold?",
        "Lines of the share of right answers over the probability of the top class, for each head.",
        "Each dot is a share of the test images of about one probability, and all dots of a line weigh the same. On "
        "the diagonal, answers of 80 % are right in 80 %; below it, the head is too sure of itself. A group’s images "
        "are those that are answered with one of its classes.",
        "No head’s logits on the test images were kept, so its probabilities cannot be compared with them.",
    ),
    Picture(
        "drift",
        "How fast the features move",
        "Lines of the movement of the class means per epoch by group, with dashed lines of their sampling error.",
        "The lines are the movement of a class’s mean since the previous epoch, divided by the class’s spread (with "
        "many classes the median, and the band is the middle 80 %). At a group’s dashed line, the movement is what "
        "chance gives with so few images; the higher above it, the more an old crumb needs to be re-centred.",
        "The run has no measured movement of the class means (this needs two epochs), so there is no drift to draw.",
    ),
    Picture(
        "crumbs",
        "Where the balanced set comes from",
        "Share of features that are crumbs of older epochs, for each class, and by group over the epochs.",
        "A share of 75 % means that three of four features of a class that the balanced head sees are from older "
        "epochs. Above: the median of each group and the middle 80 %. Below: each class, most training images first.",
        "The run did not record the crumbs in the balanced set, so their share cannot be drawn.",
    ),
)  # fmt: skip


CONFUSED = 40  # pairs of classes that the page lists
OF_EPOCHS = ("curves", "drift", "crumbs")


def write(folder: Path, story: Story) -> dict[str, bytes]:
    """Write the report's files into a folder, each complete or not at all, and return them as `report` does."""
    files = report(story)
    for name, data in files.items():
        write_whole(folder / name, data)
    return files


def report(story: Story) -> dict[str, bytes]:
    """Return the report's files by name: `index.html`, and `<picture>.svg` and `.png` of each picture that it has.

    The same story gives the same bytes.
    """
    files: dict[str, bytes] = {}
    for picture in story.pictures:
        figure = _draw(picture.name, story)
        if figure is not None:
            files |= {f"{picture.name}.svg": style.svg(figure), f"{picture.name}.png": style.png(figure)}
    return {"index.html": page(story, files), **files}


def _draw(name: str, story: Story) -> Figure | None:
    """The picture of that name; None: the run has nothing to draw."""
    own, counts = story, story.counts
    pictures: dict[str, Callable[[], Figure | None]] = {
        "groups": lambda: run_plots.group_bars(own.metrics, own.intervals),
        "counts-and-recall": lambda: _tail(own),
        "curves": lambda: run_plots.curves(own.history),
        "confusion": lambda: _confusion(own),
        "calibration": lambda: _reliability(own),
        "drift": lambda: trail_plots.drift(own.history, counts, own.groups),
        "crumbs": lambda: trail_plots.crumb_shares(own.history, counts, own.groups, own.classes),
    }
    return pictures[name]()


def _tail(story: Story) -> Figure | None:
    recall = {head: story.recall(head) for head in story.metrics}
    return run_plots.counts_and_recall(story.counts, story.groups, story.classes, recall) if story.classes else None


def _confusion(story: Story) -> Figure | None:
    if story.told is None:
        return None
    return confusion_plot.confusion(story.counts, story.tested, story.confused, story.classes)


def _reliability(story: Story) -> Figure | None:
    own = story.logits.items() if len(story.labels) else ()
    return calibration_plot.reliability({head: curves(values, story.labels, story.groups) for head, values in own})


def page(story: Story, files: Mapping[str, bytes]) -> bytes:
    """Return the page of a story, with the pictures in `files` as `report` returns them."""
    classes, class_note = _classes(story)
    titles = {head: f"{head} (exported)" if head == story.head else head for head in story.metrics}
    recalls = [f"recall, {head}" for head in story.metrics]
    return html.render(
        "run.html",
        story.title,
        story=story,
        summary=_summary(story),
        group_note=_group_note(story, int((story.tested == 0).sum())),
        heads={title: story.metrics[head] for head, title in titles.items()},
        intervals={titles[head]: story.intervals[head] for head in titles.keys() & story.intervals.keys()},
        figures=[(picture, files.get(f"{picture.name}.svg")) for picture in story.pictures],
        classes=classes,
        class_note=class_note,
        titles=_titles(story, recalls),
        lines=group_table.lines(story.counts, story.groups, story.tested, story.metrics, story.intervals, story.unlike),
        recall_titles=recalls,
        tested=story.tested,
        told=story.told is not None,
        recall=[_intervals(story.recall(head), story.tested) for head in story.metrics],
        precision=_precision(story),
        taken=[most_taken_for(story.confused).get(c) for c in range(len(story.classes))],
        pairs=story.confused[:CONFUSED],
        pair_count=len(story.confused),
    )


def _titles(story: Story, recalls: Sequence[str]) -> list[str]:
    """The titles of the columns of the table of classes."""
    more = [] if story.told is None else [f"precision, {story.head}", "most taken for"]
    return ["class", "training images", "group", "test images", *recalls, *more]


def _intervals(shares: Sequence[float | None], rows: NDArray[np.int64]) -> list[Interval | None]:
    """The interval of each class's share (C,), from the rows behind it (C,)."""
    return [
        wilson(value, int(own)) if value is not None and own else None for value, own in zip(shares, rows, strict=True)
    ]


def _precision(story: Story) -> list[Interval | None]:
    """The exported head's precision of each class (C,); None where it predicts none."""
    if story.told is None:
        return []
    predicted = np.bincount(story.told, minlength=len(story.classes))
    right = np.bincount(story.told[story.told == story.labels], minlength=len(story.classes))
    return _intervals((right / np.maximum(predicted, 1)).tolist(), predicted)


def _summary(story: Story) -> list[tuple[str, str]]:
    """The numbers that a reader wants first."""
    least, most = (int(story.counts.min()), int(story.counts.max())) if len(story.counts) else (0, 0)
    epochs = [line for line in story.history if line["epoch"] > 0]  # 0 is the head start
    seconds = sum(line["seconds"] for line in story.history if isinstance(line.get("seconds"), int | float))
    summary = [
        ("balanced accuracy", _measured(story, "balanced")),
        ("few-shot recall", _measured(story, "few")),
        ("exported head", story.head),
        ("classes", f"{len(story.classes):,}"),
        ("training images", f"{int(story.counts.sum()):,} ({least:,} to {most:,} a class)"),
        ("test images", f"{len(story.labels):,}"),
    ]
    if story.trained:
        summary.append(("epochs", f"{len(epochs):,}" + (f" in {_duration(seconds)}" if seconds else "")))
    return summary


def _measured(story: Story, name: str) -> str:
    """A metric of the exported head and its interval, as text."""
    value = html.metric(story.metrics.get(story.head, {}).get(name), name)
    return f"{value} {html.interval(story.intervals.get(story.head, {}).get(name), name)}".rstrip()


def _group_note(story: Story, untested: int) -> str:
    words = f"Groups of convention {story.convention}: {CONVENTIONS[story.convention]}, medium: those between."
    if untested:
        words += (
            f" {untested:,} of {len(story.classes):,} classes have no test image: no recall, and no part in a mean."
        )
    return words


def _classes(story: Story) -> tuple[list[int], str]:
    """The classes of the table, most training images first, and a sentence that says which they are.

    Of many classes, those with the lowest recall of the exported head.
    """
    recall = story.recall(story.head) if story.head in story.metrics else (None,) * len(story.counts)
    listed = class_axis.listed(story.counts, recall)
    if len(story.counts) <= class_axis.LISTED:
        return listed, "Most training images first."
    return listed, f"The {len(listed):,} of {len(story.counts):,} classes with the lowest recall of the exported head."


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
