"""From the features of training and test images to a run's folder: head, metrics, report page and bundle.

    nearest class means -> refit's engine -> test -> report -> bundle

The features may be of a backbone that goes into the bundle, or of one that is elsewhere. It knows nothing of backbones
or of where features come from.

Letters: N training rows, M test rows, D feature dimensions, C classes.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models import known
from breadcrumbs.models import refit_report as reports
from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.bundle import Bundle, Manifest
from breadcrumbs.models.files import write_whole
from breadcrumbs.models.groups import Convention, groups
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.adopt.opened import AdoptError
from breadcrumbs.training.config import RefitDevice, RefitSpec
from breadcrumbs.training.data.split import Data, Split
from breadcrumbs.training.inspect.inspect import Findings, inspected
from breadcrumbs.training.inspect.looked import Looked
from breadcrumbs.training.known import unlike
from breadcrumbs.training.metrics import evaluate, intervals
from breadcrumbs.training.refit.completion import Refit
from breadcrumbs.training.refit.refit import refit
from breadcrumbs.training.refit.without_training import logit_adjusted, nearest_class_mean
from breadcrumbs.training.report import run_page
from breadcrumbs.training.report.run_page import Story
from breadcrumbs.training.run import holdout
from breadcrumbs.training.run.snapshots import path_of
from breadcrumbs.training.terminal.bars import step
from breadcrumbs.training.terminal.refit_events import telling

IN_FILES = "What may be wrong with the rows is in the CSV files beside this page; a number names a row of the file."


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """The features of a data set.

    Attributes:
        train: looks at the training images (N, D), the clean one last.
        test: of the test images (M, D).
        epoch: of the first look.
    """

    train: tuple[Floats, ...]
    test: Floats
    epoch: int = 1

    @property
    def newest(self) -> int:
        """The epoch of the clean look."""
        return self.epoch + len(self.train) - 1


@dataclass(frozen=True, eq=False)
class Origin:
    """What made the features, and what the bundle is called.

    Attributes:
        name: of the model.
        architecture: what the backbone is called.
        space: the digest that names the feature space.
        recipe: the settings, for the manifest.
        groups: convention of many / medium / few.
        seed: of the folds.
        preprocess: from image to backbone; None: the backbone is elsewhere, and there are no pictures.
        files: what goes into the bundle besides, the backbone among it, by name.
    """

    name: str
    architecture: str
    space: str
    recipe: Mapping[str, Any]
    groups: Convention
    seed: int
    preprocess: Preprocess | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


def check_out(out: Path) -> None:
    """Refuse a folder whose run would be lost.

    Raises:
        AdoptError: it holds a training run.
    """
    if (out / "checkpoint.pt").exists():
        raise AdoptError(f"{out} contains a training run; choose another folder with --out")


def package(
    origin: Origin, data: Data, looks: FeatureSet, out: Path, spec: RefitSpec | None = None, device: RefitDevice = "cpu"
) -> Bundle:
    """Fit a head to features, and write `out/bundle`, metrics and report beside it.

    Args:
        origin: of the features.
        data: the labels, and the images if there are any.
        looks: the features.
        out: folder of the run; an earlier bundle there is replaced once the new one is whole.
        spec: how the head is chosen; None means the refit's defaults.
        device: where the head is solved.

    Raises:
        RefitError: no head can be fitted.
    """
    spec = (spec or RefitSpec()).model_copy(update={"seed": origin.seed})
    start = _start(out / ".start", origin, data, looks)
    try:
        with telling(as_json=False) as tell:
            made = refit(start, start.head(), (), None, spec, tell, device).complete()
        return _write(start, made, data, looks, origin, out)
    finally:
        shutil.rmtree(start.folder, ignore_errors=True)


def _start(folder: Path, origin: Origin, data: Data, looks: FeatureSet) -> Bundle:
    """A bundle with the nearest class means as its head, from which the refit's engine makes a better one."""

    def look(features: Floats, split: Split, epoch: int) -> Snapshot:
        return Snapshot(features, split.labels, data.classes, origin.space, epoch, ids=split.ids, dataset=split.dataset)

    head = nearest_class_mean(looks.train[-1], data.train.labels, data.classes)
    files = {
        **origin.files,
        **({} if data.taxonomy is None else {bundles.TAXONOMY: data.taxonomy}),
        bundles.HEAD: heads.to_onnx(head),
        bundles.HOLDOUT: snapshots.to_bytes(holdout.drawn(look(looks.test, data.test, looks.newest))),
        **{
            str(path_of(Path("snapshots"), epoch)): snapshots.to_bytes(look(features, data.train, epoch))
            for epoch, features in enumerate(looks.train, looks.epoch)
        },
    }
    manifest = Manifest(
        name=origin.name, architecture=origin.architecture, preprocess=origin.preprocess,
        space=origin.space if origin.preprocess is None else None, feature_dim=head.feature_dim,
        classes=data.classes, train_counts=tuple(data.train_counts.tolist()), groups=origin.groups,
        recipe=dict(origin.recipe),
    )  # fmt: skip
    return bundles.write(folder, manifest, files)


def _write(start: Bundle, made: Refit, data: Data, looks: FeatureSet, origin: Origin, out: Path) -> Bundle:
    """Measure the head on the test images, examine the images, and write report and bundle."""
    test = looks.test
    own = {"balanced": made.head}
    plain = _plain(made)
    if plain is not None:
        own["joint"] = plain
    by_class = groups(data.train_counts.tolist(), origin.groups)
    logits = {name: head.logits(test) for name, head in own.items()}
    metrics: dict[str, Any] = {
        name: evaluate(values, data.test.labels, by_class).as_dict() for name, values in logits.items()
    }
    pictures = origin.preprocess is not None
    story = Story(
        title=f"{origin.name}: {origin.architecture}, frozen", classes=data.classes,
        counts=data.train_counts, groups=by_class, convention=origin.groups, config=origin.recipe,
        history=(), labels=data.test.labels, logits=logits, metrics=dict(metrics), exported="balanced",
        notes=(*data.notes, *made.report.notes, *(() if pictures else (IN_FILES,))), trained=False,
        unlike={} if made.known is None else unlike(made.known, test, data.test.labels, by_class),
        intervals={name: intervals(values, data.test.labels, by_class) for name, values in logits.items()},
    )  # fmt: skip
    findings = _examined(data, looks, made.head, origin.seed)
    findings.write(out / "report")
    pages = run_page.write(out / "report", replace(story, findings=findings.section() if pictures else None))
    metrics |= {"groups": origin.groups, "test_images": len(data.test)}
    kept = [name for name in start.manifest.files if name != bundles.HEAD]
    files = {name: (start.folder / name).read_bytes() for name in kept} | {
        bundles.HEAD: heads.to_onnx(made.head),
        "report/index.html": run_page.page(story, pages),  # without training images: a bundle is passed on
        "report/metrics.json": json.dumps(metrics, indent=1).encode() + b"\n",
        "report/head.json": reports.to_bytes(made.report),
    }
    if made.known is not None:
        files[bundles.KNOWN] = known.to_bytes(made.known, made.head.digest)
    if plain is not None:
        files["joint-head.onnx"] = heads.to_onnx(plain)
    write_whole(out / "metrics.json", files["report/metrics.json"])
    return bundles.write(out / "bundle", start.manifest.model_copy(update={"metrics": metrics}), files)


def _examined(data: Data, looks: FeatureSet, head: LinearHead, seed: int) -> Findings:
    with step("examine the images"):
        train = Looked(looks.train[-1], data.train.labels, data.train)
        return inspected(train, Looked(looks.test, data.test.labels, data.test), head, data.classes, seed)


def _plain(made: Refit) -> LinearHead | None:
    """The plain softmax head on the same features, its offset taken back: what the backbone gives without our help."""
    part = next((part for part in made.report.members if part.member == "plain"), None)
    return None if part is None else logit_adjusted(made.baselines["plain"], made.log_prior, -part.prior_offset)
