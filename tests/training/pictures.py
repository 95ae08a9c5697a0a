"""Pictures under test: figures that can be rendered, what is written and drawn in them."""

import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from breadcrumbs.models.groups import Group
from breadcrumbs.training.report import style

CLASSES = ("$x_{1}$", "a_b^c", "plain")


COUNTS = np.array([5, 300, 40])


GROUPS: tuple[Group, ...] = ("few", "many", "medium")


def drawn(figure: Figure | None) -> Figure:
    """The figure, which is there and can be rendered both ways."""
    assert figure is not None
    assert style.svg(figure).startswith(b"<?xml")
    Image.open(io.BytesIO(style.png(figure))).load()
    return figure


def ticks(figure: Figure, axis: int = -1) -> list[str]:
    """What is written at the horizontal axis."""
    return [text.get_text() for text in figure.axes[axis].get_xticklabels()]


def lines(figure: Figure, axis: int = 0) -> dict[str, list[float]]:
    """The named lines of an axis."""
    found = {str(line.get_label()): list(np.asarray(line.get_ydata(), float)) for line in figure.axes[axis].lines}
    return {name: values for name, values in found.items() if not name.startswith("_")}
