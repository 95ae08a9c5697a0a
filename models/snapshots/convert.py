"""A snapshot in any of the formats → safetensors, in a child process with a memory limit.

    python -P -m models.snapshots.convert SOURCE TARGET LIMIT GIVEN

The server starts it for what strangers upload, and `breadcrumbs convert` for what its user has (`in_child`), since a
file may lie about what reading it takes (`untrusted`). It prints one JSON object: `converted` with what was changed,
or `refused` with the error's type and message.
"""

import json
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.files import open_regular
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots import untrusted
from breadcrumbs.models.snapshots.fields import Given
from breadcrumbs.models.snapshots.formats import LIMIT, NONE_GIVEN, Opened, kind, open_snapshot
from breadcrumbs.models.snapshots.parquet import ExtraMissing
from breadcrumbs.models.snapshots.snapshot import Snapshot, SnapshotError
from breadcrumbs.models.spool import FileTooLarge

COMMAND = (sys.executable, "-P", "-m", "breadcrumbs.models.snapshots.convert")
SECONDS = 3600.0
"""Limit for converting a local file."""
REFUSALS: dict[str, type[BreadcrumbsError]] = {
    error.__name__: error for error in (SnapshotError, FileTooLarge, ExtraMissing)
}
"""The errors that the child may report, by name."""


@dataclass(frozen=True)
class Converted:
    """What is in a snapshot that was converted, and the changes that conversion made, in words."""

    rows: int
    classes: int
    epoch: int
    changes: tuple[str, ...]


def in_child(source: Path, target: Path, given: Given, limit: int, seconds: float = SECONDS) -> Converted:
    """Run this module as a process, and leave `target` whole or as it was.

    Raises:
        BreadcrumbsError: as `open_snapshot` raises; also SnapshotError if the child crashed or timed out.
        OSError: a file cannot be read or written.
    """
    open_regular(source).close()  # raise for a missing file as everywhere else
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    fresh.touch()
    line = [*COMMAND, str(source.absolute()), str(fresh.absolute()), str(limit), json.dumps(asdict(given))]
    try:
        done = subprocess.run(line, capture_output=True, check=False, timeout=seconds, cwd="/")
        converted = _heard(source, done)
        fresh.replace(target)
    except subprocess.TimeoutExpired as error:
        raise SnapshotError(f"{source.name}: reading it took longer than {seconds:g} s") from error
    finally:
        fresh.unlink(missing_ok=True)
    return converted


def open_safely(path: Path, given: Given = NONE_GIVEN) -> Snapshot:
    """Open a snapshot in any format, as `open_snapshot` does; all but safetensors is read in a child process.

    Args:
        path: the file.
        given: values for what a file that is not safetensors leaves out.

    Raises:
        BreadcrumbsError, OSError: as `in_child`.
    """
    if kind(path) == "safetensors":
        return snapshots.read(path)
    with tempfile.TemporaryDirectory(prefix="breadcrumbs-") as folder:
        made = Path(folder, "snapshot.safetensors")
        in_child(path, made, given, LIMIT)
        return snapshots.read(made)  # mapped, so it stays readable after the folder is deleted


def _heard(source: Path, done: "subprocess.CompletedProcess[bytes]") -> Converted:
    try:
        told = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        told = {}
    if done.returncode == 0 and told.get("event") == "converted":
        return Converted(told["rows"], told["classes"], told["epoch"], tuple(told["changes"]))
    if told.get("event") == "refused":
        raise REFUSALS.get(told["type"], SnapshotError)(told["message"])
    code = done.returncode
    words = done.stderr.decode(errors="replace").strip().splitlines()
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}: {words[-1] if words else ''}"
    raise SnapshotError(
        f"{source.name}: the file is damaged: expected a snapshot, but its reader ended {how:.300}; make the file anew"
    )


def convert(source: Path, target: Path, given: Given, limit: int) -> Opened:
    """Write the snapshot in `source` to `target` as safetensors; raises as `open_snapshot` does."""
    opened = open_snapshot(source, given, limit)
    snapshots.save(target, opened.snapshot)
    return opened


def main(source: str, target: str, limit: str, given: str) -> None:
    """Convert within the memory limit and print the result."""
    words: dict[str, Any] = json.loads(given)
    said = Given(**words | {"classes": tuple(words["classes"]) if words.get("classes") else None})

    def work() -> dict[str, Any]:
        opened = convert(Path(source), Path(target), said, int(limit))
        made = opened.snapshot
        counts = {"rows": len(made.labels), "classes": len(made.classes), "epoch": made.epoch}
        return {"event": "converted", "changes": opened.changes, **counts}

    untrusted.report(work, Path(source))


if __name__ == "__main__":
    main(*sys.argv[1:])
