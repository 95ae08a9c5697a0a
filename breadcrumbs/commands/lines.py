"""`breadcrumbs lines`: named live heads on one backbone. Each command is a few lines around the client."""

from cyclopts import App
from rich.table import Table

from breadcrumbs.commands.server import LOCAL, Key, Server
from breadcrumbs.training.terminal.refit_events import Json, tell_json
from breadcrumbs.training.terminal.tables import show

HELP = """List, create and remove the lines of a server. Without a command, list them.

Example: `breadcrumbs lines --server http://127.0.0.1:8000`"""

lines = App(name="lines", help=HELP)


@lines.default
def list_lines(*, server: Server = LOCAL, json: Json = False, key: Key = None) -> None:
    """List the lines of a server, and what is live in each.

    Example: `breadcrumbs lines --server http://127.0.0.1:8000`

    Args:
        json: Print the answer of `GET /v1/lines`, all pages together.
    """
    from breadcrumbs.serving.client.client import Client

    with Client(server, key=key) as client:
        found = client.lines()
    if json:
        tell_json({"lines": [one.model_dump(mode="json") for one in found]})
        return
    table = Table("line", "head", "classes", "since", "by")
    for one in found:
        done = one.activation
        table.add_row(one.name, str(one.head.version), str(one.classes), done.at, done.actor)
    show(table)


@lines.command(name="create")
def create_line(
    name: str,
    /,
    *,
    head: int | None = None,
    reason: str = "",
    server: Server = LOCAL,
    json: Json = False,
    key: Key = None,
) -> None:
    """Create a line, with a head that is live in it from the beginning.

    Example: `breadcrumbs lines create lab-a --head 1`

    Args:
        name: What requests call it: letters, digits, `.`, `_` and `-`, 60 at most.
        head: Number of the head; default: the one that is live in the default line.
        reason: Reason to record in its activation log.
        json: Print what the server answers.
    """
    from breadcrumbs.serving.client.client import Client

    with Client(server, key=key) as client:
        made = client.create_line(name, head, reason)
    if json:
        tell_json(made.model_dump(mode="json"))
        return
    print(f"line {made.name}: head {made.head.version} is live")  # noqa: T201


@lines.command(name="remove")
def remove_line(name: str, /, *, server: Server = LOCAL, json: Json = False, key: Key = None) -> None:
    """Remove a line. Its heads and its activation log stay in the store.

    Example: `breadcrumbs lines remove lab-a`

    Args:
        name: Of the line.
        json: Print the record in its activation log.
    """
    from breadcrumbs.serving.client.client import Client

    with Client(server, key=key) as client:
        done = client.remove_line(name)
    if json:
        tell_json(done.model_dump(mode="json"))
        return
    print(f"line {name} is removed")  # noqa: T201
