"""A trial, as the log of trials has it: its start, and its end.

A trial judges one head by another. One of the two is live: the other, or, in a bake, the head itself. It knows nothing
of how answers are divided or counted.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from breadcrumbs.models.printable import Printable
from breadcrumbs.serving.refusals import BadRequest
from breadcrumbs.serving.state.stop_rules import StopIf

Mode = Literal["shadow", "canary", "bake"]
By = Literal["key", "ref", "random"]
Outcome = Literal["over", "ended", "stopped", "rolled_back", "activated", "overtaken"]
TrialGroup = Literal["all", "many", "medium", "few", "new"]
GROUPS: tuple[TrialGroup, ...] = ("all", "many", "medium", "few", "new")
"""What a trial is judged on; `new` has the classes that came after the bundle."""
DURATION = re.compile(r"([0-9]{1,9})([smhd])")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST = timedelta(days=90)
"""The longest time that a trial may take."""
UNTIL = "7d"
"""How long a trial takes if nothing is said."""


class TrialSpec(BaseModel):
    """What a trial is to be."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    head: int = Field(ge=1, lt=10**9)
    """Version of the head on trial."""
    mode: Literal["shadow", "canary"] = "shadow"
    """`shadow`: the head only computes, and is counted. `canary`: it also answers a share of the requests."""
    share: float | None = Field(default=None, gt=0, le=1)
    """Share of the requests that a canary answers; a shadow has none."""
    by: By = "random"
    """Which requests these are: drawn at random, or by a hash of their `ref` or of their key's name, so that one sender
    always meets one head. A request without ref or key is answered by the live head."""
    until: str = Field(default=UNTIL, max_length=40)
    """When it ends: a duration as `90s`, `30m`, `2h` or `7d`, or a time as `2026-01-31T12:00:00Z`."""
    stop_if: StopIf = StopIf()
    """What stops it before."""
    margin: float | None = Field(default=None, gt=0, lt=1)
    """Make the head live as soon as labels show that its recall is not lower by this much, at the level of
    `stop_if.worse` (0.05 if absent). Absent: never by itself."""
    reason: Printable = Field(default="", max_length=1000)
    """Why, for the log; one line of printable text."""

    @model_validator(mode="before")
    @classmethod
    def _in_the_default_line(cls, given: object) -> object:
        if isinstance(given, Mapping) and "line" in given:
            raise ValueError("a head is tried in the default line only; leave out line")
        return given


class Start(BaseModel):
    """The start of a trial; `trials/<number>.json`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    kind: Literal["start"] = "start"
    """A trial starts with this record."""
    number: int
    """The trial's number: that of this record."""
    head: int
    """Version of the head on trial."""
    digest: str
    """Its digest."""
    against: int
    """Version of the head that it is compared with."""
    against_digest: str
    """Its digest."""
    mode: Mode
    """`shadow`, `canary`, or `bake`: the head went live and is watched."""
    by: By = "random"
    """How the requests that a canary answers are chosen."""
    begin: float = 0.0
    """Where its share begins, of 0 … 1."""
    share: float = 0.0
    """Share of the requests that it answers; 0 but for a canary."""
    salt: int = 0
    """What is hashed with refs and keys; the same for canaries side by side."""
    until: str
    """When it ends, ISO 8601."""
    stop_if: StopIf
    """What stops it before."""
    margin: float | None = None
    """The head goes live when it is shown not to be worse by this much; null: never by itself."""
    activation: int
    """Number of the activation that was the newest when it started."""
    actor: str
    """Who started it."""
    reason: str
    """Why, in the actor's words."""
    at: str
    """ISO 8601."""
    previous: str | None
    """sha256 of the record before this one, as it lies in the store."""

    @property
    def live(self) -> int:
        """The head that must be live while it runs."""
        return self.head if self.mode == "bake" else self.against

    @property
    def since(self) -> int:
        """When it started, in microseconds since 1970."""
        return int(datetime.fromisoformat(self.at).timestamp() * 1e6)

    @property
    def alpha(self) -> float:
        """The level of what labels must show."""
        return self.stop_if.level

    def is_over(self, now: datetime) -> bool:
        """Whether its time has passed."""
        return now >= datetime.fromisoformat(self.until)


class End(BaseModel):
    """The end of a trial; `trials/<number>.json`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    kind: Literal["end"] = "end"
    """A trial ends with this record."""
    number: int
    """Number of this record."""
    trial: int
    """Number of the trial."""
    outcome: Outcome
    """`over`: its time has passed. `ended`: somebody ended it. `stopped`: by a rule. `rolled_back`: by a rule, and the
    head before is live again. `activated`: its head went live. `overtaken`: another head went live."""
    actor: str
    """Who ended it."""
    reason: str
    """Why."""
    at: str
    """ISO 8601."""
    previous: str | None
    """sha256 of the record before this one, as it lies in the store."""


def ends_at(text: str, now: datetime) -> datetime:
    """Return when a trial ends, UTC, to the second.

    Args:
        text: a duration or a time, as `TrialSpec.until`.
        now: the time, UTC.

    Raises:
        BadRequest: it is neither, has passed, or is later than `LONGEST` from now.
    """
    found = DURATION.fullmatch(text)
    if found is not None:
        # a number of nine digits is more days than a timedelta has, and far beyond the limit
        seconds = min(int(found[1]) * UNITS[found[2]], 2 * int(LONGEST.total_seconds()))
        end = now + timedelta(seconds=seconds)
    else:
        end = _time(text)
    if end <= now:
        raise BadRequest(f"until={text!r:.50} has passed; expected a later time, or a duration as 2h")
    if end > now + LONGEST:
        raise BadRequest(f"until={text!r:.50} is too late: a trial may take {LONGEST.days} days")
    return end


def _time(text: str) -> datetime:
    try:
        if text.strip().isdecimal():
            raise ValueError
        end = datetime.fromisoformat(text)
        return end.replace(tzinfo=UTC) if end.tzinfo is None else end.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadRequest(
            f"until={text!r:.50}: expected a duration as 90s, 30m, 2h or 7d, or a time as 2026-01-31T12:00:00Z"
        ) from error
