"""A bundle gets a second backbone, in int8, if that is worth it: from calibration to the bundle in `int8/`.

    calibrate on training images -> search, judged on the hold-out's images -> rows of its own -> bundle

A backbone for which nothing is found is left alone, and the manifest says why. It knows nothing of how the backbone
came to be, or of how a graph is made (`quantizer`), judged (`cost`) or searched for (`search`).
"""

import hashlib
import logging
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.files import read_regular
from breadcrumbs.models.groups import groups
from breadcrumbs.models.known import to_bytes
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.models.speed import times_as_fast
from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data.dataset import Data, DataError, Split, load
from breadcrumbs.training.export import run_onnx
from breadcrumbs.training.int8 import calibration
from breadcrumbs.training.int8.quantizer import QuantizeError, Quantizer
from breadcrumbs.training.int8.search import Reference, Speed, Tried, search
from breadcrumbs.training.measure import config_of
from breadcrumbs.training.metrics import evaluate
from breadcrumbs.training.run.package import images_of, known_by
from breadcrumbs.training.run.snapshots import path_of

LOG = logging.getLogger("breadcrumbs.int8")

SECONDS = 900.0
"""After which no further try begins."""
KEPT = (bundles.HEAD, bundles.NAMED, "joint-head.onnx", bundles.TAXONOMY)


@dataclass(frozen=True, eq=False)
class Material:
    """What an int8 backbone is made and judged with.

    Attributes:
        bundle: of the backbone.
        data: its images.
        config: how they are read.
        held: the bundle's hold-out.
        judged: its images, in the same order.
    """

    bundle: Bundle
    data: Data
    config: TrainConfig
    held: Snapshot
    judged: Split


def add_int8(bundle: Bundle, *, speed: Speed = times_as_fast, seconds: float = SECONDS) -> Bundle:
    """Write a bundle again, with the bundle of its int8 backbone in `int8/`, or with the reason why there is none.

    Args:
        bundle: as `train` or `adopt` wrote it; its images are found by its recipe.
        speed: compares two graphs on this machine.
        seconds: after which no further try begins.

    Raises:
        BundleError: it has no backbone.
        DataError: its images are not there, or have changed; or its hold-out does not say which images it is of.
    """
    config = config_of(bundle)
    material = _material(bundle, load(config), config)
    chosen = material.data.train.take(calibration.chosen(material.data.train.labels))
    found = _found(material, chosen, speed, time.monotonic() + seconds)
    if isinstance(found, QuantizeError):
        facts: dict[str, Any] = {"refusal": str(found)}
    else:
        facts = {"refusal": found[-1].refusal, "tries": len(found), **found[-1].as_dict()}
    facts["calibration"] = _calibration(chosen)
    if isinstance(found, QuantizeError) or found[-1].refusal is not None:
        LOG.warning("no int8 backbone: %s", facts["refusal"])
        return _written(bundle, facts, None)
    LOG.info("int8 backbone: %s", found[-1].verdict())
    return _written(bundle, facts, _own(material, found[-1]))


def _material(bundle: Bundle, data: Data, config: TrainConfig) -> Material:
    held = bundle.holdout()
    if held is None or held.ids is None or held.classes != bundle.manifest.classes:
        raise DataError(
            f"{bundle.folder}: its hold-out does not say which images it is of, as after a refit; int8 is made of a "
            "bundle as `train` or `adopt` wrote it"
        )
    place = {int(number): row for row, number in enumerate(data.test.ids)}
    rows = np.array([place.get(int(number), -1) for number in held.ids], np.int64)
    known = held.classes[: len(data.classes)]  # those that only have words come after them
    if held.dataset != data.test.dataset or data.classes != known or (rows < 0).any():
        raise DataError(f"{bundle.folder}: its test images are others now; expected those that its hold-out is of")
    return Material(bundle, data, config, held, data.test.take(rows))


def _found(material: Material, chosen: Split, speed: Speed, deadline: float) -> list[Tried] | QuantizeError:
    """All tries; or why there is none."""
    bundle, manifest = material.bundle, material.bundle.manifest
    images = partial(images_of, preprocess=bundle.preprocess, config=material.config)
    batches = list(images(chosen, title="images to calibrate int8 on"))
    against = Reference(
        backbone=bundle.backbone(),
        features=np.asarray(material.held.features, np.float32),
        labels=material.held.labels,
        images=lambda: images(material.judged, title="judged images in int8"),
        head=bundle.head(),
        groups=groups(manifest.train_counts, manifest.groups),
        speed=speed,
    )
    try:
        with tempfile.TemporaryDirectory(prefix="breadcrumbs-int8-") as folder:
            quantizer = Quantizer(against.backbone, (batch.numpy() for batch in batches), Path(folder))
            return search(quantizer, against, batches, deadline)
    except QuantizeError as error:
        return error


def _calibration(chosen: Split) -> dict[str, Any]:
    """How many images, and which, as the manifest has them."""
    return {
        "method": "min-max",
        "images": len(chosen),
        "classes": len(np.unique(chosen.labels)),
        "dataset": chosen.dataset,
        "ids": chosen.ids.tolist(),
    }


def _own(material: Material, tried: Tried) -> Bundle:
    """The bundle of the int8 backbone, beside its parent: the same head, and rows of its own."""
    bundle, manifest, train = material.bundle, material.bundle.manifest, material.data.train
    digest = hashlib.sha256(tried.model).hexdigest()
    images = images_of(train, bundle.preprocess, material.config, "training images in int8")
    newest = Snapshot(
        run_onnx(tried.model, images), train.labels, manifest.classes, digest, material.held.epoch, ids=train.ids,
        dataset=train.dataset,
    )  # fmt: skip
    features = np.asarray(tried.features, np.float32)
    held = replace(material.held, features=features, backbone=digest, created="")
    class_groups = groups(manifest.train_counts, manifest.groups)
    kept = [name for name in manifest.files if name.startswith("samples/") or name in KEPT]
    files = {name: read_regular(bundle.folder / name) for name in kept} | {
        bundles.BACKBONE: tried.model,
        bundles.HOLDOUT: snapshots.to_bytes(held),
        f"snapshots/{path_of(bundle.folder, newest.epoch).name}": snapshots.to_bytes(newest),
    }
    near = known_by(newest, class_groups)  # by its own rows: it is another space
    if near is not None:
        files[bundles.KNOWN] = to_bytes(near, bundle.head().digest)
    measured = evaluate(bundle.head().logits(features), held.labels, class_groups)
    metrics = {"balanced": measured.as_dict(), "groups": manifest.groups, "held_out_rows": len(held.labels)}
    place = bundle.folder.with_name(f".{bundle.folder.name}.int8")
    return bundles.write(place, manifest.model_copy(update={"metrics": metrics, "created": bundles.now()}), files)


def _written(bundle: Bundle, facts: dict[str, Any], own: Bundle | None) -> Bundle:
    """The bundle with what was found, and with that of its int8 backbone; an earlier one is gone."""
    files = {name: read_regular(bundle.folder / name) for name in bundle.manifest.files if name != bundles.INT8}
    manifest = bundle.manifest.model_copy(update={"metrics": {**bundle.manifest.metrics, "int8": facts}})
    try:
        return bundles.write(bundle.folder, manifest, files, own)
    finally:
        if own is not None:
            shutil.rmtree(own.folder, ignore_errors=True)
