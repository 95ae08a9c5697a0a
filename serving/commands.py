"""The operator's commands: heads of a server, what is in a store, who may come in.

Each is a few lines around what does the work. `breadcrumbs.py` hangs them under its own.
"""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from models.errors import BreadcrumbsError
from serving.keys import Scope
from serving.retention import Retention

if TYPE_CHECKING:
    from serving.store import Store
    from serving.upkeep import Verified

LOCAL = "http://127.0.0.1:8000"
Key = Annotated[str | None, Parameter(env_var="BREADCRUMBS_KEY", show_default=False)]
Fields = Parameter(name="*")  # every field is a flag of its own

heads = App(name="heads", help="The heads of a server: list them, activate one, roll back.")
store = App(name="store", help="What a server keeps: is it whole, and what may go.")
keys = App(name="keys", help="Who may come in: make keys, list them, revoke them.")
screen = Console()


@heads.default
def list_heads(*, server: str = LOCAL, key: Key = None) -> None:
    """List the heads of a server, the newest first.

    Args:
        server: where it is.
        key: to come in with.
    """
    from serving.client import Client

    with Client(server, key=key) as client:
        answer = client.heads()
    table = Table("version", "live", "made", "parent", "balanced")
    for record in answer.heads:
        balanced = record.metrics.get("balanced")
        table.add_row(
            str(record.version), "●" if record.version == answer.live else "", record.created,
            str(record.lineage.parent or ""), f"{100 * balanced:.1f}" if balanced is not None else "",
        )  # fmt: skip
    screen.print(table)


@heads.command
def activate(version: int, /, *, server: str = LOCAL, reason: str = "", key: Key = None) -> None:
    """Make a head live.

    Example: `breadcrumbs heads activate 3 --reason "approved by the lab"`

    Args:
        version: the head's number.
        server: where the server is.
        reason: kept in the log.
        key: to come in with.
    """
    from serving.client import Client

    with Client(server, key=key) as client:
        print(client.activate(version, reason).model_dump_json())  # noqa: T201


@heads.command
def diff(old: int, new: int, /, *, server: str = LOCAL, key: Key = None) -> None:
    """Compare two heads: what was measured of each, and where they come from.

    Example: `breadcrumbs heads diff 3 4`

    Args:
        old: one head's number.
        new: the other's.
        server: where the server is.
        key: to come in with.
    """
    from serving.client import Client

    with Client(server, key=key) as client:
        pair = client.head(old), client.head(new)
    table = Table("", f"head {old}", f"head {new}", "change")
    for name in ("many", "medium", "few", "balanced", "accuracy", "ece"):
        values = [one.metrics.get(name) for one in pair]
        if all(isinstance(value, int | float) for value in values):
            first, second = (100 * float(value) for value in values if value is not None)
            table.add_row(f"{name}, %", f"{first:.1f}", f"{second:.1f}", f"{second - first:+.1f}")
    for name, told in (
        ("classes", [str(one.classes) for one in pair]),
        ("made", [one.created for one in pair]),
        ("compared with", [str(one.lineage.parent or "–") for one in pair]),
        ("snapshots", [str(len(one.lineage.snapshots)) for one in pair]),
        ("refit", [one.lineage.refit or "–" for one in pair]),
        ("digest", [one.digest[:12] for one in pair]),
    ):
        table.add_row(name, *told, "")
    screen.print(table)


@heads.command
def rollback(*, server: str = LOCAL, reason: str = "", key: Key = None) -> None:
    """Go back to the head that was live before.

    Example: `breadcrumbs heads rollback --reason "elms are mistaken for oaks"`

    Args:
        server: where the server is.
        reason: kept in the log.
        key: to come in with.
    """
    from serving.client import Client

    with Client(server, key=key) as client:
        print(client.rollback(reason).model_dump_json())  # noqa: T201


@store.command(name="verify")
def verify_store(*, store: str = "store") -> None:
    """Read everything in a store and compare it with its digests; a server may be using it.

    Exit status 2 if something is damaged. Leftovers of a writer that was killed are harmless; `gc` removes them.

    Example: `breadcrumbs store verify --store /var/lib/breadcrumbs`

    Args:
        store: a folder, or s3://, gs:// or az:// with bucket and prefix.
    """
    from serving.upkeep import verify

    found = asyncio.run(verify(_existing(store)))
    for finding in found.findings:
        print(f"{finding.kind}: {finding.name}: {finding.text}")  # noqa: T201
    print(_summed(found))  # noqa: T201
    if not found.sound:
        sys.exit(2)


def _summed(found: "Verified") -> str:
    parts = f"{found.heads} heads, {found.snapshots} snapshots, {found.refits} refits, {found.activations} activations"
    damaged = sum(finding.kind == "damaged" for finding in found.findings)
    return f"{parts}, {found.size} bytes: {f'{damaged} damaged' if damaged else 'sound'}"


@store.command
def gc(*, store: str = "store", dry_run: bool = False, retention: Annotated[Retention | None, Fields] = None) -> None:
    """Remove old heads, snapshots and refits from a store; a server may be using it.

    The live head, `--parents` of its ancestors, the log and what an unfinished refit needs are never removed. Kept
    as long as it is young, or belongs to one of the newest heads: the rest, unless `--max-bytes` is exceeded.

    Example: `breadcrumbs store gc --store /var/lib/breadcrumbs --days 14 --keep-heads 10 --dry-run`

    Args:
        store: a folder, or s3://, gs:// or az:// with bucket and prefix.
        dry_run: only tell what would go.
        retention: what is kept.
    """
    from serving.upkeep import collect

    gone = asyncio.run(collect(_existing(store), retention or Retention(), dry=dry_run))
    for item in gone:
        print(f"{item.name}  {item.size}")  # noqa: T201
    would = "would go" if dry_run else "gone"
    print(f"{len(gone)} objects, {sum(item.size for item in gone)} bytes {would}")  # noqa: T201


def _existing(place: str) -> "Store":
    if "://" not in place and not Path(place).is_dir():
        raise BreadcrumbsError(f"there is no store at {place}")
    from serving.store import Store

    return Store.open(place)


@keys.default
def list_keys(*, file: Path = Path("keys.json")) -> None:
    """List the keys of a file: names and scopes, never the keys.

    Args:
        file: of keys.
    """
    from serving.keys import read

    table = Table("name", "scopes", "made")
    for one in read(file).keys:
        table.add_row(one.name, ", ".join(one.scopes), one.created)
    screen.print(table)


@keys.command(name="add")
def add_key(name: str, /, *, scope: tuple[Scope, ...], file: Path = Path("keys.json")) -> None:
    """Make a key and print it, once: only its SHA-256 is kept. Running servers know it with their next request.

    Scopes: `predict` asks and reads; `refit` also uploads and refits; `promote` makes heads live; `admin` is all.

    Example: `breadcrumbs keys add lab-7 --scope predict --scope refit --file keys.json`

    Args:
        name: whose it is; it stands in the log of what went live.
        scope: what it may do; may be given several times.
        file: of keys; made if missing.
    """
    from serving.keys import add

    print(add(file, name, scope))  # noqa: T201


@keys.command(name="revoke")
def revoke_key(name: str, /, *, file: Path = Path("keys.json")) -> None:
    """Take a key out of a file. Running servers refuse it from their next request on.

    Example: `breadcrumbs keys revoke lab-7`

    Args:
        name: of the key.
        file: of keys.
    """
    from serving.keys import revoke

    revoke(file, name)
