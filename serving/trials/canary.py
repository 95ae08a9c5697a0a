"""Which requests a canary answers: a part of the line 0 … 1, on which every request has a place.

The place is drawn, or is a hash of the request's `ref` or of its key's name. Canaries side by side take parts that do
not meet, with one way to find the place. It knows nothing of heads.
"""

import hashlib
import random
from collections.abc import Iterable, Sequence

from breadcrumbs.serving.state.store import Conflict
from breadcrumbs.serving.trials.trial import By, Start

SLACK = 1e-9
"""What rounding may make of shares that sum to 1."""


def place_of(by: By, salt: int, key: str | None, ref: str) -> float | None:
    """Return the place of a request on the line. None means that no canary answers it.

    Args:
        by: how the place is found.
        salt: hashed with the words.
        key: name of the request's key, if it has one.
        ref: the sender's own name for its images; may be empty.
    """
    if by == "random":
        return random.random()  # not for secrets
    word = key if by == "key" else ref
    if not word:
        return None
    return int.from_bytes(hashlib.sha256(f"{salt}\n{word}".encode()).digest()[:7]) / 2**56


def answering(canaries: Sequence[Start], key: str | None, ref: str) -> Start | None:
    """Return the canary that answers a request. None means that none does."""
    if not canaries:
        return None
    first = canaries[0]
    place = place_of(first.by, first.salt, key, ref)
    if place is None:
        return None
    return next((one for one in canaries if one.begin <= place < one.begin + one.share), None)


def begin_of(share: float, by: By, running: Iterable[Start]) -> float:
    """Return where a further share fits on the line, beside those of the running canaries.

    Raises:
        Conflict: it does not, or they find places another way.
    """
    canaries = [one for one in running if one.mode == "canary"]
    taken = [(one.begin, one.begin + one.share, one) for one in sorted(canaries, key=lambda one: one.begin)]
    for _, _, one in taken:
        if one.by != by:
            raise Conflict(
                f"trial {one.number} answers a share by {one.by}; a share beside it must be by {one.by} too, got {by}: "
                "end that trial, or ask by the same"
            )
    begin = 0.0
    for low, high, _ in taken:
        if begin + share <= low + SLACK:
            return begin
        begin = max(begin, high)
    if begin + share <= 1 + SLACK:
        return begin
    told = ", ".join(f"trial {one.number} {one.share:g}" for _, _, one in taken)
    raise Conflict(
        f"a share of {share:g} does not fit beside those of running trials ({told}): end one, or ask for less"
    )
