"""Classes that are renamed, merged or removed, as pure functions on names, logits and heads.

One mapping of old names to new ones, or to None, says all three; it is applied at once, so a -> b, b -> a swaps. It
knows nothing of snapshots, of how a head is fitted, or of who asked. It imports no torch: the server checks by it too.

Letters: N rows, C classes of the live head, C' those after the edit, D feature dimensions.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.errors import BreadcrumbsError, FormatError
from breadcrumbs.models.head import LinearHead, check_classes
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.data.class_names import spaced

FEWEST = 2
"""Classes that must be left."""
NEAR = 3
"""Names that are offered for one that is unknown."""

Names = Mapping[str, str | None]
"""Old names and what becomes of them; None: the class is removed."""


class EditError(BreadcrumbsError):
    """An edit of classes that cannot be made."""


@dataclass(frozen=True)
class EditedClasses:
    """The classes of a head after an edit.

    Attributes:
        names: those that are left (C'), in the order of the live head; a merged one is where its first part was.
        place: of each old class its index in `names`, or -1 where it was removed (C).
    """

    names: tuple[str, ...]
    place: tuple[int, ...]


def edited(live: Iterable[str], mapping: Names) -> EditedClasses:
    """Apply a mapping to the classes of the live head (C).

    Raises:
        EditError: an old name is no class of the live head, a new one cannot be a class, or fewer than two are left.
    """
    old = tuple(live)
    known = set(old)
    for name in mapping:
        if name not in known:
            raise EditError(f"classes: the live head has no class {name!r:.80}; {_near(name, old)}")
    became = [mapping.get(name, name) for name in old]
    names = tuple(dict.fromkeys(name for name in became if name is not None))
    for new in mapping.values():
        if new is not None and (why := spaced(new)):
            raise EditError(f"classes: class {new!r:.80} {why}")
    try:
        check_classes(names)
    except FormatError as error:
        raise EditError(f"classes: {error}; expected a name") from error
    if len(names) < FEWEST:
        raise EditError(f"classes: {len(names)} of {len(old)} classes would be left; expected {FEWEST} or more")
    index = {name: place for place, name in enumerate(names)}
    return EditedClasses(names, tuple(-1 if name is None else index[name] for name in became))


def _near(name: str, known: tuple[str, ...]) -> str:
    found = difflib.get_close_matches(name, known, NEAR)
    return f"near it: {', '.join(found)}" if found else f"its {len(known)} classes have no name near it"


def edited_logits(logits: NDArray[np.floating], classes: EditedClasses) -> Floats:
    """Return the logits that a head of the old classes (N, C) gives to the new ones, f32 (N, C').

    A merged class is as probable as its parts together: log Σ exp of their logits. A removed one is left out, so that
    what is left is the distribution given that it is none of the removed.
    """
    place = np.array(classes.place)
    first = np.array([classes.place.index(new) for new in range(len(classes.names))])  # its first part (C')
    out = np.array(logits[:, first], np.float32)
    for part in sorted(set(np.flatnonzero(place >= 0)) - set(first)):
        out[:, place[part]] = np.logaddexp(out[:, place[part]], logits[:, part])
    return out


def edited_head(live: LinearHead, classes: EditedClasses) -> LinearHead:
    """Return the linear head nearest to the live one under an edit, to start a solver from.

    Without merges it is the very same function. log Σ exp is not linear; its tangent where k parts are equally
    probable is their mean plus log k, which by Jensen is nowhere above it.
    """
    kept = np.flatnonzero(np.array(classes.place) >= 0)
    place = np.array(classes.place)[kept]
    parts = np.bincount(place, minlength=len(classes.names))  # k (C')
    weight = np.zeros((len(parts), live.feature_dim))
    bias = np.zeros(len(parts))
    np.add.at(weight, place, live.weight[kept])
    np.add.at(bias, place, live.bias[kept])
    mean = (weight / parts[:, None]).astype(np.float32), (bias / parts + np.log(parts)).astype(np.float32)
    return LinearHead(*mean, classes.names)


def with_past(spec: RefitSpec, past: Mapping[str, Any], live: Iterable[str]) -> RefitSpec:
    """Return a spec whose aliases also have what earlier edits made of names that old snapshots still have.

    A name that is a class again means that class. What the spec says itself holds. Where it says no deployment prior,
    that of the live head stays.

    Args:
        spec: of this refit.
        past: the spec that the live head was fitted with; empty: there is none.
        live: classes of the live head.
    """
    before: dict[str, str | None] = {**past.get("aliases", {}), **past.get("classes", {})}
    now: dict[str, str | None] = {**spec.aliases, **spec.classes}
    known = set(live)
    old = {
        name: became if became is None else now.get(became, became)
        for name, became in before.items()
        if name not in known
    }
    aliases = {**old, **spec.aliases}
    prior = spec.deployment_prior or past.get("deployment_prior")
    return spec.model_copy(update={"aliases": aliases, "deployment_prior": prior})
