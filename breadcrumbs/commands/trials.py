"""`breadcrumbs trials`: heads on trial beside the live one. Each command is a few lines around the client."""

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from rich.table import Table

from breadcrumbs.commands.server import LOCAL, Key, Server
from breadcrumbs.training.terminal.refit_events import Json, tell_json
from breadcrumbs.training.terminal.tables import show

if TYPE_CHECKING:
    from breadcrumbs.serving.trials.state import TrialState, TrialSummary

HELP = """List, start, show and end trials of heads on a server. Without a command, list them, the newest first.

Example: `breadcrumbs trials --server http://127.0.0.1:8000`"""

trials = App(name="trials", help=HELP)

Share = Annotated[float | None, Parameter(help="Share of the requests that a canary answers.")]
Rule = float | None


@trials.default
def list_trials(*, server: Server = LOCAL, json: Json = False, key: Key = None) -> None:
    """List the trials of a server, the newest first.

    Example: `breadcrumbs trials --server http://127.0.0.1:8000`

    Args:
        json: Print the records of start and end.
    """
    from breadcrumbs.serving.client.client import Client

    with Client(server, key=key) as client:
        found = client.trials()
    if json:
        tell_json({"trials": [one.model_dump(mode="json") for one in found]})
        return
    table = Table("trial", "mode", "head", "against", "until", "end", "reason")
    for one in found:
        start = one.start
        table.add_row(
            str(start.number), start.mode, str(start.head), str(start.against), start.until, _ending(one),
            start.reason if one.end is None else one.end.reason,
        )  # fmt: skip
    show(table)


def _ending(one: "TrialSummary") -> str:
    return "runs" if one.end is None else one.end.outcome


@trials.command(name="start")
def start_trial(
    head: int,
    /,
    *,
    mode: Literal["shadow", "canary"] = "shadow",
    share: Share = None,
    by: Literal["key", "ref", "random"] = "random",
    until: str = "7d",
    worse: Rule = None,
    disagreement: Rule = None,
    errors: Rule = None,
    unknown: Rule = None,
    margin: Rule = None,
    reason: str = "",
    server: Server = LOCAL,
    json: Json = False,
    key: Key = None,
) -> None:
    """Start a trial of a head beside the live one.

    Example: `breadcrumbs trials start 3 --disagreement 0.3 --until 2h`

    Args:
        head: Number of the head.
        mode: `shadow` only counts; `canary` also answers a share of the requests.
        by: How these requests are chosen.
        until: How long it takes, as 90s, 30m, 2h or 7d, or a time as 2026-01-31T12:00:00Z.
        worse: Stop it when verified labels show at this level that the head is worse.
        disagreement: Stop it when the heads disagree on more than this share of the answers.
        errors: Stop it when the head fails on more than this share of the answers.
        unknown: Stop it when the share of answers that the head does not know is larger by more than this.
        margin: Make the head live when labels show that its recall is not lower by this much.
        reason: Reason to record in the log of trials.
        json: Print what the server answers.
    """
    from breadcrumbs.serving.client.client import Client
    from breadcrumbs.serving.state.stop_rules import StopIf
    from breadcrumbs.serving.trials.trial import TrialSpec

    rules = StopIf(worse=worse, disagreement=disagreement, errors=errors, unknown=unknown)
    spec = TrialSpec(head=head, mode=mode, share=share, by=by, until=until, stop_if=rules, margin=margin, reason=reason)
    with Client(server, key=key) as client:
        _tell(client.start_trial(spec), json)


@trials.command(name="show")
def show_trial(number: int, /, *, server: Server = LOCAL, json: Json = False, key: Key = None) -> None:
    """Show what a trial has come to.

    Example: `breadcrumbs trials show 1`

    Args:
        number: Number of the trial.
        json: Print what the server answers.
    """
    from breadcrumbs.serving.client.client import Client

    with Client(server, key=key) as client:
        _tell(client.trial(number), json)


@trials.command(name="end")
def end_trial(number: int, /, *, server: Server = LOCAL, json: Json = False, key: Key = None) -> None:
    """End a trial. The end of a bake leaves its head live.

    Example: `breadcrumbs trials end 1`

    Args:
        number: Number of the trial.
        json: Print the records of start and end.
    """
    from breadcrumbs.serving.client.client import Client

    with Client(server, key=key) as client:
        done = client.end_trial(number)
    if json:
        tell_json(done.model_dump(mode="json"))
        return
    print(f"trial {number}: {_ending(done)}")  # noqa: T201


def _tell(found: "TrialState", as_json: bool) -> None:
    if as_json:
        tell_json(found.model_dump(mode="json"))
        return
    start = found.start
    told = f"trial {start.number}: {start.mode} of head {start.head} against head {start.against}, {_ending(found)}"
    table = Table("group", "answers", "disagreed", "labels", "recall", "against", "gained", title=told)
    for group, one in found.groups.items():
        gained = "" if one.low is None or one.high is None else f"{100 * one.low:+.1f} … {100 * one.high:+.1f}"
        recalls = [_percent(one.recall), _percent(one.recall_against)]
        table.add_row(group, str(one.compared), str(one.disagreed), str(one.labels), *recalls, gained)
    show(table)
    for note in found.notes:
        print(note)  # noqa: T201


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"
