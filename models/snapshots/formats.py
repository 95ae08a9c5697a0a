"""The one reader for snapshots of all formats: safetensors, `.npz`, Parquet and Arrow, told apart by their first bytes.

Every format becomes a `Snapshot`; only safetensors is ever stored. The file's name and suffix are ignored,
and nothing is known of HTTP.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.files import open_regular
from breadcrumbs.models.snapshots import npz, parquet
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.fields import Given, complete
from breadcrumbs.models.snapshots.snapshot import Snapshot, SnapshotError
from breadcrumbs.models.spool import FileTooLarge

LIMIT = 64 * 2**30
"""The default limit of a converted snapshot, in bytes."""

Kind = Literal["safetensors", "npz", "parquet", "arrow"]

_BEGINNINGS: tuple[tuple[bytes, Kind], ...] = (
    (b"PK\3\4", "npz"),
    (b"PK\5\6", "npz"),
    (b"PAR1", "parquet"),
    (b"ARROW1\0\0", "arrow"),
)
_STRANGERS = {
    b"\x93NUMPY": "a single .npy array; put features and labels into one .npz",
    b"\x80": "a pickle, which is never read",
    b"PARE": "an encrypted Parquet file",
    b"\xff\xff\xff\xff": "an Arrow stream; write an Arrow file",
    b"\x89HDF": "HDF5",
    b"\x1f\x8b": "gzip; send the file inside it",
    b"\x28\xb5\x2f\xfd": "zstd; send the file inside it",
}
NONE_GIVEN = Given()


@dataclass(frozen=True, eq=False)
class Opened:
    """A snapshot, the format that it came in, and the changes that conversion made, in words."""

    snapshot: Snapshot
    kind: Kind
    changes: tuple[str, ...] = ()


def kind(path: Path) -> Kind:
    """Tell a file's format by its first bytes.

    Raises:
        SnapshotError: the file is in no supported format.
    """
    with open_regular(path) as file:
        first = file.read(9)
    for beginning, name in _BEGINNINGS:
        if first.startswith(beginning):
            return name
    if first[8:] == b"{":
        return "safetensors"
    what = next((words for beginning, words in _STRANGERS.items() if first.startswith(beginning)), None)
    size = path.stat().st_size
    came = what or (f"{size} bytes that begin {first.hex()}" if size else "0 bytes")
    raise SnapshotError(f"{path.name}: not a snapshot: expected safetensors, .npz, Parquet or Arrow, got {came}")


def open_snapshot(path: Path, given: Given = NONE_GIVEN, limit: int = LIMIT) -> Opened:
    """Read and check a snapshot in any of the formats; its features are mapped from disk.

    Args:
        path: the file.
        given: values for what a file that is not safetensors leaves out.
        limit: bytes that a snapshot which must be converted may take.

    Raises:
        SnapshotError: naming the defect, what was expected and what came.
        FileTooLarge: over `limit`.
        ExtraMissing: Parquet or Arrow, and pyarrow is not installed.
    """
    found = kind(path)
    if found == "safetensors":
        return Opened(snapshots.read(path), found)
    reader = {"npz": npz.read, "parquet": parquet.read_parquet, "arrow": parquet.read_arrow}[found]
    try:
        snapshot, changes = complete(reader(path, limit), given, limit)
    except FileTooLarge as error:
        raise FileTooLarge(f"{path.name}: {error}") from error
    except FormatError as error:
        raise SnapshotError(f"{path.name}: {error}") from error
    snapshots.check(snapshot, path.name)
    return Opened(snapshot, found, (f"{found} to safetensors", *changes))
