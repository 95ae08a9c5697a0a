"""`breadcrumbs heads`: the heads of a server. Each command is a few lines around the client."""

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from rich.table import Table

from breadcrumbs.commands.server import LOCAL, Key, Line, Server
from breadcrumbs.models.printable import escaped
from breadcrumbs.training.terminal.refit_events import Json, tell_json
from breadcrumbs.training.terminal.tables import show

if TYPE_CHECKING:
    from breadcrumbs.serving.client.client import Client
    from breadcrumbs.serving.state.activation_log import Activation
    from breadcrumbs.serving.state.heads import HeadRecord

Reason = Annotated[str, Parameter(help="Reason to record in the activation log.")]
ExpectedLive = Annotated[int | None, Parameter(help="Refuse unless this head is live now.")]
Metrics = dict[str, Any]
MEASURES = ("many", "medium", "few", "balanced", "all", "ece")

HELP = """List, compare, activate and roll back the heads of a server. Without a command, list them, the newest first.

Example: `breadcrumbs heads --server http://127.0.0.1:8000`"""

heads = App(name="heads", help=HELP)


@heads.default
def list_heads(*, server: Server = LOCAL, line: Line = None, json: Json = False, key: Key = None) -> None:
    """List the heads of a server, the newest first.

    Example: `breadcrumbs heads --server http://127.0.0.1:8000`

    Args:
        json: Print the answer of `GET /v1/heads`.
    """
    from breadcrumbs.serving.client.client import Client

    with Client(server, key=key) as client:
        answer = client.heads(line)
    if json:
        tell_json(answer.model_dump(mode="json"))
        return
    table = Table("version", "live", "made", "parent", "balanced")
    for record in answer.heads:
        balanced = record.metrics.get("balanced")
        table.add_row(
            str(record.version), "●" if record.version == answer.live else "", record.created,
            str(record.lineage.parent or ""), f"{100 * balanced:.1f}" if balanced is not None else "",
        )  # fmt: skip
    show(table)


@heads.command
def activate(
    version: int,
    /,
    *,
    server: Server = LOCAL,
    reason: Reason = "",
    expected_live: ExpectedLive = None,
    line: Line = None,
    bake: str | None = None,
    json: Json = False,
    key: Key = None,
) -> None:
    """Make a head live.

    Example: `breadcrumbs heads activate 3 --reason "approved by the lab"`

    Args:
        version: Number of the head.
        bake: Watch it for so long, as 2h or 7d: when verified labels show that it is worse, the head before it is live
            again.
        json: Print the record in the activation log.
    """
    from breadcrumbs.serving.client.client import Client

    with Client(server, key=key) as client:
        _print_change(client.activate(version, reason, expected_live, bake, line=line), json)


@heads.command
def rollback(
    *,
    server: Server = LOCAL,
    reason: Reason = "",
    expected_live: ExpectedLive = None,
    line: Line = None,
    json: Json = False,
    key: Key = None,
) -> None:
    """Go back to the head that was live before.

    Example: `breadcrumbs heads rollback --reason "boots mistaken for sneakers"`

    Args:
        json: Print the record in the activation log.
    """
    from breadcrumbs.serving.client.client import Client

    with Client(server, key=key) as client:
        _print_change(client.rollback(reason, expected_live, line), json)


def _print_change(done: "Activation", as_json: bool) -> None:
    if as_json:
        tell_json(done.model_dump(mode="json"))
        return
    why = f": {done.reason}" if done.reason else ""
    print(escaped(f"head {done.head} is live ({done.kind} {done.number}, by {done.actor}{why})"))  # noqa: T201


@heads.command
def diff(old: int, new: int, /, *, server: Server = LOCAL, json: Json = False, key: Key = None) -> None:
    """Compare two heads: their metrics, and where each comes from.

    Example: `breadcrumbs heads diff 3 4`

    Args:
        old: Number of one head.
        new: Number of the other.
        json: Print both records and the change in each metric.
    """
    from breadcrumbs.serving.client.client import Client

    with Client(server, key=key) as client:
        first, second = client.head(old), client.head(new)
        together = compared(client, first, second)
    changes = _changes(*(together or (first.metrics, second.metrics)))
    if json:
        both = {"old": first.model_dump(mode="json"), "new": second.model_dump(mode="json")}
        change = {name: after - before for name, (before, after) in changes.items()}
        tell_json(both | {"same_rows": together is not None, "change": change})
        return
    rows = "measured on the same rows" if together else "each measured on rows of its own: compare with care"
    table = Table("", f"head {old}", f"head {new}", "change", caption=rows)
    for column in table.columns:
        column.overflow = "fold"
    for name, (before, after) in changes.items():
        table.add_row(f"{name}, %", f"{100 * before:.1f}", f"{100 * after:.1f}", f"{100 * (after - before):+.1f}")
    for name, told in _origins(first, second).items():
        table.add_row(name, *told, "")
    show(table)


def compared(client: "Client", first: "HeadRecord", second: "HeadRecord") -> tuple[Metrics, Metrics] | None:
    """What was measured of both heads on the same rows, if they ever were compared."""
    for parent, child in ((first, second), (second, first)):
        if child.lineage.parent == parent.version and child.lineage.refit is not None:
            report = _report(client, child.lineage.refit)
            if report is not None:
                found = {parent.version: report["live"], child.version: report["candidate"]}
                return found[first.version], found[second.version]
    if first.lineage.holdout is not None and first.lineage.holdout == second.lineage.holdout:
        return first.metrics, second.metrics
    return None


def _report(client: "Client", refit: str) -> dict[str, Any] | None:
    """A refit's report; none if the store no longer has it."""
    from breadcrumbs.serving.client.client import ServerError

    try:
        return client.job(refit).report
    except ServerError as error:
        if error.status != 404:
            raise
        return None


def _changes(first: Metrics, second: Metrics) -> dict[str, tuple[float, float]]:
    """What was measured of both heads, by name."""
    found: dict[str, tuple[float, float]] = {}
    for name in MEASURES:
        before, after = (one.get(name) for one in (first, second))
        if isinstance(before, int | float) and isinstance(after, int | float):
            found[name] = (float(before), float(after))
    return found


def _origins(*heads: "HeadRecord") -> dict[str, list[str]]:
    told: dict[str, Any] = {
        "classes": [one.classes for one in heads],
        "made": [one.created for one in heads],
        "compared with": [one.lineage.parent or "–" for one in heads],
        "snapshots": [len(one.lineage.snapshots) for one in heads],
        "refit": [one.lineage.refit or "–" for one in heads],
        "digest": [one.digest[:12] for one in heads],
    }
    return {name: [str(value) for value in values] for name, values in told.items()}
