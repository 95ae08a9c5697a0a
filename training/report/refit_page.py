"""A refit's report as a page that needs nothing beside it: the data of `report.json` in, HTML out.

It knows nothing of how the numbers came about; its pictures are `refit_plots'`, its form is `page`'s.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from breadcrumbs.models.refit_report import Interval, RefitReport
from breadcrumbs.training.report import html, refit_plots, run_plots, style
from breadcrumbs.training.report.html import Picture

ALL_ROWS = 200  # classes that the page lists one and all
CHANGED_ROWS = 100  # classes that it lists where there are more

Draw = Callable[[RefitReport], Figure | None]

PICTURES: tuple[tuple[Picture, Draw], ...] = (
    (
        Picture(
            "groups",
            "Recall by group",
            "Bars of mean recall of many-, medium-, few-shot and all classes, live and candidate, with 95 % intervals.",
            "Each bar is the mean recall of a group’s classes (“all”: the share of rows), and the thin line its 95 % "
            "bootstrap interval. Both heads answered the same rows, so the paired difference above is the sharper "
            "comparison: two intervals may overlap where the difference is clear.",
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
            "line is the 95 % interval of the change. Classes stand in the order of their training images, so a refit "
            "that helps the tail rises to the right.",
            "No class has a held-out row.",
        ),
        lambda report: refit_plots.changes(report.classes, report.change),
    ),
    (
        Picture(
            "regressions",
            "What got worse",
            "Bars of the classes that lost most recall, with intervals and both recalls.",
            "The classes that lost most, the worst first: an interval that reaches the zero line may be chance.",
            "No class lost recall.",
        ),
        lambda report: refit_plots.losses(report.regressions),
    ),
    (
        Picture(
            "confusions",
            "Which confusions came and went",
            "Dots of the number of rows of a class that are taken for another, live and candidate.",
            "Rows of the first class that were taken for the second. A red line grew, a grey one shrank.",
            "No confusion changed.",
        ),
        lambda report: refit_plots.confusions(report.moves),
    ),
    (
        Picture(
            "gains",
            "Adversarial gain, and what Lemma 1 says of it",
            "Dots of each class’s adversarial gain, and a dash for the bound of Lemma 1.",
            "The gain is how much harder the augmented features of a class are than the newest ones alone, measured on "
            "images that the measuring heads were not fitted on. The dash is the bound that Lemma 1 sets; where a "
            "cross lies below it, the lemma’s premise did not hold. Classes with few rows are noisy.",
            "There was only one look at all the classes, so there is nothing to measure a gain between.",
        ),
        lambda report: refit_plots.gains(report.certificate, report.classes),
    ),
    (
        Picture(
            "solver",
            "How the head was solved for",
            "Lines of the gradient’s norm and of the objective over the iterations.",
            "Each line is one convex problem; where λ was chosen there is one for each λ that was tried, and the "
            "chosen one is solved again, further. The norm should fall to what was asked for.",
            "The solver told nothing of its way.",
        ),
        lambda report: refit_plots.trace(report.solver.trace if report.solver else ()),
    ),
)  # fmt: skip


def build(report: RefitReport) -> bytes:
    """Return the page; the same report gives the same bytes."""
    figures = ((picture, draw(report)) for picture, draw in PICTURES)
    drawn = [html.figure(picture, None if figure is None else style.svg(figure)) for picture, figure in figures]
    intervals = {head: {name: (i.low, i.high) for name, i in own.items()} for head, own in report.intervals.items()}
    baselines = {name.replace("_", " "): own.model_dump() for name, own in report.baselines.items()}
    return html.document(
        f"Refit of {report.origin.bundle}",
        [
            _summary(report),
            *drawn,
            html.section("All metrics", html.metrics_table(_heads(report), intervals)),
            html.section("What else these rows could have become", _baselines(report, baselines)),
            html.section("Classes", _classes(report)),
            html.section("Snapshots", _snapshots(report)),
            html.section("Settings", html.settings({**report.spec, **_identity(report)})),
        ],
    )


def _heads(report: RefitReport) -> dict[str, dict[str, Any]]:
    return {"live": report.live.model_dump(), "candidate": report.candidate.model_dump()}


def _identity(report: RefitReport) -> dict[str, str]:
    origin = report.origin
    return {"backbone": origin.backbone, "live head": origin.live, "new head": origin.candidate}


def _summary(report: RefitReport) -> str:
    """The verdict and the numbers behind it."""
    passed = report.gate.passed
    verdict = "The gate lets this head go live." if passed else "The gate does not let this head go live:"
    reasons = "".join(f"<li>{html.text(reason)}</li>" for reason in report.gate.reasons)
    solver, chosen = report.solver, report.chosen
    facts = [(f"{name}, live → new", _change(report, name)) for name in ("balanced", "many", "medium", "few")]
    facts += [
        ("held-out rows", f"{report.rows:,} ({report.holdout.source})"),
        ("classes", f"{report.classes.count:,}" + (f", {len(report.classes.new):,} new" if report.classes.new else "")),
        ("chosen", f"λ {'–' if chosen.l2 is None else f'{chosen.l2:g}'}, offset t {chosen.prior_offset:g}"),
    ]
    if report.pool.skipped:
        facts.append(("left out, without a present mean", ", ".join(report.pool.skipped)))
    if solver is not None:
        state = "converged" if solver.converged else "not converged"
        where = "CPU" if solver.device == "cpu" else "GPU"
        above = solver.gap_bound / solver.objective if solver.objective else 0.0
        facts.append(("solver", f"{state}, at most {100 * above:.2g} % above the optimum, on the {where}"))
    split = "The live head may have been trained on these rows, which flatters it: name a hold-out snapshot. "
    notes = (
        "In brackets the paired difference in points, and its 95 % interval. λ and t were chosen on the rows that both "
        "heads are compared on, which flatters the new one. "
        + (split if report.holdout.source == "split" else "")
        + f"Groups of convention {report.holdout.groups}."
    )
    kind = "yes" if passed else "no"
    listed = f"<ul>{reasons}</ul>" if reasons else ""
    return f'<div class="verdict {kind}"><p>{verdict}</p>{listed}</div>\n{html.facts(facts)}\n<p>{html.text(notes)}</p>'


def _change(report: RefitReport, name: str) -> str:
    before, after = (html.share(getattr(head, name)) for head in (report.live, report.candidate))
    own = report.difference.get(name)
    return f"{before} → {after}" + ("" if own is None else f" ({_points(own)})")


def _points(interval: Interval) -> str:
    value, low, high = (100 * v for v in (interval.value, interval.low, interval.high))
    return f"{value:+.1f}; {low:+.1f} … {high:+.1f}".replace("-", "−")


def _baselines(report: RefitReport, baselines: dict[str, dict[str, Any]]) -> str:
    """One row a head, in percent, with what was chosen for it."""
    heads = {**_heads(report), **baselines}
    names = ("balanced", "many", "medium", "few", "all")
    rows = [
        (html.text(head), *(html.share(found[name]) for name in names), html.text(_chosen(found)))
        for head, found in heads.items()
    ]
    return html.table(("head", *names, "chosen"), rows, "numbers")


def _chosen(found: dict[str, Any]) -> str:
    letters = {"l2": "λ", "tau": "τ", "prior_offset": "t"}
    return ", ".join(f"{letters[key]} {found[key]:g}" for key in letters if found.get(key) is not None)


def _classes(report: RefitReport) -> str:
    """Every class in the tail's order; of more than ALL_ROWS, those that changed most."""
    own, change = report.classes, report.change
    order = [int(c) for c in style.long_tail(np.array(own.train_images))]
    words = "Most training images first; change in points, and its 95 % interval."
    if own.count > ALL_ROWS:
        known = {c: abs(one.value) for c, one in enumerate(change) if one is not None}
        order = sorted(known, key=lambda c: (-known[c], c))[:CHANGED_ROWS]
        words = f"The {len(order)} of {own.count:,} classes whose recall changed most, in points."
    new = set(own.new)
    rows = [
        (
            f"<bdi>{html.text(own.names[c])}</bdi>" + ("<small>new</small>" if own.names[c] in new else ""),
            f"{own.train_images[c]:,}", own.groups[c],
            f"{report.pool.rows[c]:,}<small>{report.pool.transferred[c]:,} older</small>",
            html.share(report.live.recall[c]), html.share(report.candidate.recall[c]),
            "–" if (one := change[c]) is None else html.text(_points(one)),
        )
        for c in order
    ]  # fmt: skip
    titles = ("class", "training images", "group", "features fitted", "recall, live", "recall, candidate", "change")
    return f"<p>{words}</p>" + html.table(titles, rows, "numbers")


def _snapshots(report: RefitReport) -> str:
    if not report.snapshots:
        return html.note("None was uploaded: the head was fitted to the bundle’s own.")
    rows = [
        (str(one.epoch), f"{one.rows:,}", "the deployed one" if one.deployed_backbone else "another")
        for one in report.snapshots
    ]
    return html.table(("epoch", "rows", "backbone"), rows, "numbers")
