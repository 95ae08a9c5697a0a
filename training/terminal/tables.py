"""The tables that commands print, and how they print them: framed at a terminal, as plain lines in a file or a pipe.

It knows nothing of how anything was measured.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table

from breadcrumbs.models.groups import GROUPS
from breadcrumbs.training.coverage import TOLD

ALL_CLASSES = 50  # more classes than this are not all listed
WORST_CLASSES = 20  # classes that are listed then
WIDE = 1000  # columns of a file, so that no line is wrapped

Found = dict[str, Any]


def show(result: RenderableType, console: Console | None = None) -> None:
    """Print a table or a text. Outside a terminal a table has no frame, and no line is wrapped.

    Args:
        result: a table or a text.
        console: where to print; None means standard output.
    """
    console = console or Console()
    if not console.is_terminal:
        console.width = WIDE
        if isinstance(result, Table):
            result.box, result.pad_edge = None, False
            result.title_justify = result.caption_justify = "left"
            result.leading = int(result.show_lines)
            # A title and a caption would be wrapped to the table's width.
            parts = [result.title, result, result.caption]
            result.title = result.caption = None
            for part in filter(None, parts):
                console.print(part, highlight=False, markup=False)
            return
    console.print(result, highlight=False, markup=False)


def shown(found: Found) -> Iterator[RenderableType]:
    """Yield the parts of what `training.measure` found that are worth printing; the rest is in the JSON."""
    yield _heads(found)
    yield _chosen(found)
    yield _classes(found)
    if found.get("coverage"):
        yield _coverage(found["coverage"])
    if "against" in found:
        yield from _difference(found)


def in_short(title: str, metrics: dict[str, Any]) -> Table:
    """Return a table of the heads in `metrics`: many, medium, few, balanced and all, in percent."""
    table = Table(title=title)
    for name in ("head", "many", "medium", "few", "balanced", "all"):
        table.add_column(name, justify="left" if name == "head" else "right")
    for name, measured in metrics.items():
        if isinstance(measured, dict) and "balanced" in measured and "recall" in measured:
            values = (measured[key] for key in ("many", "medium", "few", "balanced", "all"))
            table.add_row(name, *("–" if v is None else f"{100 * v:.1f}" for v in values))
    return table


def calibration(found: dict[str, Any]) -> Table:
    """Return a table of a refit report's `calibration`: error in percent and log loss, without and with temperature."""
    own = found["temperature"]
    interval = f"{own['low']:.2f}–{own['high']:.2f}"
    table = Table(
        title=f"probabilities: temperature {own['value']:.2f} ({interval}), prior {found['prior']}",
        caption="calibration error of the top class, %, and log loss, nats; a group's rows are those answered with it",
    )
    for name in ("answered", "rows", "error, T = 1", "error", "log loss, T = 1", "log loss"):
        table.add_column(name, justify="left" if name == "answered" else "right")
    for name, group in found["groups"].items():
        heads = [group[key] for key in ("before", "after")]
        errors = (f"{100 * head['ece']['value']:.1f}" for head in heads)
        losses = (f"{head['nll']['value']:.3f}" for head in heads)
        table.add_row(name, str(group["rows"]), *errors, *losses)
    return table


def _heads(found: Found) -> Table:
    """Every head with its metrics in percent, the 95 % interval below each."""
    table = Table(
        title=f"{found['bundle']} on {found['test_images']} test images: %, and its 95 % interval",
        caption=f"{found['exported']} is what the server answers with; A and B are conventions of many, medium and few",
        show_lines=True,
    )
    table.add_column("head", overflow="fold")
    conventions = _conventions(found)
    columns = [f"{group} {label}" for label in conventions for group in GROUPS]
    for name in (*columns, "all", "balanced", "harmonic", "worst class", "macro-F1", "ECE"):
        table.add_column(name, justify="right", overflow="fold")
    for name, head in found["heads"].items():
        by_group = [head["groups"][own][group] for own in conventions.values() for group in GROUPS]
        metrics = head["metrics"]
        cells = [_cell(metrics[key]) for key in ("all", "balanced", "harmonic", "worst", "macro_f1", "ece")]
        cells[3] = f"{head['worst_class']}\n{cells[3]}"
        table.add_row(name.replace("_", " "), *map(_cell, by_group), *cells)
    return table


def _conventions(found: Found) -> dict[str, str]:
    """The conventions of groups by their label. If they make the same groups, there is one entry, with both names."""
    members = found["classes"]["groups"]
    if len({tuple(own) for own in members.values()}) == 1:
        return {" = ".join(members): next(iter(members))}
    return {name: name for name in members}


def _cell(interval: dict[str, float] | None) -> str:
    if interval is None:
        return "–"
    value, low, high = (100 * interval[key] for key in ("value", "low", "high"))
    return f"{value:.1f}\n{low:.1f}–{high:.1f}"


def _chosen(found: Found) -> str:
    """A line for each head whose τ or t was chosen on one half of the rows and measured on the other."""
    lines = [
        f"{name.replace('_', ' ')}: " + ", ".join(map(_choice, head["chosen"]))
        for name, head in found["heads"].items()
        if head["chosen"]
    ]
    if not lines:
        return "Too few test images to choose an offset on one half of them and to measure on the other."
    return "\n".join(["Chosen on one half of the test images, measured on the other, both ways round:", *lines, ""])


def _choice(choice: dict[str, float | None]) -> str:
    tau = "" if choice["tau"] is None else f"τ {choice['tau']:g} and "
    return f"{tau}t {choice['prior_offset']:g}"


def _classes(found: Found) -> Table:
    """The recall of each class by every head; of many classes those with the lowest recall of the exported head."""
    classes, heads = found["classes"], found["heads"]
    recall = heads[found["exported"]]["recall"]
    order = list(range(len(recall)))
    title = "recall of each class, %"
    if len(recall) > ALL_CLASSES:
        order = sorted((c for c in order if recall[c] is not None), key=lambda c: recall[c])[:WORST_CLASSES]
        title = f"recall, %: the {len(order)} worst of {len(recall)} classes; all are in --json"
    table = Table(title=title)
    table.add_column("class", overflow="fold")
    conventions = _conventions(found)
    for name in ("training images", "test images", *conventions, *heads):
        table.add_column(name.replace("_", " "), justify="right", overflow="fold")
    for c in order:
        numbers = (str(classes[key][c]) for key in ("train_images", "test_images"))
        members = (classes["groups"][own][c] for own in conventions.values())
        values = (head["recall"][c] for head in heads.values())
        shares = ("–" if value is None else f"{100 * value:.1f}" for value in values)
        table.add_row(classes["names"][c], *numbers, *members, *shares)
    return table


def _coverage(ranks: Sequence[dict[str, Any]]) -> Table:
    """Accuracy in percent of the surest answers, for each rank, and below it the least probability among them."""
    table = Table(
        title="accuracy against coverage of the exported head, %: of the surest 50 %, 80 % … of the images",
        caption="in brackets the least probability among them: a confidence that answers so many", show_lines=True,
    )  # fmt: skip
    table.add_column("rank", overflow="fold")
    table.add_column("groups", justify="right")
    for share in TOLD:
        table.add_column(f"{100 * share:.0f} %", justify="right")
    for one in ranks:
        cells = (f"{100 * point['accuracy']:.1f}\n({point['probability']:.3f})" for point in one["points"])
        table.add_row(one["rank"], str(one["groups"]), *cells)
    return table


def _difference(found: Found) -> Iterator[str]:
    """A line for each difference: how large it is, and whether its interval excludes zero."""
    against = found["against"]
    yield f"{found['bundle']} less {against['bundle']}, exported heads, the same test images, recall in points:"
    yield f"  balanced: {_verdict(against['balanced'])}"
    for label, convention in _conventions(found).items():
        own = against["groups"][convention]
        yield from (f"  {group} {label}: {_verdict(own[group])}" for group in GROUPS if own[group])


def _verdict(interval: dict[str, float]) -> str:
    value, low, high = (100 * interval[key] for key in ("value", "low", "high"))
    numbers = f"{value:+.1f} ({low:+.1f} … {high:+.1f})"
    if low > 0 or high < 0:
        return f"{numbers}: {'better' if low > 0 else 'worse'}, the interval excludes zero"
    return f"{numbers}: no difference shown, the interval includes zero"
