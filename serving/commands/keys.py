"""`breadcrumbs keys`: who may come in. Each command is a few lines around `serving.keys`."""

from pathlib import Path

from cyclopts import App
from rich.console import Console
from rich.table import Table

from serving.keys import Scope
from training.progress import tell_json

keys = App(name="keys", help="Who may come in: make keys, list them, revoke them.")
screen = Console()


@keys.default
def list_keys(*, file: Path = Path("keys.json"), json: bool = False) -> None:
    """List the keys of a file: names and scopes, never the keys.

    Example: `breadcrumbs keys --file keys.json`

    Args:
        file: of keys.
        json: print one JSON object.
    """
    from serving.keys import read

    found = read(file).keys
    if json:
        tell_json({"keys": [{"name": one.name, "scopes": list(one.scopes), "created": one.created} for one in found]})
        return
    table = Table("name", "scopes", "made")
    for one in found:
        table.add_row(one.name, ", ".join(one.scopes), one.created)
    screen.print(table)


@keys.command(name="add")
def add_key(name: str, /, *, scope: tuple[Scope, ...], file: Path = Path("keys.json"), json: bool = False) -> None:
    """Make a key and print it, once: only its SHA-256 is kept. Running servers know it with their next request.

    Scopes: `predict` asks and reads; `refit` also uploads and refits; `promote` makes heads live; `admin` is all.

    Example: `breadcrumbs keys add lab-7 --scope predict --scope refit --file keys.json`

    Args:
        name: whose it is; it stands in the log of what went live.
        scope: what it may do; may be given several times.
        file: of keys; made if missing.
        json: print one JSON object.
    """
    from serving.keys import add

    secret = add(file, name, scope)
    if json:
        tell_json({"name": name, "scopes": list(scope), "key": secret})
        return
    print(secret)  # noqa: T201


@keys.command(name="revoke")
def revoke_key(name: str, /, *, file: Path = Path("keys.json"), json: bool = False) -> None:
    """Take a key out of a file. Running servers refuse it from their next request on.

    Example: `breadcrumbs keys revoke lab-7`

    Args:
        name: of the key.
        file: of keys.
        json: print one JSON object.
    """
    from serving.keys import revoke

    revoke(file, name)
    if json:
        tell_json({"name": name, "revoked": True})
        return
    print(f"{name} is revoked")  # noqa: T201
