"""A refit's report as a page that needs no other file: the data of `report.json` in, HTML out.

It knows nothing of how the numbers are computed. `refit_plots` draws its pictures, `templates/refit.html` is the page.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from breadcrumbs.models.calibration import Calibration
from breadcrumbs.models.refit_report import Measured, MemberPart, RefitReport
from breadcrumbs.training.confused import Pair, most_taken_for
from breadcrumbs.training.report import (
    calibration_plot,
    class_axis,
    confusion_plot,
    group_table,
    html,
    refit_plots,
    run_plots,
    style,
)
from breadcrumbs.training.report.html import Picture

Draw = Callable[[RefitReport], Figure | None]


def _confused(report: RefitReport) -> list[Pair]:
    """The pairs of classes that the candidate confuses, most rows first."""
    return [Pair(one.true, one.predicted, one.candidate) for one in report.confused if one.candidate]


def _confusion(report: RefitReport) -> Figure | None:
    if not report.confused:
        return None
    counts, rows = np.array(report.classes.train_images), np.array(report.class_rows)
    return confusion_plot.confusion(counts, rows, _confused(report), report.classes.names)


PICTURES: tuple[tuple[Picture, Draw], ...] = (
    (
        Picture(
            "groups",
            "Recall by group",
            "Bars of mean recall of many-, medium-, few-shot and all classes, live and candidate, with 95 % intervals.",
            "Each bar is the mean recall of a group’s classes (“all”: the share of rows), and the thin line its 95 % "
            "interval. Both heads were measured on the same rows, so the paired difference above is the more "
            "precise comparison: two intervals may overlap although the difference is clear.",
            "No group has a held-out row.",
        ),
        lambda report: run_plots.group_bars(_heads(report), report.intervals),
    ),
    (
        Picture(
            "changes",
            "Class by class",
            "Bars of the change of each class’s recall from live to candidate, most training images first.",
            "Above the line the candidate finds more of a class’s images than the live head, below it fewer; the thin "
            "line is the 95 % interval of the change. Classes are ordered by their training images, so if a refit "
            "helps the tail, the changes rise to the right.",
            "No class has a held-out row.",
        ),
        lambda report: refit_plots.changes(report.classes, report.change),
    ),
    (
        Picture(
            "regressions",
            "What got worse",
            "Bars of the classes that lost most recall, with intervals and both recalls.",
            "Classes that lost recall, the surest loss first. If an interval reaches zero, the loss may be chance.",
            "No class lost recall.",
        ),
        lambda report: refit_plots.losses(report.regressions),
    ),
    (
        Picture(
            "confusions",
            "Which confusions increased and decreased",
            "Dots of the number of rows of a class that are confused with another, live and candidate.",
            "Rows of the first class that were classified as the second. Red: the number increased. Grey: it fell.",
            "No confusion changed.",
        ),
        lambda report: refit_plots.confusions(report.moves),
    ),
    (
        Picture(
            "confusion",
            "What is taken for what",
            "A table of percentages: rows are true classes, columns what the candidate predicts their rows as.",
            "Each row shows how the held-out rows of a class are classified by the candidate, in percent. The outlined "
            "cell is the share that is right; another dark cell is a frequent confusion. Up to 40 classes are all "
            "there, most training images first; of more, the classes that are confused most, each beside those that it "
            "is confused with.",
            "The candidate is never wrong, or the report is an older one, so there is nothing to draw.",
        ),
        _confusion,
    ),
    (
        Picture(
            "calibration",
            "Do the probabilities hold?",
            "Lines of the share of right answers over the probability of the top class, without and with temperature.",
            "Each dot is a share of the rows of about one probability, and all dots of a line weigh the same. On the "
            "diagonal, answers of 80 % are right in 80 %; below it, the head is too sure of itself. Rows count as the "
            "deployment prior says, and a group’s rows are those that are answered with one of its classes.",
            "This report has no measured probabilities.",
        ),
        lambda report: calibration_plot.reliability(calibration_plot.before_and_after(report.calibration)),
    ),
    (
        Picture(
            "gains",
            "Adversarial gain, and its bound by Lemma 1",
            "Dots of each class’s adversarial gain, and a dash for the bound of Lemma 1.",
            "The gain is how much harder the augmented features of a class are than the newest ones alone, measured on "
            "images that the measuring heads were not fitted to. The dash is the bound of Lemma 1; if a cross is below "
            "it, the lemma’s premise did not hold. Classes with few rows are noisy.",
            "Only one snapshot has all the classes, and a gain is measured between two.",
        ),
        lambda report: refit_plots.gains(report.certificate, report.classes),
    ),
    (
        Picture(
            "solver",
            "How the head was computed",
            "Lines of the gradient’s norm and of the objective over the iterations.",
            "Each line is the convex problem of one member of the head. The norm should fall to the requested value.",
            "The solver recorded no steps.",
        ),
        lambda report: refit_plots.trace(report.solver.trace),
    ),
)  # fmt: skip

TITLES = (
    *("class", "training images", "group", "features fitted", "held-out rows", "recall, live", "recall, candidate"),
    *("change, points", "precision, live", "precision, candidate", "most taken for"),
)
"""The columns of the table of classes."""


def build(report: RefitReport) -> bytes:
    """Return the page; the same report gives the same bytes."""
    figures = [(picture, draw(report)) for picture, draw in PICTURES]
    classes, class_note = _classes(report)
    taken = most_taken_for(_confused(report))
    origin = report.origin
    return html.render(
        "refit.html",
        f"Refit of {origin.bundle}",
        report=report,
        summary=_summary(report),
        figures=[(picture, None if figure is None else style.svg(figure)) for picture, figure in figures],
        heads=_heads(report),
        members=[(part, _settings(part)) for part in report.members],
        baselines=_baselines(report),
        lines=_lines(report),
        classes=classes,
        class_note=class_note,
        titles=TITLES,
        new=frozenset(report.classes.new),
        tested=report.class_rows,
        taken=[taken.get(c) for c in range(report.classes.count)],
        settings_and_heads={
            **report.spec,
            "backbone": origin.backbone,
            "live head": origin.live,
            "new head": origin.candidate,
        },
    )


def _lines(report: RefitReport) -> list[group_table.Line]:
    """Recall by group, of both heads."""
    own, rows = report.classes, report.class_rows
    return group_table.lines(
        np.array(own.train_images), own.groups, np.array(rows) if rows else None, _heads(report), report.intervals,
        report.unlike,
    )  # fmt: skip


def _heads(report: RefitReport) -> dict[str, dict[str, Any]]:
    return {"live": report.live.model_dump(), "candidate": report.candidate.model_dump()}


def _summary(report: RefitReport) -> list[tuple[str, str]]:
    """The numbers behind the verdict."""
    solver, new = report.solver, report.classes.new
    facts = [(f"{name}, live → new", _change(report, name)) for name in ("balanced", "many", "medium", "few")]
    facts += [
        ("held-out rows", f"{report.rows:,} ({_judges(report)})"),
        ("classes", f"{report.classes.count:,}" + (f", {len(new):,} new" if new else "")),
        ("the head", "; ".join(_member(part) for part in report.members if part.share)),
    ]
    if report.calibration is not None:
        facts.append(("probabilities", _temperature(report.calibration)))
    state = "converged" if solver.converged else "not converged"
    where = "CPU" if solver.device == "cpu" else "GPU"
    above = solver.gap_bound / solver.objective if solver.objective else 0.0
    return [*facts, ("solver", f"{state}, at most {100 * above:.2g} % above the optimum, on the {where}")]


def _temperature(calibration: Calibration) -> str:
    """The temperature, the prior, and what the temperature did to the calibration error."""
    own, whole = calibration.temperature, calibration.groups["all"]
    before, after = (html.percent(head.ece.value) for head in (whole.before, whole.after))
    return (
        f"temperature {own.value:.2f} ({own.low:.2f} – {own.high:.2f}), prior {calibration.prior}, "
        f"calibration error {before} → {after}"
    )


def _judges(report: RefitReport) -> str:
    """Whose the held-out rows are."""
    examples = f", {report.judged_examples:,} verified examples among them" if report.judged_examples else ""
    return report.holdout.source + examples


def _member(part: MemberPart) -> str:
    return f"{part.share:.0%} {part.member}, {_settings(part)}"


def _settings(part: MemberPart) -> str:
    return f"λ {part.penalty:g}, offset t {part.prior_offset:g}"


def _change(report: RefitReport, name: str) -> str:
    before, after = (html.percent(getattr(head, name)) for head in (report.live, report.candidate))
    own = report.difference.get(name)
    return f"{before} → {after}" + ("" if own is None else f" ({html.points(own)})")


def _baselines(report: RefitReport) -> list[tuple[str, Measured, str]]:
    """The name of each head, how good it is, and what was chosen for it."""
    letters = {"l2": "λ", "tau": "τ", "prior_offset": "t"}
    rows = [("live", report.live, ""), ("candidate", report.candidate, "")]
    for name, head in report.baselines.items():
        chosen = {letter: getattr(head, key) for key, letter in letters.items()}
        words = ", ".join(f"{letter} {value:g}" for letter, value in chosen.items() if value is not None)
        rows.append((name.replace("_", " "), head, words))
    return rows


def _classes(report: RefitReport) -> tuple[list[int], str]:
    """The classes of the table, most training images first, and a sentence that says which they are.

    Of many classes, those that changed most.
    """
    counts = np.array(report.classes.train_images)
    listed = class_axis.listed(counts, [None if one is None else -abs(one.value) for one in report.change])
    if len(counts) <= class_axis.LISTED:
        return listed, "Most training images first; change in points, and its 95 % interval."
    return listed, f"The {len(listed):,} of {len(counts):,} classes whose recall changed most, in points."
