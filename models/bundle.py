"""A bundle: the folder that training writes and the server serves.

    manifest.json      what it is, and the sha256 of every other file
    backbone.onnx      `image` uint8 (N, H, W, 3) -> `feature` f32 (N, D); normalisation inside; none in a bundle that
                       was made from features, whose manifest names their space instead
    backbone-half.onnx the same in half precision, where it was asked for and loses no recall
    int8/              a whole bundle whose `backbone.onnx` is this one in int8, where that is worth its cost: a feature
                       space of its own, with its own rows; of its files `manifest.json` here lists `manifest.json`
    head.onnx          the balanced head: `feature` (N, D) -> `logits` (N, C)
    joint-head.onnx    the head that trained the backbone, for comparison
    named-head.onnx    what the names of the classes say, by the backbone's text tower; refits start from it
    samples/           test images to try it with, `<class index>-<n>.png`
    snapshots/         the newest snapshot, made with this backbone, and the crumbs that balance the tail
    holdout.safetensors test images' features, that nothing is fitted or chosen on, to judge refits by; if there are any
    known.safetensors  by what the head tells how well a feature is known, where there are rows enough
    taxonomy.csv       the groups that each class belongs to, if they are known
    report/            metrics and pictures

A refit leaves the same folder with another head in it. It knows nothing of how the parts are made or run.
"""

import re
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from breadcrumbs.models import head as heads
from breadcrumbs.models import holdout as holdouts
from breadcrumbs.models import known as knowns
from breadcrumbs.models import printable
from breadcrumbs.models import taxonomy as taxonomies
from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.files import read_regular, sha256, write_whole
from breadcrumbs.models.head import HeadError, LinearHead, check_classes
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.models.known import Known
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.models.taxonomy import Taxonomy

FORMAT: Literal["breadcrumbs.bundle/2"] = "breadcrumbs.bundle/2"
HOLDOUT = "holdout.safetensors"
TAXONOMY = "taxonomy.csv"
KNOWN = knowns.FILE
BACKBONE, HALF = "backbone.onnx", "backbone-half.onnx"
HEAD, NAMED = "head.onnx", "named-head.onnx"
INT8 = "int8/manifest.json"
Precision = Literal["full", "half", "int8"]


class BundleError(FormatError):
    """A bundle with a missing, damaged or mismatched part."""


class Lineage(BaseModel):
    """Where a head that a refit made comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parent: str = Field(description="sha256 of the parent's manifest.json")
    live: str = Field(description="digest of the head that it was compared with")
    snapshots: tuple[str, ...] = Field(description="sha256 of each uploaded snapshot")
    holdout: str | None = Field(description="sha256 of the hold-out snapshot, where one was named")
    spec: dict[str, Any] = Field(description="the settings of the refit")


def now() -> str:
    """The time now, in the manifest's format."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Manifest(BaseModel):
    """The content of `manifest.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["breadcrumbs.bundle/1", "breadcrumbs.bundle/2"] = FORMAT
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    architecture: str
    preprocess: Preprocess | None = Field(default=None, description="from image to backbone; absent with a `space`")
    space: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{64}$", description="name of the feature space, in a bundle without a backbone"
    )
    feature_dim: int = Field(gt=0)
    classes: tuple[str, ...] = Field(min_length=2)
    train_counts: tuple[int, ...] = Field(description="training images of each class")
    groups: Literal["A", "B"] = Field(default="A", description="convention of many / medium / few")
    metrics: dict[str, Any] = {}
    recipe: dict[str, Any] = {}
    created: str = Field(default_factory=now)
    lineage: Lineage | None = Field(default=None, description="where the head comes from, if a refit made it")
    files: dict[str, str] = Field(default={}, description="sha256 of every file, by its path in the bundle")

    @model_validator(mode="after")
    def _fit(self) -> "Manifest":
        if len(self.train_counts) != len(self.classes):
            raise ValueError(f"{len(self.classes)} classes but {len(self.train_counts)} train_counts")
        try:
            check_classes(self.classes)
        except HeadError as error:
            raise ValueError(str(error)) from error
        if why := printable.defect(self.architecture):
            raise ValueError(f"architecture {self.architecture!r:.80} {why}")
        if self.preprocess is None and self.space is None:
            raise ValueError("preprocess: Field required, or space in a bundle without a backbone")
        if self.preprocess is not None and self.space is not None:
            raise ValueError("preprocess and space are both given; expected space only in a bundle without a backbone")
        return self

    @property
    def required(self) -> tuple[str, ...]:
        """The files that must be there."""
        return (BACKBONE, HEAD) if self.space is None else (HEAD,)


class Bundle:
    """An opened bundle: every file is present and has the digest in the manifest."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @property
    def backbone_digest(self) -> str:
        """The name of this feature space: the sha256 of `backbone.onnx`, or what the manifest says instead."""
        return self.manifest.space or self.manifest.files[BACKBONE]

    @property
    def preprocess(self) -> Preprocess:
        """How an image reaches the backbone.

        Raises:
            BundleError: there is no backbone.
        """
        self.check_backbone()
        return cast(Preprocess, self.manifest.preprocess)

    def check_backbone(self) -> None:
        """Refuse a bundle that takes no images.

        Raises:
            BundleError: it was made from features.
        """
        if self.manifest.space is not None:
            raise BundleError(
                f"{self.folder} has no backbone and takes no images: it was made from features of "
                f"{self.manifest.architecture}; send features to a server of it, measure it with `breadcrumbs evaluate "
                "--features`, or make a bundle for images with "
                "`breadcrumbs adopt BACKBONE --data photos`"
            )

    def has(self, precision: Precision) -> bool:
        """Whether there is a backbone of this precision."""
        return {"full": BACKBONE, "half": HALF, "int8": INT8}[precision] in self.manifest.files

    def of(self, precision: Precision) -> "Bundle":
        """The bundle whose features those of a precision are: the one in `int8/`, opened and verified, or this one.

        Raises:
            BundleError: there is none, or it is damaged, or of other classes or images.
        """
        if precision != "int8":
            return self
        self.check_backbone()
        if not self.has("int8"):
            raise BundleError(
                f"{self.folder} has no int8 backbone; `breadcrumbs export RUN --int8` makes one, where it is fast "
                "enough and costs little recall"
            )
        found = read(self.folder / "int8")
        for name in ("classes", "feature_dim", "preprocess"):
            if getattr(found.manifest, name) != getattr(self.manifest, name):
                raise BundleError(f"{found.folder}: its {name} differ from those of {self.folder}; expected the same")
        _ = found.taxonomy  # read and checked before it is needed
        return found

    def backbone(self, precision: Precision = "full") -> bytes:
        """The bytes of the backbone's file; raises as `backbone_path`."""
        return read_regular(self.backbone_path(precision))

    def backbone_path(self, precision: Precision = "full") -> Path:
        """The place of the backbone's file of a precision, known to name no other file.

        Raises:
            BundleError: there is no backbone, or none of this precision.
            FormatError: it names another file.
        """
        if precision == "int8":
            return self.of("int8").backbone_path()
        self.check_backbone()
        name = BACKBONE if precision == "full" else HALF
        if name not in self.manifest.files:
            raise BundleError(f"{self.folder} has no {name}; `breadcrumbs export RUN --half` makes one")
        heads.parse_onnx(read_regular(self.folder / name))
        return self.folder / name

    def head(self) -> LinearHead:
        """The balanced head."""
        return self._head(HEAD)

    def joint_head(self) -> LinearHead | None:
        """The joint head, if the bundle has one."""
        return self._head("joint-head.onnx") if "joint-head.onnx" in self.manifest.files else None

    def named_head(self) -> LinearHead | None:
        """The head that the classes' names alone give, if the bundle has one; a zero row: of a class, nothing."""
        return self._head(NAMED) if NAMED in self.manifest.files else None

    def known(self) -> Known | None:
        """By what the head tells how well a feature is known, if the bundle has it.

        Raises:
            KnownError: it is damaged, or of another head.
        """
        if KNOWN not in self.manifest.files:
            return None
        return knowns.from_bytes(read_regular(self.folder / KNOWN), self.head().digest, self.manifest.feature_dim)

    def _head(self, name: str) -> LinearHead:
        head = heads.from_onnx(read_regular(self.folder / name))
        if head.classes != self.manifest.classes or head.feature_dim != self.manifest.feature_dim:
            raise BundleError(
                f"{name} has {len(head.classes)} classes of {head.feature_dim} features; the manifest says "
                f"{len(self.manifest.classes)} of {self.manifest.feature_dim}, in its own order"
            )
        return head

    def samples(self) -> dict[str, int]:
        """The sample images: file names in `samples/`, each with the index of its class."""
        found = {}
        for name in self.manifest.files:
            match = re.fullmatch(r"samples/((\d{1,6})-\d{1,6}\.png)", name)
            if match and int(match[2]) < len(self.manifest.classes):
                found[match[1]] = int(match[2])
        return found

    def snapshots(self) -> list[Snapshot]:
        """The stored snapshots, the newest first; the features are mapped, not read."""
        paths = [self.folder / name for name in self.manifest.files if name.startswith("snapshots/")]
        return sorted((snapshots.read(path) for path in paths), key=lambda s: -s.epoch)

    def holdout(self) -> Snapshot | None:
        """The hold-out, if the bundle has one; the features are mapped, not read.

        Its classes are the bundle's, or were those of a bundle that this one was refitted from.

        Raises:
            SnapshotError: it is damaged, or not of this backbone.
            BundleError: it has a class that the bundle has not.
        """
        if HOLDOUT not in self.manifest.files:
            return None
        found = snapshots.read(self.folder / HOLDOUT)
        manifest = self.manifest
        holdouts.check(found, HOLDOUT, self.backbone_digest, manifest.feature_dim, manifest.classes)
        strange = sorted(set(found.classes) - set(manifest.classes))
        if strange:
            raise BundleError(f"{HOLDOUT}: {len(strange)} classes that the bundle has not, first {strange[0]!r:.80}")
        return found

    @cached_property
    def taxonomy(self) -> Taxonomy | None:
        """The taxonomy, if the bundle has one; a class that a refit added may have no place in it.

        Raises:
            TaxonomyError: it is damaged.
        """
        if TAXONOMY not in self.manifest.files:
            return None
        return taxonomies.parse(read_regular(self.folder / TAXONOMY))


def read(folder: Path) -> Bundle:
    """Open a bundle and verify every file in it.

    Raises:
        BundleError: naming the file, what was expected and what came.
    """
    try:
        text = read_regular(folder / "manifest.json")
    except OSError as error:
        raise BundleError(f"no bundle at {folder}: cannot read manifest.json ({error.strerror})") from error
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"{part}: " for part in (".".join(str(part) for part in first["loc"]),) if part)
        raise BundleError(f"{folder}/manifest.json: {place}{first['msg'].removeprefix('Value error, ')}") from error
    for name in manifest.required:
        if name not in manifest.files:
            raise BundleError(f"{folder}: manifest.json lists no {name}")
    if manifest.space is not None and BACKBONE in manifest.files:
        raise BundleError(f"{folder}: manifest.json lists {BACKBONE} and names another space; expected one of both")
    for name, digest in manifest.files.items():
        _verify(folder, name, digest)
    return Bundle(folder, manifest)


def _check_name(folder: Path, name: str) -> None:
    if not re.fullmatch(r"([a-z0-9-]+/)?[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise BundleError(f"{folder}: manifest.json names {name!r:.80}, which is not a path inside a bundle")


def _verify(folder: Path, name: str, digest: str) -> None:
    _check_name(folder, name)
    try:
        found = sha256(folder / name)
    except OSError as error:
        raise BundleError(f"{folder}: cannot read {name} ({error.strerror})") from error
    if found != digest:
        raise BundleError(f"{folder}: {name} is damaged: expected sha256 {digest}, got {found}")


def write(folder: Path, manifest: Manifest, files: Mapping[str, bytes], int8: Bundle | None = None) -> Bundle:
    """Write a bundle to a temporary folder, verify it, then move it into place; an older one is replaced.

    Args:
        folder: its final place.
        manifest: everything but `files`, which is filled in here.
        files: the bytes of each file, by its path in the bundle.
        int8: the bundle of its int8 backbone, which is copied; None: there is none.

    Raises:
        BundleError: the parts do not fit together.
    """
    for name in files:
        _check_name(folder, name)
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        complete = _fill(fresh, manifest, files, int8)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    stale = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(stale, ignore_errors=True)
    if folder.exists():
        folder.rename(stale)
    fresh.rename(folder)
    shutil.rmtree(stale, ignore_errors=True)
    return Bundle(folder, complete)


def _fill(folder: Path, manifest: Manifest, files: Mapping[str, bytes], int8: Bundle | None) -> Manifest:
    """Write a bundle's files and its manifest, and read them back."""
    for name, data in files.items():
        write_whole(folder / name, data)
    if int8 is not None:
        shutil.copytree(int8.folder, folder / "int8")
    names = [*files, *([] if int8 is None else [INT8])]
    digests = {name: sha256(folder / name) for name in sorted(names)}
    complete = manifest.model_copy(update={"files": digests})
    write_whole(folder / "manifest.json", complete.model_dump_json(indent=1).encode() + b"\n")
    written = read(folder)
    written.head()
    written.named_head()
    written.holdout()
    written.known()
    _ = written.taxonomy
    return complete
