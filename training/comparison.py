"""Two bundles on the same test images: what they have in common, and how their heads differ there.

It knows nothing of how a bundle is measured.

Letters: N test rows, M of them of common classes, C classes of either bundle.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.groups import GROUPS, Convention, Group
from breadcrumbs.training.data.class_names import listed, plain
from breadcrumbs.training.data.dataset import DataError, Split
from breadcrumbs.training.metrics import as_json
from breadcrumbs.training.pairs import pairs

Integers = NDArray[np.int64]


def check_related(one: Bundle, two: Bundle) -> None:
    """Refuse two bundles of which neither has all classes of the other, by name.

    Raises:
        DataError: naming classes that only one has.
    """
    own, others = ({plain(name): name for name in bundle.manifest.classes} for bundle in (one, two))
    if own.keys() - others.keys() and others.keys() - own.keys():
        alone = [
            classes[name] for classes, rest in ((own, others), (others, own)) for name in classes.keys() - rest.keys()
        ]
        raise DataError(
            f"the bundle {two.folder} has other classes: expected the {len(own)} of one among the {len(others)} of "
            f"the other, or the other way round; in one only: {listed(sorted(alone))}"
        )


def in_common(
    other: Floats, own: Floats, labels: Integers, other_bundle: Bundle, bundle: Bundle
) -> tuple[Floats, Floats, Integers]:
    """Both bundles' logits (M, C) on the rows of classes that both have, and the labels (M,) of these rows.

    The classes are in the order of `bundle`, and others after them; a class that a bundle does not know is never
    predicted by it. A new class may still take rows from the common ones, as it would on a server.

    Raises:
        DataError: no row is of a common class.
    """
    names, others = ([plain(name) for name in one.manifest.classes] for one in (bundle, other_bundle))
    union = list(dict.fromkeys([*names, *others]))
    rows = np.isin(labels, [place for place, name in enumerate(names) if name in set(others)])
    if not rows.any():
        raise DataError(f"no test image of a class that {bundle.folder} and {other_bundle.folder} both have")

    def spread(logits: Floats, known: Sequence[str]) -> Floats:
        wide = np.full((int(rows.sum()), len(union)), -np.inf, np.float32)
        wide[:, [union.index(name) for name in known]] = logits[rows]
        return wide

    return spread(other, others), spread(own, names), labels[rows]


def same_images(one: Split, two: Split) -> bool:
    """Whether two splits have the same images with the same labels, in the same order."""
    if not np.array_equal(one.labels, two.labels):
        return False
    if one.pixels is not None and two.pixels is not None:
        return np.array_equal(one.pixels, two.pixels)
    paths = ([path.resolve() for path in split.paths or ()] for split in (one, two))
    return one.pixels is None and two.pixels is None and next(paths) == next(paths)


def difference(
    other: Floats, own: Floats, labels: Integers, by_class: dict[Convention, tuple[Group, ...]]
) -> dict[str, Any]:
    """This bundle's recall less the other's, balanced and by group, on the same rows."""
    more: tuple[Group, ...] = ("few",) * (
        own.shape[1] - len(by_class["A"])
    )  # classes that only the other knows: no rows
    both = pairs(other, own, labels)
    found = {name: as_json(both.difference((*members, *more))) for name, members in by_class.items()}
    return {"balanced": found["A"]["balanced"], "groups": {n: {g: v.get(g) for g in GROUPS} for n, v in found.items()}}
