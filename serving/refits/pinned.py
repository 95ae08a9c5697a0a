"""The hold-out that a server's operator has pinned: every refit of the server is judged on it, whatever was asked for.

It is a file of the server's machine, read and checked at the start. It knows nothing of how a refit judges.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from breadcrumbs.models import holdout
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.files import sha256
from breadcrumbs.models.snapshots.convert import open_safely
from breadcrumbs.models.snapshots.snapshot import SnapshotError


@dataclass(frozen=True)
class Pinned:
    """A checked hold-out: its file, that file's sha256, its rows and the classes that have some."""

    path: Path
    sha256: str
    rows: int
    classes: int

    def copy(self, target: Path) -> None:
        """Copy the file to a refit's folder, since a refit may run on another machine.

        Raises:
            SnapshotError: it is gone, or has changed since the server started.
        """
        try:
            shutil.copyfile(self.path, target)
            found = sha256(target)
        except OSError as error:
            raise SnapshotError(f"the pinned hold-out {self.path} cannot be read: {error.strerror}") from error
        if found != self.sha256:
            raise SnapshotError(
                f"the pinned hold-out {self.path} has changed since the server started, from sha256 "
                f"{self.sha256[:12]} to {found[:12]}: restart the server to have it checked"
            )


def read(path: Path, bundle: Bundle) -> Pinned:
    """Read and check a hold-out, in any format of a snapshot.

    Raises:
        SnapshotError: it is damaged, of another backbone, or has a row without a label or none of the bundle's classes.
        ExtraMissing, FileTooLarge, OSError: as `open_safely`.
    """
    found, manifest = open_safely(path), bundle.manifest
    holdout.check(found, path.name, bundle.backbone_digest, manifest.feature_dim, manifest.classes)
    return Pinned(path.absolute(), sha256(path), len(found.labels), int((found.counts() > 0).sum()))
