"""One training run, top to bottom: two heads in one loop, and a bundle at the end.

For each batch: the backbone and the joint head take a step on the images; the balanced head takes a step on its part
of the trail's balanced set; the features of the forward pass that just happened become crumbs. Balancing costs no
forward pass of its own. It knows nothing of EMANATE's formulas (`emanate`, `trail`) or of files (`models`).

Letters: N images, D feature dimensions, C classes, B a batch, S steps an epoch.
"""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import WeightedRandomSampler

from models import backbones
from models.bundle import Bundle
from models.files import write_whole
from models.groups import groups
from models.snapshot import Snapshot
from training import checkpoint, crumbs
from training.config import TrainConfig
from training.data import Split, load
from training.evaluate import Metrics, evaluate
from training.journal import Journal, track
from training.loader import Batch, test_batches, training_batches
from training.package import package
from training.run import Run, TrainingError, prepare, restore, state_of
from training.trail import BalancedBatch

log = logging.getLogger("breadcrumbs.training")


def fit(config: TrainConfig, out: Path, *, resume: bool = False) -> Bundle:
    """Train, and write everything into a folder: checkpoint, log, snapshots, metrics, bundle.

    Args:
        config: what to do.
        out: the run's folder.
        resume: go on from the checkpoint there.

    Returns:
        The bundle, at `out/bundle`.

    Raises:
        DataError: before anything starts, if the images are not as they should be.
        TrainingError: the folder holds another run, or the loss is no longer finite.
        ExportError: the exported network does not answer as the trained one.
    """
    if (out / "checkpoint.pt").exists() and not resume:
        raise TrainingError(f"{out} holds a run; go on with --resume, or name another folder with --out")
    run = prepare(config, load(config))
    if resume:
        restore(run, checkpoint.load(out / "checkpoint.pt", run.accelerator.device))
    else:
        write_whole(out / "config.json", config.model_dump_json(indent=1).encode() + b"\n")
        checkpoint.save(out / "checkpoint.pt", state_of(run))  # so that Ctrl-C leaves one at any time
    log.info(
        "%s on %s: %d training and %d test images of %d classes, %d parameters, from epoch %d of %d",
        config.architecture, run.accelerator.device, len(run.data.train), len(run.data.test), len(run.data.classes),
        backbones.count_parameters(run.network), run.epoch + 1, config.epochs,
    )  # fmt: skip
    with Journal(out, config.epochs, run.epoch + 1) as journal:
        while run.epoch < config.epochs:
            started = time.monotonic()
            losses = train_epoch(run)
            _keep_snapshot(run, out / "snapshots")
            run.trail.close_epoch()
            run.epoch += 1
            heads = evaluate_heads(run)
            journal.epoch(run.epoch, {**losses, "seconds": time.monotonic() - started}, heads)
            checkpoint.save(out / "checkpoint.pt", state_of(run))
    return package(run.network.cpu(), run.data, run.preprocess, config, out)


def export_checkpoint(out: Path) -> Bundle:
    """Make the bundle of a run again from its newest checkpoint."""
    path = out / "checkpoint.pt"
    state = checkpoint.load(path, torch.device("cpu"))
    config = TrainConfig.model_validate_json(state["config"])
    run = prepare(config, load(config))
    restore(run, state)
    return package(run.network.cpu(), run.data, run.preprocess, config, out)


def train_epoch(run: Run) -> dict[str, float]:
    """Pass over the training images once; both heads learn; crumbs are left.

    Returns:
        The mean loss of each head.

    Raises:
        TrainingError: a loss is not finite; the message names the epoch and the step.
    """
    # Seeded by the epoch's number: a resumed run sees what the whole run would have seen.
    seed = run.config.seed * 1_000_003 + run.epoch
    torch.manual_seed(seed)
    batches = training_batches(run.data.train, run.config, torch.Generator().manual_seed(seed))
    again = _paper_warmup(run, seed)
    steps, device = len(batches), run.accelerator.device
    losses = torch.zeros(2, steps, device=device)
    run.network.train()
    title = f"epoch {run.epoch + 1}/{run.config.epochs}"
    for step, (images, labels, rows) in enumerate(track(batches, steps, title)):
        losses[0, step] = _joint_step(run, images.to(device), labels.to(device), rows.to(device))
        if again is not None:
            losses[1, step] = _balanced_step(run, _forward_again(run, next(again)))
        elif run.trail.epochs:  # in the first epoch nobody has left a crumb yet
            losses[1, step] = _balanced_step(run, run.trail.balanced(step, steps))
    _check_finite(run, losses)
    return {"joint_loss": float(losses[0].mean()), "balanced_loss": float(losses[1].mean())}


def _joint_step(run: Run, images: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
    with run.accelerator.autocast():
        logits, features = run.network(images)
    loss = cross_entropy(logits.float(), labels)
    run.accelerator.backward(loss)
    _step(run, 0)
    run.trail.record(rows, features)
    return loss.detach()


def _balanced_step(run: Run, batch: BalancedBatch) -> Tensor:
    loss = cross_entropy(run.network.balanced(batch.features), batch.labels)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    _step(run, 1)
    return loss.detach()


def _forward_again(run: Run, batch: Batch) -> BalancedBatch:
    images, labels, _ = batch
    with torch.no_grad(), run.accelerator.autocast():
        features = run.network.features(images.to(run.accelerator.device))
    return BalancedBatch(features.float(), labels.to(run.accelerator.device))


def _step(run: Run, which: int) -> None:
    run.optimizers[which].step()
    run.optimizers[which].zero_grad(set_to_none=True)
    run.schedules[which].step()


def _paper_warmup(run: Run, seed: int) -> Iterator[Batch] | None:
    """The released warm-up: until every class has its q_y epochs, class-balanced images are forwarded once more."""
    if run.config.warmup != "paper" or run.trail.complete:
        return None
    weights = 1 / run.data.train_counts[run.data.train.labels]
    generator = torch.Generator().manual_seed(seed + 1)
    steps = -(-len(run.data.train) // run.config.batch_size)
    sampler = WeightedRandomSampler(weights.tolist(), steps * run.config.batch_size, generator=generator)
    return iter(training_batches(run.data.train, run.config, generator, sampler))


def _check_finite(run: Run, losses: Tensor) -> None:
    bad = (~losses.isfinite()).any(0).nonzero()
    if len(bad):
        raise TrainingError(
            f"the loss is not finite from step {int(bad[0]) + 1} of epoch {run.epoch + 1} on; "
            "lower --learning-rate, or look at the images of that batch"
        )


def evaluate_heads(run: Run) -> dict[str, Metrics]:
    """Measure both heads on the test images."""
    features = features_of(run, run.data.test)
    own = groups(run.data.train_counts.tolist(), run.config.groups)
    heads = {"joint": run.network.joint, "balanced": run.network.balanced}
    with torch.no_grad():
        logits = {name: head(features).cpu().numpy() for name, head in heads.items()}
    return {name: evaluate(values, run.data.test.labels, own) for name, values in logits.items()}


def features_of(run: Run, split: Split) -> Tensor:
    """Return the features (N, D) of a split in evaluation mode, on the run's device."""
    run.network.eval()
    with torch.no_grad(), run.accelerator.autocast():
        batches = test_batches(split, run.preprocess, run.config)
        return torch.cat([run.network.features(images.to(run.accelerator.device)).float() for images, _, _ in batches])


def _keep_snapshot(run: Run, folder: Path) -> None:
    rows, features = run.trail.snapshot()
    index = rows.cpu().numpy()
    half = features.half()  # the file may be half as large, where nothing overflows
    snapshot = Snapshot(
        features=(half if bool(half.isfinite().all()) else features.float()).cpu().numpy(),
        labels=run.data.train.labels[index],
        classes=run.data.classes,
        backbone=backbones.weights_digest(run.network.features),
        epoch=run.epoch + 1,
        ids=run.data.train.ids[index],
        weight=run.network.joint.weight.detach().float().cpu().numpy(),
        bias=run.network.joint.bias.detach().float().cpu().numpy(),
    )
    crumbs.keep(folder, snapshot, run.trail.epochs_back.cpu().numpy(), run.config.keep_snapshots)
