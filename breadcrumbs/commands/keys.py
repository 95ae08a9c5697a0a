"""`breadcrumbs keys`: who may come in. Each command is a few lines around `serving.state.keys`."""

from pathlib import Path

from cyclopts import App
from rich.table import Table

from breadcrumbs.serving.state.keys import KeyScope
from breadcrumbs.training.terminal.refit_events import Json, tell_json
from breadcrumbs.training.terminal.tables import show

HELP = """Create, list and revoke the API keys of a server. Without a command, list the names and scopes in a file.

Example: `breadcrumbs keys --file keys.json`"""

keys = App(name="keys", help=HELP)


@keys.default
def list_keys(*, file: Path = Path("keys.json"), json: Json = False) -> None:
    """List the keys in a file: names and scopes, never the keys themselves.

    Example: `breadcrumbs keys --file keys.json`

    Args:
        file: File of keys.
        json: Print one JSON object.
    """
    from breadcrumbs.serving.state.keys import read

    found = read(file).keys
    if json:
        shown = {"name", "scopes", "created", "max_bytes", "max_jobs", "lines"}
        tell_json({"keys": [one.model_dump(mode="json", include=shown, exclude_none=True) for one in found]})
        return
    table = Table("name", "scopes", "bytes at most", "refits at most", "lines", "made")
    for one in found:
        quota = ("–" if most is None else str(most) for most in (one.max_bytes, one.max_jobs))
        table.add_row(one.name, ", ".join(one.scopes), *quota, ", ".join(one.lines or ("–",)), one.created)
    show(table)


@keys.command(name="add")
def add_key(
    name: str,
    /,
    *,
    scope: tuple[KeyScope, ...],
    max_bytes: int | None = None,
    max_jobs: int | None = None,
    line: tuple[str, ...] = (),
    file: Path = Path("keys.json"),
    json: Json = False,
) -> None:
    """Create a key and print it once: only its SHA-256 is stored. Running servers accept it at once.

    Scopes: `predict` predicts and reads; `refit` also uploads and refits; `promote` makes heads live; `admin` does all.

    Example: `breadcrumbs keys add lab-7 --scope predict --scope refit --max-jobs 2 --file keys.json`

    Args:
        name: Name of the key's owner, as it appears in the activation log; its snapshots and refits belong to it.
        scope: What the key may do; may be repeated.
        max_bytes: Bytes of the snapshots that it has uploaded, at most; absent: no limit.
        max_jobs: Refits of its own that wait or run, at most; absent: no limit.
        line: Line that the key is bound to; may be repeated, and the first one answers what names none; absent: all.
        file: File of keys; created if missing.
        json: Print one JSON object.
    """
    from breadcrumbs.serving.state.keys import add

    secret = add(file, name, scope, max_bytes, max_jobs, line or None)
    if json:
        quota = {"max_bytes": max_bytes, "max_jobs": max_jobs}
        bound = {"lines": list(line)} if line else {}
        given = {limit: most for limit, most in quota.items() if most is not None}
        tell_json({"name": name, "scopes": list(scope), **given, **bound, "key": secret})
        return
    print(secret)  # noqa: T201


@keys.command(name="revoke")
def revoke_key(name: str, /, *, file: Path = Path("keys.json"), json: Json = False) -> None:
    """Remove a key from a file. Running servers refuse it at once.

    Example: `breadcrumbs keys revoke lab-7`

    Args:
        name: Name of the key.
        file: File of keys.
        json: Print one JSON object.
    """
    from breadcrumbs.serving.state.keys import revoke

    revoke(file, name)
    if json:
        tell_json({"name": name, "revoked": True})
        return
    print(f"{name} is revoked")  # noqa: T201
