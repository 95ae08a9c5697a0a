"""From a finished run to a bundle: export, gate, newest snapshot, crumbs, hold-out, metrics, report.

All metrics are of the exported model in ONNX Runtime, so they are those of the server. It knows nothing of the training
loop.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.bundle import Bundle, Manifest
from breadcrumbs.models.files import write_whole
from breadcrumbs.models.groups import Group, groups
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.models.known import Known, to_bytes
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training import export
from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data.dataset import Data, Split
from breadcrumbs.training.data.loader import evaluation_batches
from breadcrumbs.training.emanate import back_track, balanced_target
from breadcrumbs.training.half import gate, to_half
from breadcrumbs.training.inspect.inspect import inspected
from breadcrumbs.training.inspect.looked import Looked
from breadcrumbs.training.known import known, unlike
from breadcrumbs.training.metrics import evaluate, intervals
from breadcrumbs.training.network import TwoHeads
from breadcrumbs.training.report import run_page
from breadcrumbs.training.report.run_page import Story
from breadcrumbs.training.run import holdout
from breadcrumbs.training.run import snapshots as crumbs
from breadcrumbs.training.run.journal import read_log
from breadcrumbs.training.run.watch import Watch
from breadcrumbs.training.terminal.bars import step, track

if TYPE_CHECKING:
    from markupsafe import Markup

SAMPLES = 24
"""Largest number of sample images in a bundle."""


def package(
    network: TwoHeads,
    data: Data,
    preprocess: Preprocess,
    config: TrainConfig,
    out: Path,
    *,
    half: bool = False,
    watch: Watch | None = None,
) -> Bundle:
    """Export a network on the CPU and write the bundle to `out/bundle`, metrics and report beside it.

    Args:
        network: with the weights to export.
        data: the images, the watched ones among the training images.
        preprocess: the evaluation transform.
        config: of the run.
        out: its folder.
        half: add a second backbone, in half precision.
        watch: the comparison of the epochs; None means that the last is exported.

    Raises:
        ExportError: ONNX Runtime does not give the results of torch, or half precision loses recall.
    """
    network.eval()
    with step("export the backbone to ONNX"):
        backbone = export.to_onnx(network.features, preprocess)
    own = {name: _linear(layer, data.classes) for name, layer in heads_of(network, config).items()}
    trained, test = export.run_both(network.features, backbone, images_of(data.test, preprocess, config, "test images"))
    difference = export.gate(trained, test, own.values())
    class_groups = groups(data.train_counts.tolist(), config.groups)
    logits = {name: head.logits(test) for name, head in own.items()}
    metrics: dict[str, Any] = {
        name: evaluate(values, data.test.labels, class_groups).as_dict() for name, values in logits.items()
    }
    story = Story(
        title=f"{config.model_name}: {config.method}", classes=data.classes, counts=data.train_counts,
        groups=class_groups, convention=config.groups, config=config.model_dump(mode="json"), history=read_log(out),
        labels=data.test.labels, logits=logits, metrics=dict(metrics), exported=next(iter(own)),
        notes=_notes(data, watch),
        intervals={name: intervals(values, data.test.labels, class_groups) for name, values in logits.items()},
    )  # fmt: skip
    epoch = 1 + (config.epochs if watch is None else watch.best)  # of a look by the exported network
    newest = _newest(backbone, own["joint"], data, preprocess, config, epoch)
    near = known_by(newest, class_groups)
    if near is not None:
        story = replace(story, unlike=unlike(near, test, data.test.labels, class_groups))
    pages = run_page.write(out / "report", replace(story, findings=_examined(newest, test, data, own, config, out)))
    metrics |= {"groups": config.groups, "test_images": len(data.test), "export_difference": difference}
    if watch is not None:
        metrics["watched"] = watch.as_dict()
    files = {
        "backbone.onnx": backbone,
        "head.onnx": heads.to_onnx(next(iter(own.values()))),
        "joint-head.onnx": heads.to_onnx(own["joint"]),
        "report/index.html": run_page.page(story, pages),  # without training images: a bundle is passed on
        "report/metrics.json": json.dumps(metrics, indent=1).encode() + b"\n",
    }
    if half:
        files["backbone-half.onnx"], metrics["half_differs"] = _half(
            backbone, test, data, preprocess, config, next(iter(own.values()))
        )
    manifest = Manifest(
        name=config.model_name,
        architecture=config.architecture, preprocess=preprocess, feature_dim=own["joint"].feature_dim,
        classes=data.classes, train_counts=tuple(data.train_counts.tolist()), groups=config.groups,
        metrics=metrics, recipe=config.model_dump(mode="json"),
    )  # fmt: skip
    files |= _snapshot_files(newest, data, out / "snapshots")
    if near is not None:
        files[bundles.KNOWN] = to_bytes(near, next(iter(own.values())).digest)
    files[bundles.HOLDOUT] = snapshots.to_bytes(holdout.drawn(_look(backbone, test, data.test, data, epoch)))
    files |= samples(data.test, len(data.classes), preprocess, config)
    if data.taxonomy is not None:
        files[bundles.TAXONOMY] = data.taxonomy
    write_whole(out / "metrics.json", files["report/metrics.json"])
    return bundles.write(out / "bundle", manifest, files)


def known_by(newest: Snapshot, class_groups: Sequence[Group]) -> Known | None:
    """Return by what a head tells how well a feature is known; None where there are too few images.

    Args:
        newest: the training images' features, in the space that answers.
        class_groups: of each class (C,).
    """
    features = torch.from_numpy(np.asarray(newest.features, np.float32))
    return known(lambda chosen: features[chosen], torch.from_numpy(newest.labels), class_groups)


def _notes(data: Data, watch: Watch | None) -> tuple[str, ...]:
    """The notes of the report: on the data, and on which epoch is exported."""
    if watch is None:
        return data.notes
    words = watch.verdict()
    return (*data.notes, f"{words[0].upper()}{words[1:]}.")


def _examined(
    newest: Snapshot, test: Floats, data: Data, own: dict[str, LinearHead], config: TrainConfig, out: Path
) -> "Markup":
    """Examine the images by the exported backbone's features, write what was found as CSV files, and return it.

    Args:
        newest: the training images' features.
        test: the test images' features (M, D).
        data: the images.
        own: the heads, the exported one first.
        config: of the run.
        out: its folder.
    """
    with step("examine the images"):
        train = Looked(np.asarray(newest.features), data.train.labels, data.train)
        tested = Looked(test, data.test.labels, data.test)
        found = inspected(train, tested, next(iter(own.values())), data.classes, config.seed)
        found.write(out / "report")
        return found.section()


def samples(split: Split, classes: int, preprocess: Preprocess, config: TrainConfig) -> dict[str, bytes]:
    """Return the first test image of each class as PNG, as the server sees it; of many classes `SAMPLES`."""
    wanted = np.unique(np.linspace(0, classes - 1, min(classes, SAMPLES)).round().astype(int))
    rows = [rows[0] for label in wanted if len(rows := np.flatnonzero(split.labels == label))]
    chosen = images_of(split.take(np.array(rows)), preprocess, config, "samples")
    pixels = np.concatenate([images.numpy() for images in chosen])
    found = {}
    for row, image in zip(rows, pixels, strict=True):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG", optimize=True)
        found[f"samples/{split.labels[row]}-0.png"] = file.getvalue()
    return found


def _half(
    backbone: bytes, test: Floats, data: Data, preprocess: Preprocess, config: TrainConfig, head: LinearHead
) -> tuple[bytes, float]:
    """The backbone in half precision, and the share of test images whose top class changes."""
    low = to_half(backbone)
    found = export.run_onnx(low, images_of(data.test, preprocess, config, "in half precision"))
    return low, gate(test, found, data.test.labels, head, groups(data.train_counts.tolist(), config.groups))


def heads_of(network: TwoHeads, config: TrainConfig) -> dict[str, nn.Linear]:
    """Return the heads that learned, the exported one first."""
    joint = {"joint": network.joint}
    return joint if config.method == "plain" else {"balanced": network.balanced, **joint}


def _linear(layer: nn.Linear, classes: tuple[str, ...]) -> LinearHead:
    weight, bias = (p.detach().float().numpy() for p in (layer.weight, layer.bias))
    return LinearHead(weight, bias, classes)


def images_of(split: Split, preprocess: Preprocess, config: TrainConfig, title: str = "images") -> Iterator[Tensor]:
    """Return batches of a split's images as the server sees them, uint8 (B, H, W, 3), with a progress bar."""
    batches = evaluation_batches(split, preprocess, config)
    return (images for images, _, _ in track(batches, len(batches), title))


def _newest(
    backbone: bytes, joint: LinearHead, data: Data, preprocess: Preprocess, config: TrainConfig, epoch: int
) -> Snapshot:
    """A snapshot of the training images by the exported backbone, as one more epoch, with the joint head."""
    features = export.run_onnx(backbone, images_of(data.train, preprocess, config, "training images"))
    return replace(_look(backbone, features, data.train, data, epoch), weight=joint.weight, bias=joint.bias)


def _look(backbone: bytes, features: Floats, split: Split, data: Data, epoch: int) -> Snapshot:
    """The features (N, D) of a split's images by the exported backbone, as one more epoch."""
    digest = hashlib.sha256(backbone).hexdigest()
    return Snapshot(features, split.labels, data.classes, digest, epoch, ids=split.ids, dataset=split.dataset)


def _snapshot_files(newest: Snapshot, data: Data, folder: Path) -> dict[str, bytes]:
    """Files of the newest snapshot and, of older epochs, of the rows that still balance the tail.

    Epochs after the exported one are left out: their looks are by networks that were given up.
    """
    counts = torch.from_numpy(data.train_counts)
    epochs_back = back_track(counts, balanced_target(int(counts.sum()), len(counts))).numpy()
    files = {f"snapshots/{crumbs.path_of(Path(), newest.epoch)}": snapshots.to_bytes(newest)}
    for path in crumbs.stored(folder):
        older = snapshots.read(path)
        if older.epoch >= newest.epoch:
            continue
        kept = crumbs.tail(older, epochs_back, newest.epoch - older.epoch)
        if kept is not None:
            files[f"snapshots/{path.name}"] = snapshots.to_bytes(kept)
    return files
