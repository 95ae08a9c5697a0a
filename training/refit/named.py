"""What a text tower says of the names of classes, for classes that were edited since.

It knows nothing of texts or of towers, or of how far it counts.

Letters: C classes, D feature dimensions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from breadcrumbs.models.head import LinearHead
from breadcrumbs.training.refit.edits import Names


def named_rows(head: LinearHead | None, became: Names, classes: Sequence[str]) -> Tensor | None:
    """Return what names say, f32 (C, D), for classes that were edited.

    Args:
        head: of the classes before; None: nothing is known.
        became: new names of old classes.
        classes: C names. One of several old ones gets the mean of their rows, an unknown one 0.
    """
    if head is None:
        return None
    place = {name: c for c, name in enumerate(classes)}
    rows = torch.zeros(len(classes), head.feature_dim)
    parts = torch.zeros(len(classes))
    for name, row in zip(head.classes, torch.from_numpy(head.weight), strict=True):
        own = place.get(became.get(name, name) or "")
        if own is not None and row.any():
            rows[own] += row
            parts[own] += 1
    return rows / parts.clamp(min=1).unsqueeze(1)
