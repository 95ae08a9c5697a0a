"""`breadcrumbs store`: what a server keeps. Each command is a few lines around `serving.upkeep`."""

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.serving.retention import Retention
from breadcrumbs.training.terminal.bars import bar
from breadcrumbs.training.terminal.refit_events import Json, tell_json

if TYPE_CHECKING:
    from breadcrumbs.serving.state.store import Store
    from breadcrumbs.serving.upkeep import Verified

Fields = Parameter(name="*")  # every field is a flag of its own

HELP = """Verify what a server has stored, and remove what is no longer needed.

Example: `breadcrumbs store verify --store /var/lib/breadcrumbs`"""

store = App(name="store", help=HELP)


@store.command(name="verify")
def verify_store(*, store: str = "store", json: Json = False) -> None:
    """Read everything in a store and check it against its digests, even while a server is using it.

    Exits with status 2 if something is damaged. Leftovers of a killed writer are harmless; `store gc` removes them.

    Example: `breadcrumbs store verify --store /var/lib/breadcrumbs`

    Args:
        store: A folder, or s3://, gs:// or az:// with bucket and prefix.
        json: Print one JSON object: counts, findings, and whether the store is sound.
    """
    from breadcrumbs.serving.upkeep import verify

    with bar("verify") as told:
        found = asyncio.run(verify(_existing(store), told))
    if json:
        tell_json(asdict(found) | {"sound": found.sound})
    else:
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
def gc(
    *,
    store: str = "store",
    dry_run: bool = False,
    json: Json = False,
    retention: Annotated[Retention | None, Fields] = None,
) -> None:
    """Remove old heads, snapshots and refits from a store, even while a server is using it.

    Never removed: the live head, `--parents` of its ancestors, both heads of running trials, the logs, and what an
    unfinished refit needs. What processes counted of a trial is added up an hour after its end.
    Everything else stays while it is younger than `--days` or belongs to one of the newest `--keep-heads` heads,
    unless the store exceeds `--max-bytes`.

    Example: `breadcrumbs store gc --store /var/lib/breadcrumbs --days 14 --keep-heads 10 --dry-run`

    Args:
        store: A folder, or s3://, gs:// or az:// with bucket and prefix.
        dry_run: Only list what would be removed.
        json: Print one JSON object: what was removed, and its size.
        retention: What is kept.
    """
    from breadcrumbs.serving.upkeep import collect

    with bar("gc") as told:
        gone = asyncio.run(collect(_existing(store), retention or Retention(), dry=dry_run, told=told))
    size = sum(item.size for item in gone)
    if json:
        removed = [{"name": item.name, "size": item.size} for item in gone]
        tell_json({"removed": removed, "bytes": size, "dry_run": dry_run})
        return
    for item in gone:
        print(f"{item.name}  {item.size}")  # noqa: T201
    print(f"{len(gone)} objects, {size} bytes {'would go' if dry_run else 'gone'}")  # noqa: T201


def _existing(place: str) -> "Store":
    if "://" not in place and not Path(place).is_dir():
        raise BreadcrumbsError(f"there is no store at {place}; pass the server's as --store")
    from breadcrumbs.serving.state.store import Store

    return Store.open(place)
