"""The requests about trials; the others are in `calls` and `example_calls`.

It knows nothing of connections or of waiting.
"""

from operator import add

from breadcrumbs.serving.client.call import Call
from breadcrumbs.serving.http.schemas import TrialList
from breadcrumbs.serving.state.pages import MOST
from breadcrumbs.serving.trials.state import TrialState, TrialSummary
from breadcrumbs.serving.trials.trial import TrialSpec


def start_trial(spec: TrialSpec) -> Call[TrialState]:
    """Start a trial of a head beside the live one; never retried, since a second one would be refused."""
    body = spec.model_dump(mode="json", exclude_none=True)
    return Call("POST", "/v1/trials", TrialState.model_validate_json, {"json": body})


def trials() -> Call[list[TrialSummary]]:
    """List all trials, the newest first, however many pages they take."""
    return Call(
        "GET", "/v1/trials", lambda data: TrialList.model_validate_json(data).trials, {"params": {"limit": MOST}},
        repeatable=True, join=add,
    )  # fmt: skip


def trial(number: int) -> Call[TrialState]:
    """Return what a trial has come to, by group and by class."""
    return Call("GET", f"/v1/trials/{number}", TrialState.model_validate_json, repeatable=True)


def end_trial(number: int) -> Call[TrialSummary]:
    """End a trial; one that has ended stays as it is."""
    return Call("DELETE", f"/v1/trials/{number}", TrialSummary.model_validate_json, repeatable=True)
