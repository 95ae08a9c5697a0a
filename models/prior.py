"""A prior: what is known of the classes before an image is seen, as weights or as a list of those that can be there.

    prior = Prior({"Lynx lynx": 3, "Felis silvestris": 1})
    logits + prior.log(head)          probabilities are the softmax of this

With a head that takes all classes for equally frequent, softmax(logits + log π) is the posterior under π. The logits of
a head with a prior of its own (`deployment_prior` of a refit) are z / T + log π_own. Weights take the place of that
prior: log π − log π_own is added, so that the answer is softmax(z / T + log π) for every head, T being its temperature.
A list of classes weighs them equally and leaves the head's own prior, so among them the head's odds stay. A class
without weight cannot be: log 0 = −inf.

It knows nothing of where a prior is kept or who asks for it.

Letters: C classes of a head.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models import printable
from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.near_names import suggestion

Became = Mapping[str, str | None]
"""What old names of classes are called in a head; None: there is no such class any more."""
NO_RENAMES: Became = {}


class PriorError(BreadcrumbsError):
    """A prior that is none, or that leaves no class of a head."""


class UnknownClass(PriorError):
    """A class that a head does not have."""


class Prior:
    """Weights of classes, by name; they need not sum to 1, and a class that is not named has none.

    Args:
        weights: by class, finite and not negative, one of them more than 0.
        listed: whether it is a list of the classes that can be, which leaves a head's own prior.

    Raises:
        PriorError: there is none, or it is negative, not finite, or all are 0.
    """

    def __init__(self, weights: Mapping[str, float], *, listed: bool = False) -> None:
        check_weights(weights)
        self._listed = listed
        self._logs = {name: math.log(weight) for name, weight in weights.items() if weight}
        self._named = tuple(weights)
        self._known: WeakKeyDictionary[LinearHead, Floats] = WeakKeyDictionary()

    def log(self, head: LinearHead, became: Became = NO_RENAMES) -> Floats:
        """Return what is added to a head's logits (C,), −inf for a class that cannot be; computed once for each head.

        That is log π, less the head's own prior if the weights are to take its place.

        Args:
            head: whose classes count.
            became: what old names are called in that head; the weights of names that became one are added.

        Raises:
            PriorError: none of the head's classes can be.
        """
        found = self._known.get(head)
        if found is None:
            found = self._known[head] = self._computed(head, became)
        return found

    def unknown(self, head: LinearHead, became: Became = NO_RENAMES) -> list[str]:
        """Return the names that a head does not have, and that are no old ones; they weigh nothing in its answers."""
        return [name for name in self._named if _place(name, head.places, became) is None]

    def _computed(self, head: LinearHead, became: Became) -> Floats:
        log = self._weights(head.places, became)
        largest = log.max()
        if np.isneginf(largest):
            first = next(iter(self._logs))
            raise PriorError(
                f"the prior leaves none of the head's {len(head.classes)} classes; it names {len(self._named)}, among "
                f"them {first!r:.80}; store it again with names of the head, which GET /v1/priors compares"
            )
        own = 0.0 if self._listed or head.log_prior is None else head.log_prior
        return np.asarray(_normalised(log) - own, np.float32)

    def of_every(self, classes: Sequence[str], became: Became = NO_RENAMES) -> Floats:
        """Return log π (C,) of classes each of which must have a weight, as a head's own prior is.

        Raises:
            PriorError: naming those without one.
        """
        log = self._weights({name: place for place, name in enumerate(classes)}, became)
        without = [name for name, own in zip(classes, log.tolist(), strict=True) if own == -math.inf]
        if without:
            raise PriorError(
                f"no weight for {printable.listed(without)}; expected one above 0 for each of {len(classes)} classes"
                f"{suggestion(without[0], self._named)}"
            )
        return np.asarray(_normalised(log), np.float32)

    def _weights(self, places: Mapping[str, int], became: Became) -> NDArray[np.float64]:
        """The logarithms of the weights by class (C,), −inf where there is none; those of one class are added."""
        found = [-math.inf] * len(places)
        for name, own in self._logs.items():
            place = _place(name, places, became)
            if place is not None:
                found[place] = own if found[place] == -math.inf else float(np.logaddexp(found[place], own))
        return np.array(found)


def _normalised(log: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithms of weights (C,), less that of their sum, in logs, where no sum can overflow."""
    largest = log.max()
    return np.asarray(log - (largest + np.log(np.exp(log - largest).sum())))


def _place(name: str, places: Mapping[str, int], became: Became) -> int | None:
    """The index of a class, also by an old name; None: there is none."""
    place = places.get(name)
    return places.get(became.get(name) or "") if place is None else place


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuse weights that are no prior.

    Raises:
        PriorError: naming the class.
    """
    if not weights:
        raise PriorError("a prior has at least one class, got none")
    for name, weight in weights.items():
        if not name or (why := printable.defect(name)):
            raise PriorError(f"class {name!r:.80} {'is empty' if not name else why}")
        if not math.isfinite(weight) or weight < 0:
            raise PriorError(f"the weight of {name!r:.80} is {weight}; expected a finite number, 0 or more")
    if not any(weights.values()):
        raise PriorError("all weights of the prior are 0; expected at least one class with more")


def only(names: Iterable[str], head: LinearHead) -> Floats:
    """Return log π (C,) of classes that weigh the same, −inf for all others.

    Raises:
        UnknownClass: the head does not have one.
        PriorError: there are no names.
    """
    wanted = list(dict.fromkeys(names))
    if not wanted:
        raise PriorError("classes: expected names of classes, got none")
    check_known(wanted, head)
    found = np.full(len(head.classes), -np.inf, np.float32)
    found[[head.places[name] for name in wanted]] = -math.log(len(wanted))
    return found


def check_known(names: Sequence[str], head: LinearHead) -> None:
    """Refuse names that a head does not have.

    Raises:
        UnknownClass: naming the first, with those that are near.
    """
    unknown = [name for name in names if name not in head.places]
    if not unknown:
        return
    more = f" and {len(unknown) - 1} others" if len(unknown) > 1 else ""
    raise UnknownClass(
        f"class {unknown[0]!r:.80}{more}: not among the {len(head.classes)} of the head"
        f"{suggestion(unknown[0], head.classes)}"
    )


def split(values: Iterable[str], head: LinearHead) -> list[str]:
    """Return the names in values that are each a class's name, or several with commas between them.

    A value that a class is called is taken as it is, so a name with a comma in it is named by a value of its own.
    """
    found: list[str] = []
    for value in values:
        found += [value] if value in head.places else [name for part in value.split(",") if (name := part.strip())]
    return found


def both(first: Floats | None, second: Floats | None) -> Floats | None:
    """Return what two priors, log π (C,) each, say together; None says nothing.

    Raises:
        PriorError: no class is left.
    """
    if first is None or second is None:
        return second if first is None else first
    together = first + second
    if np.isneginf(together).all():
        raise PriorError("prior and classes have no class in common; name classes that the prior has")
    return together
