"""From a backbone that is there already, and images, to a bundle: nothing is trained but the head.

    open -> images -> features once -> head by the refit's engine -> test -> report -> bundle

It knows nothing of what a backbone may be (`source`) or of how a head is chosen (`training.refit`).

Letters: N images, D feature dimensions, C classes.
"""

import json
import logging
import shutil
import statistics
import time
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models import refit_report as reports
from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.bundle import Bundle, Manifest
from breadcrumbs.models.files import write_whole
from breadcrumbs.models.groups import groups
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.adopt.config import AdoptConfig
from breadcrumbs.training.adopt.features import Extractor
from breadcrumbs.training.adopt.onnx_graph import operators
from breadcrumbs.training.adopt.opened import AdoptError, Opened
from breadcrumbs.training.adopt.source import Source, open_source
from breadcrumbs.training.config import EMBEDDED, STANDARD, RefitDevice, RefitSpec, TrainConfig
from breadcrumbs.training.data.dataset import Data, Split, load
from breadcrumbs.training.data.sources import check_place
from breadcrumbs.training.export import open_session
from breadcrumbs.training.inspect.inspect import inspected
from breadcrumbs.training.inspect.looked import Looked
from breadcrumbs.training.metrics import evaluate, intervals
from breadcrumbs.training.refit.refit import Refit, refit
from breadcrumbs.training.refit.without_training import logit_adjusted, nearest_class_mean
from breadcrumbs.training.report import run_page
from breadcrumbs.training.report.run_page import Story
from breadcrumbs.training.run import holdout
from breadcrumbs.training.run.package import samples
from breadcrumbs.training.run.snapshots import path_of
from breadcrumbs.training.terminal.bars import step
from breadcrumbs.training.terminal.refit_events import telling

LOG = logging.getLogger("breadcrumbs.adopt")

CHECKED = 32  # images on which the graph is compared with what it was opened from, and timed


@dataclass(frozen=True, eq=False)
class Looks:
    """The features of a data set.

    Attributes:
        train: looks at the training images (N, D), the clean one last.
        test: of the test images (M, D).
    """

    train: tuple[Floats, ...]
    test: Floats


def adopt(
    backbone: str,
    config: AdoptConfig,
    out: Path,
    cache: Path,
    *,
    spec: RefitSpec | None = None,
    device: RefitDevice = "cpu",
) -> Bundle:
    """Make a bundle around a backbone, and write it to `out/bundle`, metrics and report beside it.

    Args:
        backbone: as `training.adopt.source` says.
        config: the images, and how the backbone is opened.
        out: folder of the run; an earlier bundle there is replaced once the new one is whole.
        cache: folder of features that are known already.
        spec: how the head is chosen; None means the refit's defaults.
        device: where the head is solved.

    Raises:
        AdoptError: the backbone cannot be deployed.
        BackboneError: there is no such network, or no such weights for it here.
        DataError: the images cannot be used.
        ExportError: ONNX Runtime does not give the features of torch.
        RefitError: no head can be fitted.
    """
    if (out / "checkpoint.pt").exists():
        raise AdoptError(f"{out} contains a training run; choose another folder with --out")
    check_place(config.recipe("none", config.size or 224, 1))
    source = open_source(backbone, config, in_memory=config.data in (EMBEDDED, *STANDARD))
    opened = source.opened
    recipe = config.recipe(opened.name, opened.preprocess.height, config.looks + 1)
    for note in opened.notes:
        LOG.info("%s", note)
    data = load(recipe)
    LOG.info("%d training and %d test images of %d classes", len(data.train), len(data.test), len(data.classes))
    _check(source, data.train)
    looks = _looks(opened, data, config, recipe, cache)
    spec = (spec or RefitSpec()).model_copy(update={"seed": config.seed})
    start = _start(out / ".start", opened, data, looks, recipe)
    try:
        with telling(as_json=False) as tell:
            made = refit(start, start.head(), (), None, spec, tell, device).complete()
        return _package(start, made, data, looks, recipe, out)
    finally:
        shutil.rmtree(start.folder, ignore_errors=True)


def _check(source: Source, split: Split) -> None:
    """Compare the graph with its original on real images, and tell what it is made of and how long an image takes."""
    opened = source.opened
    rows = np.linspace(0, len(split) - 1, min(CHECKED, len(split))).astype(int)
    images = np.stack([split.fitted(int(row), opened.preprocess) for row in rows])
    difference = source.check(images)
    LOG.info("checked on %d images: features differ by %.1g of the largest at most", len(images), difference)
    session, took = open_session(opened.model), []
    for image in images:
        began = time.perf_counter()
        session.run(None, {"image": image[None]})
        took.append(time.perf_counter() - began)
    kinds = operators(opened.model)
    LOG.info(
        "the graph: %d nodes of %d kinds of operators, %.1f MB, %.1f ms an image here", sum(kinds.values()), len(kinds),
        len(opened.model) / 1e6, 1e3 * statistics.median(took),
    )  # fmt: skip


def _looks(opened: Opened, data: Data, config: AdoptConfig, recipe: TrainConfig, cache: Path) -> Looks:
    extractor = Extractor(opened, cache, config.batch_size)
    began = time.monotonic()
    clean, digests = extractor.clean(data.train, "features of the training images")
    others = [extractor.augmented(data.train, digests, recipe, look) for look in range(1, config.looks + 1)]
    test, _ = extractor.clean(data.test, "features of the test images")
    made, took = extractor.computed, time.monotonic() - began
    known = len(clean) * (1 + len(others)) + len(test) - made
    LOG.info("features: %d computed in %.0f s, %d were known, in %s", made, took, known, cache)
    return Looks((*others, clean), test)


def _start(folder: Path, opened: Opened, data: Data, looks: Looks, recipe: TrainConfig) -> Bundle:
    """A bundle with the nearest class means as its head, from which the refit's engine makes a better one."""
    digest = sha256(opened.model).hexdigest()

    def look(features: Floats, split: Split, epoch: int) -> Snapshot:
        return Snapshot(features, split.labels, data.classes, digest, epoch, ids=split.ids, dataset=split.dataset)

    head = nearest_class_mean(looks.train[-1], data.train.labels, data.classes)
    files = {
        "backbone.onnx": opened.model,
        "head.onnx": heads.to_onnx(head),
        bundles.HOLDOUT: snapshots.to_bytes(holdout.drawn(look(looks.test, data.test, len(looks.train)))),
        **{
            str(path_of(Path("snapshots"), epoch)): snapshots.to_bytes(look(features, data.train, epoch))
            for epoch, features in enumerate(looks.train, 1)
        },
    }
    return bundles.write(folder, _manifest(opened.name, opened.preprocess, head, data, recipe), files)


def _manifest(name: str, preprocess: Preprocess, head: LinearHead, data: Data, recipe: TrainConfig) -> Manifest:
    return Manifest(
        name=recipe.model_name, architecture=name, preprocess=preprocess, feature_dim=head.feature_dim,
        classes=data.classes, train_counts=tuple(data.train_counts.tolist()), groups=recipe.groups,
        recipe=recipe.model_dump(mode="json"),
    )  # fmt: skip


def _package(start: Bundle, made: Refit, data: Data, looks: Looks, recipe: TrainConfig, out: Path) -> Bundle:
    """Measure the head on the test images, examine the images, and write report and bundle."""
    test = looks.test
    own = {"balanced": made.head}
    plain = _plain(made, data)
    if plain is not None:
        own["joint"] = plain
    by_class = groups(data.train_counts.tolist(), recipe.groups)
    logits = {name: head.logits(test) for name, head in own.items()}
    metrics: dict[str, Any] = {
        name: evaluate(values, data.test.labels, by_class).as_dict() for name, values in logits.items()
    }
    story = Story(
        title=f"{recipe.model_name}: {start.manifest.architecture}, frozen", classes=data.classes,
        counts=data.train_counts, groups=by_class, convention=recipe.groups, config=recipe.model_dump(mode="json"),
        history=(), labels=data.test.labels, logits=logits, metrics=dict(metrics), exported="balanced",
        notes=(*data.notes, *made.report.notes), trained=False,
        intervals={name: intervals(values, data.test.labels, by_class) for name, values in logits.items()},
    )  # fmt: skip
    with step("examine the images"):
        train = Looked(looks.train[-1], data.train.labels, data.train)
        findings = inspected(train, Looked(test, data.test.labels, data.test), made.head, data.classes, recipe.seed)
        findings.write(out / "report")
    pages = run_page.write(out / "report", replace(story, findings=findings.section()))
    metrics |= {"groups": recipe.groups, "test_images": len(data.test)}
    kept = [name for name in start.manifest.files if name.startswith("snapshots/")]
    files = {name: (start.folder / name).read_bytes() for name in ("backbone.onnx", bundles.HOLDOUT, *kept)}
    files |= {
        "head.onnx": heads.to_onnx(made.head),
        "report/index.html": run_page.page(story, pages),  # without training images: a bundle is passed on
        "report/metrics.json": json.dumps(metrics, indent=1).encode() + b"\n",
        "report/head.json": reports.to_bytes(made.report),
    }
    if plain is not None:
        files["joint-head.onnx"] = heads.to_onnx(plain)
    files |= samples(data.test, len(data.classes), start.manifest.preprocess, recipe)
    write_whole(out / "metrics.json", files["report/metrics.json"])
    return bundles.write(out / "bundle", start.manifest.model_copy(update={"metrics": metrics}), files)


def _plain(made: Refit, data: Data) -> LinearHead | None:
    """The plain softmax head on the same features, without an offset: what the backbone gives without our help."""
    part = next((part for part in made.report.members if part.member == "plain"), None)
    if part is None or "plain" not in made.baselines:
        return None
    counts = data.train_counts.astype(np.float64)
    log_prior = np.log(np.maximum(counts, 1) / counts.sum())
    return logit_adjusted(made.baselines["plain"], log_prior, -part.prior_offset)
