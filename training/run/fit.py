"""One training run from top to bottom: two heads in one loop, and a bundle at the end.

Balancing needs no forward pass of its own (`epoch`, `trail`). It knows nothing of EMANATE's formulas (`emanate`) or of
file formats (`models`).

Letters: N images, D feature dimensions, C classes.
"""

import json
import logging
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor

from breadcrumbs.models import backbones
from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.files import write_whole
from breadcrumbs.models.groups import groups
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training import processes
from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data.dataset import Data, load
from breadcrumbs.training.data.sizes import reduced
from breadcrumbs.training.data.sources import check_place
from breadcrumbs.training.data.split import Split
from breadcrumbs.training.metrics import Metrics, evaluate
from breadcrumbs.training.network import TwoHeads
from breadcrumbs.training.run import features, snapshots
from breadcrumbs.training.run.epoch import train_epoch
from breadcrumbs.training.run.features import features_of
from breadcrumbs.training.run.head_start import fit_heads
from breadcrumbs.training.run.journal import Journal
from breadcrumbs.training.run.package import heads_of, package
from breadcrumbs.training.run.state import (
    Run,
    TrainingError,
    backbone_of,
    load_checkpoint,
    prepare,
    restore,
    save_checkpoint,
    state_of,
)
from breadcrumbs.training.run.trail import Trail
from breadcrumbs.training.run.watch import FEWEST, Watch

log = logging.getLogger("breadcrumbs.training")


def fit(config: TrainConfig, out: Path, *, resume: bool = False, data: Data | None = None) -> Bundle:
    """Train, and write everything into a folder: checkpoint, log, snapshots, metrics, report, bundle.

    Started by `torchrun` or `accelerate launch`, several processes train together; the main one writes. The last epoch
    is exported, or with `patience` the best one on the watched images, which may be the start.

    Args:
        config: of the run.
        out: the run's folder.
        resume: continue from the checkpoint there.
        data: the images; None means those that the configuration names.

    Returns:
        The bundle, at `out/bundle`.

    Raises:
        DataError: the images cannot be used; raised before training starts.
        TrainingError: the folder holds another run, or the loss is no longer finite.
        ExportError: the exported network does not give the results of the trained one.
    """
    if (out / "checkpoint.pt").exists() and not resume:
        raise TrainingError(
            f"{out} already contains a run; continue it with --resume, or choose another folder with --out"
        )
    with PartialState().main_process_first():  # it may download
        if data is None:
            check_place(config)  # before weights are downloaded
        backbone = backbone_of(config, bare=resume)  # a wrong configuration is refused before an image is read
        data = load(config, show=processes.is_main()) if data is None else data
    run = prepare(config, data, backbone)
    if resume:
        restore(run, load_checkpoint(out / "checkpoint.pt", run.accelerator.device))
    elif processes.is_main():
        write_whole(out / "config.json", config.model_dump_json(indent=1).encode() + b"\n")
        write_whole(out / "data.json", json.dumps(data.as_dict(), indent=1).encode() + b"\n")
        save_checkpoint(out / "checkpoint.pt", state_of(run))  # so that there is one whenever Ctrl-C comes
    _announce(run)
    if config.frozen and run.epoch < config.epochs:
        features.keep(run)
    first = run.epoch + 1 if run.epoch else 0  # epoch 0 is the head start, which is repeated too
    with Journal(out, config.epochs, first, write=processes.is_main()) as journal:
        if config.head_start and run.epoch == 0:
            _start(run, journal, out)
        while run.epoch < config.epochs and not _stopped(run):
            _epoch(run, journal, out)
    if processes.is_main():
        _tell_end(run)
        package(_exported(run), run.data, run.preprocess, config, out, watch=run.watch)
    processes.wait()
    return bundles.read(out / "bundle")


def _announce(run: Run) -> None:
    if processes.is_main():
        log.info("%s", run.config.model_dump_json())
        log.info(
            "%s on %s × %d: %d training and %d test images of %d classes, %d parameters, from epoch %d of %d",
            run.config.architecture, run.accelerator.device, processes.world(), len(run.data.train), len(run.data.test),
            len(run.data.classes), backbones.count_parameters(run.network), run.epoch + 1, run.config.epochs,
        )  # fmt: skip
        log.info(
            "pixels: mean %s, standard deviation %s, %s, resized to %s (%s)", run.preprocess.mean, run.preprocess.std,
            run.preprocess.interpolation, run.preprocess.resize or "the input's size", run.preprocess.source,
        )  # fmt: skip
        _announce_watch(run)
        warning = reduced(run.data.train, run.config.size)
        if warning is not None:
            log.warning("%s", warning)


def _announce_watch(run: Run) -> None:
    if run.watch is not None:
        log.info(
            "%d of the training images, of %d of %d classes, are watched: training stops after %d epochs without a "
            "better balanced accuracy there",
            len(run.watch.split), len(np.unique(run.watch.split.labels)), len(run.data.classes), run.watch.patience,
        )  # fmt: skip
    elif run.config.patience is not None:
        log.warning(
            "no image is watched, since fewer than half of the classes have %d training images: all %d epochs are "
            "trained and the last is exported", FEWEST, run.config.epochs,
        )  # fmt: skip


def _start(run: Run, journal: Journal, out: Path) -> None:
    """Fit the heads to the pretrained network, and measure that as epoch 0.

    Everything follows from the network's weights, so a run that was stopped meanwhile does it again.
    """
    started = time.monotonic()
    fit_heads(run)
    _finish_epoch(run, journal, out, {"train_seconds": time.monotonic() - started}, {}, started)


def _epoch(run: Run, journal: Journal, out: Path) -> None:
    started = time.monotonic()
    scalars = train_epoch(run)
    by_class: dict[str, list[float]] = {}
    snapshot = None
    if run.trail is not None:
        snapshot = _snapshot(run, run.trail)
        run.trail.close_epoch()
        processes.agree([run.trail.means, run.network.balanced.weight, run.network.balanced.bias])
        by_class = {"drift": run.trail.drift.tolist(), "crumbs": run.trail.crumbs.tolist()}
    scalars["train_seconds"] = time.monotonic() - started
    run.epoch += 1
    if snapshot is not None and run.trail is not None and processes.is_main():
        snapshots.keep(out / "snapshots", snapshot, run.trail.epochs_back.cpu().numpy(), run.config.keep_snapshots)
    _finish_epoch(run, journal, out, scalars, by_class, started)


def _finish_epoch(
    run: Run, journal: Journal, out: Path, scalars: dict[str, float], by_class: dict[str, list[float]], started: float
) -> None:
    """Measure an epoch, write it down and save the checkpoint."""
    if run.watch is not None:
        scalars["watched"] = _score(run, run.watch)
        run.watch.add(run.epoch, scalars["watched"], run.measured)
    due = run.epoch % run.config.evaluate_every == 0 or run.epoch == run.config.epochs or _stopped(run)
    heads = evaluate_heads(run) if due else {}
    scalars["seconds"] = time.monotonic() - started
    journal.epoch(run.epoch, scalars, heads, by_class)
    if processes.is_main():
        save_checkpoint(out / "checkpoint.pt", state_of(run))
    processes.wait()


def _score(run: Run, watch: Watch) -> float:
    """Return the balanced accuracy of the exported head on the watched images, the same in every process."""
    kept = watch.features
    found = features_of(run, run.measured, watch.split, "watched images") if kept is None else kept
    heads = _metrics(run, found, watch.split)
    score = torch.tensor(next(iter(heads.values())).balanced, device=run.accelerator.device, dtype=torch.float64)
    processes.agree([score])
    return float(score)


def _stopped(run: Run) -> bool:
    return run.watch is not None and run.watch.stopped


def _tell_end(run: Run) -> None:
    watch = run.watch
    if watch is not None:
        if watch.last < run.config.epochs:
            log.info(
                "stopped after epoch %d of %d: none of the last %d was better than epoch %d on the watched images",
                watch.last, run.config.epochs, watch.patience, watch.best,
            )  # fmt: skip
        log.info("%s", watch.verdict())


def _exported(run: Run) -> TwoHeads:
    """Return the network to export, on the CPU: with the weights of the best epoch, if epochs were compared."""
    if run.watch is not None and run.watch.weights:
        run.measured.load_state_dict(run.watch.weights)
    return run.measured.cpu()


def export_checkpoint(out: Path, *, half: bool = False) -> Bundle:
    """Make the bundle of a run from its newest checkpoint; see `package`."""
    path = out / "checkpoint.pt"
    state = load_checkpoint(path, torch.device("cpu"))
    config = TrainConfig.model_validate_json(state["config"])
    backbone = backbone_of(config, bare=True)
    run = prepare(config, load(config), backbone)
    restore(run, state)
    return package(_exported(run), run.data, run.preprocess, config, out, half=half, watch=run.watch)


def evaluate_heads(run: Run) -> dict[str, Metrics]:
    """Return the metrics of every head on the test images."""
    kept = run.test_features
    found = features_of(run, run.measured, run.data.test) if kept is None else kept
    return _metrics(run, found, run.data.test)


def _metrics(run: Run, features: Tensor, split: Split) -> dict[str, Metrics]:
    own = groups(run.data.train_counts.tolist(), run.config.groups)
    with torch.no_grad():
        logits = {name: head(features).cpu().numpy() for name, head in heads_of(run.measured, run.config).items()}
    return {name: evaluate(values, split.labels, own) for name, values in logits.items()}


def _snapshot(run: Run, trail: Trail) -> Snapshot:
    """The epoch's features Z^e as a snapshot, with the joint head of that epoch."""
    rows, fresh = trail.snapshot()
    index = rows.cpu().numpy()
    half = fresh.half()  # the file is half as large, if no feature overflows
    return Snapshot(
        features=(half if bool(half.isfinite().all()) else fresh.float()).cpu().numpy(),
        labels=run.train.labels[index],
        classes=run.data.classes,
        backbone=backbones.weights_digest(run.network.features),
        epoch=run.epoch + 1,
        ids=run.train.ids[index],
        weight=run.network.joint.weight.detach().float().cpu().numpy(),
        bias=run.network.joint.bias.detach().float().cpu().numpy(),
        dataset=run.train.dataset,
    )
