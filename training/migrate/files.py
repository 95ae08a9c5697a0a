"""A migration from files to files: which bundles and pairs are read.

It knows nothing of how rows are mapped (`training.migrate.migrate`).
"""

from pathlib import Path

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import collected_pairs
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.images.decoding import MAX_PIXELS
from breadcrumbs.models.refit_report import RefitReport
from breadcrumbs.models.snapshots.convert import open_safely
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.adopt.config import BackboneConfig
from breadcrumbs.training.adopt.opened import Opened
from breadcrumbs.training.adopt.source import open_source
from breadcrumbs.training.config import RefitDevice, RefitSpec
from breadcrumbs.training.migrate.backbone import backbone_of
from breadcrumbs.training.migrate.migrate import check_apart, migrate
from breadcrumbs.training.migrate.pairs import Pairs, pairs_of_folder, pairs_of_snapshots
from breadcrumbs.training.refit.completion import Tell
from breadcrumbs.training.refit.rows import RefitError


def run(
    old: Path,
    to: str,
    pairs: Path | tuple[Path, Path] | None,
    spec: RefitSpec,
    out: Path,
    tell: Tell = lambda _: None,
    device: RefitDevice = "cpu",
    max_pixels: int = MAX_PIXELS,
    config: BackboneConfig | None = None,
) -> RefitReport:
    """Move the labelled rows of the bundle `old` to another backbone. Returns the report.

    Args:
        old: a bundle's folder.
        to: another bundle's folder, or a backbone as `training.adopt.source` opens it.
        pairs: a folder of images, a server's store with pairs, or two snapshots, by the old backbone and by the new
            one; None means the images that both bundles have rows of.
        spec: of the refit.
        out: folder for the new bundle in `bundle/`, the head and the report.
        tell: hears of stages and progress.
        device: where the refit is solved.
        max_pixels: the largest number of pixels in one image.
        config: how a backbone is opened that is no bundle.

    Raises:
        FormatError: a file is damaged.
        AdoptError, BackboneError: `to` is neither a bundle nor a backbone.
        DataError: the folder of pairs cannot be read.
        RefitError: as `migrate`; or the new bundle would take the place of one that is read.
    """
    for folder in (old, Path(to)):
        if (out / "bundle").resolve() == folder.resolve():
            raise RefitError(f"{out}: the new bundle would replace {folder}; choose another folder with --out")
    before = bundles.read(old)
    after = bundles.read(Path(to)) if Path(to).is_dir() else None
    backbone = open_source(to, config or BackboneConfig()).opened if after is None else backbone_of(after)
    check_apart(before, backbone)
    tell({"event": "stage", "stage": "pairs"})
    both = None if pairs is None else _pairs(before, backbone, pairs, max_pixels)
    rows, notes = ([], []) if after is None else _rows(before, after)
    return migrate(before, backbone, both, out, spec, tell, rows=rows, notes=notes, device=device)


def _pairs(before: Bundle, to: Opened, pairs: Path | tuple[Path, Path], max_pixels: int) -> Pairs:
    digests = (before.backbone_digest, to.digest)
    if isinstance(pairs, Path) and (pairs / collected_pairs.FOLDER).is_dir():
        return _collected(pairs, digests)
    if isinstance(pairs, Path):
        return pairs_of_folder(backbone_of(before), to, pairs, before.manifest.classes, max_pixels)
    first, second = (open_safely(path) for path in pairs)
    return pairs_of_snapshots(first, second, digests)


def _collected(store: Path, digests: tuple[str, str]) -> Pairs:
    """The pairs that a server has collected in its store."""
    try:
        return pairs_of_snapshots(*collected_pairs.read(store, *digests), digests)
    except FileNotFoundError as error:
        raise RefitError(
            f"{store} has no pairs of these two backbones; collect some with `breadcrumbs serve --migrate-to`, or name "
            "a folder of images with --pairs"
        ) from error


def _rows(before: Bundle, after: Bundle) -> tuple[list[Snapshot], list[str]]:
    """The new backbone's own snapshots, where its bundle has the same classes; and what a reader should know."""
    old, new = set(before.manifest.classes), set(after.manifest.classes)
    if old != new:
        return [], [f"only the backbone of {after.manifest.name} is used, since its classes are not the same"]
    own = [one for one in after.snapshots() if one.backbone == after.backbone_digest]
    count = sum(int((one.labels >= 0).sum()) for one in own)
    return own, [f"{count} labelled rows of {after.manifest.name} itself are used, too"] if count else []
