"""What a trial's rules say: whether it is stopped, or its head goes live; and what a rule can never decide.

A rule about a share is one row of `SHARES`: what is counted, and of how many. It knows nothing of heads or stores.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from breadcrumbs.serving.refusals import BadRequest
from breadcrumbs.serving.state.stop_rules import StopIf
from breadcrumbs.serving.trials.counts import Counts
from breadcrumbs.serving.trials.evidence import MOST, Tally, fewest, shows_less, shows_more
from breadcrumbs.serving.trials.trial import GROUPS, Start, TrialGroup

LEVEL = 0.01
"""Probability that a rule about a share stops a trial although the share is not over its bound."""
WEEK = 7 * 86400
"""Seconds that `Outlook.lately` is about."""

SHARES: Mapping[str, tuple[str, Callable[[Counts], Tally]]] = {
    "disagreement": (
        "the heads disagree on",
        lambda counts: Tally(gained=counts.disagreed, even=counts.compared - counts.disagreed),
    ),
    "errors": (
        "the head on trial fails on",
        lambda counts: Tally(gained=counts.errors, even=counts.compared),
    ),
    "unknown": (
        "the head on trial alone does not know",
        lambda counts: Tally(
            gained=counts.unknown,
            even=counts.placed - counts.unknown - counts.unknown_against,
            lost=counts.unknown_against,
        ),
    ),
}
"""Rules about shares, by their field in `StopIf`: what it is called, and the answers that count or do not."""


@dataclass(frozen=True)
class Decision:
    """What is to be done with a trial."""

    act: Literal["stop", "activate"]
    reason: str


def decide(start: Start, counts: Counts, labels: Mapping[TrialGroup, Tally]) -> Decision | None:
    """Return what the rules of a trial say. None means that it goes on.

    Args:
        start: of the trial.
        counts: of all processes.
        labels: what labels say, by group and of all.
    """
    for name, (told, tally_of) in SHARES.items():
        bound = getattr(start.stop_if, name)
        tally = tally_of(counts)
        if bound is not None and shows_more(tally, bound, LEVEL):
            less = f", the other head alone {tally.lost}" if tally.lost else ""
            return Decision(
                "stop", f"{told} {tally.gained} of {tally.count} answers{less}; stop_if.{name} is {bound:g}"
            )
    if start.stop_if.worse is not None:
        for group, tally in labels.items():
            if shows_less(tally, 0, start.stop_if.worse / len(GROUPS)):
                return Decision("stop", f"{_told(start, group, tally)}; it is worse at level {start.stop_if.worse:g}")
    everything = labels.get("all", Tally())
    if start.margin is not None and shows_more(everything, -start.margin, start.alpha):
        told = _told(start, "all", everything)
        return Decision("activate", f"{told}; it is not worse by {start.margin:g} at level {start.alpha:g}")
    return None


def _told(start: Start, group: TrialGroup, tally: Tally) -> str:
    where = "all classes" if group == "all" else f"{group} classes"
    return (
        f"of {tally.count} verified labels of {where} head {start.head} alone has {tally.gained} right, "
        f"head {start.against} alone {tally.lost}"
    )


@dataclass(frozen=True)
class Outlook:
    """What is known when a trial starts.

    Attributes:
        remembers: whether this server remembers answers, so that labels of them can come.
        lately: verified labels of answers that came in the last week.
        seconds: that the trial may take.
        same: whether both heads have the same numbers.
        points: sha256 of what each head tells by how well a feature is known, by version. None means that it cannot.
    """

    remembers: bool
    lately: int
    seconds: float
    same: bool
    points: Mapping[int, str | None]


def check(stop_if: StopIf, margin: float | None, outlook: Outlook) -> None:
    """Refuse rules that can never be decided.

    Raises:
        BadRequest: naming the rule, and the remedy.
    """
    needs = "stop_if.worse" if stop_if.worse is not None else "margin" if margin is not None else None
    if needs is not None and not outlook.remembers:
        raise BadRequest(
            f"{needs} can never be decided: it takes verified labels of remembered answers, and this server remembers "
            "none; start it with --remember, or leave the rule out"
        )
    differ = "worse" if stop_if.worse is not None else "disagreement" if stop_if.disagreement is not None else None
    if differ is not None and outlook.same:
        raise BadRequest(
            f"stop_if.{differ} can never be decided: both heads have the same numbers, so they never disagree; leave "
            "the rule out"
        )
    if margin is not None and outlook.same and fewest(Tally(even=1), -margin, stop_if.level) >= MOST:
        raise BadRequest(
            f"margin={margin:g} can never be decided: both heads have the same numbers, and it takes over {MOST:,} "
            "labels to show that one is not worse by so little; expected a larger one"
        )
    if stop_if.unknown is not None:
        _check_points(outlook.points)
    for name in SHARES:
        bound = getattr(stop_if, name)
        if bound is not None and fewest(Tally(gained=1), bound, LEVEL) >= MOST:
            raise BadRequest(
                f"stop_if.{name}={bound:g} can never be decided: it takes over {MOST:,} answers; expected a lower share"
            )


def _check_points(points: Mapping[int, str | None]) -> None:
    for version, sha in points.items():
        if sha is None:
            raise BadRequest(
                f"stop_if.unknown can never be decided: head {version} carries no points to tell what is known by, as "
                "heads do that were made from too few rows; leave the rule out"
            )
    if len(set(points.values())) == 1:
        raise BadRequest(
            "stop_if.unknown can never be decided: both heads tell by the same points what is known; leave the rule out"
        )


def notes(stop_if: StopIf, margin: float | None, outlook: Outlook) -> list[str]:
    """Return what a reader should know of rules that are unlikely to be decided in time."""
    asked = []
    if stop_if.worse is not None:
        asked.append(("stop_if.worse", fewest(Tally(gained=1), 0, stop_if.worse / len(GROUPS))))
    if margin is not None:
        asked.append(("margin", fewest(Tally(even=1), -margin, stop_if.level)))
    expected = outlook.lately * outlook.seconds / WEEK
    return [
        f"{name} takes {least} verified labels of answers or more, and about {expected:.0f} will come before the end, "
        f"as {outlook.lately} came in the last 7 days: label more, or choose a later end"
        for name, least in asked
        if expected < least
    ]
