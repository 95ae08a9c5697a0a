"""One pass over the training images: two heads learn, and features are kept as crumbs.

For each batch: the backbone and the joint head take a step on the images; the balanced head takes a step on its part
of a class-balanced set; the features of that forward pass become crumbs. Nothing in a step waits for the GPU. It knows
nothing of EMANATE's formulas (`emanate`, `trail`), of files, or of what follows an epoch.

Letters: N images, D feature dimensions, C classes, B a batch, S steps an epoch.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm  # the class of all of them, also of those in timm

from breadcrumbs.training import processes
from breadcrumbs.training.data.loader import Batch
from breadcrumbs.training.run.state import Batches, Run, TrainingError
from breadcrumbs.training.run.trail import BalancedBatch
from breadcrumbs.training.terminal.bars import track

CHECK_EVERY = 100  # steps between two checks of the losses: each check waits for the GPU
SHOWN = 8  # images named in an error


def train_epoch(run: Run) -> dict[str, float]:
    """Pass over the training images once: both heads learn, and crumbs are recorded.

    Returns:
        The mean loss of each head that learned.

    Raises:
        TrainingError: a loss is not finite; the message names the epoch, the step and the images of its batch.
    """
    # Seeded by the epoch's number: a resumed run draws what an uninterrupted run would draw.
    torch.manual_seed((run.config.seed * 1_000_003 + run.epoch) * processes.world() + processes.rank())
    steps, device = len(run.images), run.accelerator.device
    losses = torch.full((2, steps), torch.nan, device=device)
    run.network.train()
    _set_mode(run)
    balanced = _balanced_batches(run, steps)
    title = f"epoch {run.epoch + 1}/{run.config.epochs}"
    for step, batch in enumerate(track(run.images.epoch(run.epoch), steps, title, show=processes.is_main())):
        losses[0, step] = _joint_step(run, batch, _size(run, step))
        if balanced is not None:
            losses[1, step] = _balanced_step(run, next(balanced))
        if step % CHECK_EVERY == CHECK_EVERY - 1:
            _check_finite(run, losses[:1, : step + 1])
    processes.add_up(losses[0])
    if run.trail is not None:
        run.trail.pool(processes.add_up)
    learned = losses if balanced is not None else losses[:1]
    _check_finite(run, learned)
    return dict(zip(("joint_loss", "balanced_loss"), learned.mean(1).tolist(), strict=False))


def _set_mode(run: Run) -> None:
    """Set the backbone to training mode, but for what stays as it is.

    A frozen network stays; after a head start, batch norm does: its statistics on few augmented images would take away
    what the pretrained network knows, and what the heads were fitted to.
    """
    run.network.features.train(not run.config.frozen)
    if run.config.head_start:
        for module in run.network.features.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def _size(run: Run, step: int) -> int:
    """The images of a step over all processes: N / S, rounded up in the first steps and down in the others."""
    whole, rest = divmod(len(run.train), len(run.images))
    return whole + (step < rest)


def _joint_step(run: Run, batch: Batch, size: int) -> Tensor:
    images, labels, rows = (part.to(run.accelerator.device, non_blocking=True) for part in batch)
    try:
        with run.autocast():
            logits, features = run.step(images)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise TrainingError(
            f"a step of {size} images over {processes.world()} processes leaves one image to a process, and batch norm "
            f"cannot learn from one at --size {run.config.size}: use another --batch-size"
        ) from error
    share = len(labels) / size  # of the step's images; the processes' gradients are averaged
    loss = cross_entropy(logits.float(), labels) * share
    run.accelerator.backward(loss * processes.world())
    if run.config.clip is not None:
        run.accelerator.clip_grad_norm_(run.network.trunk.parameters(), run.config.clip)
    _advance(run, 0)
    if run.average is not None:
        run.average.update_parameters(run.network)
    if run.trail is not None:
        run.trail.record(rows, features)
    return loss.detach()


def _balanced_step(run: Run, batch: BalancedBatch) -> Tensor:
    """Every process takes the same step on the same features, so no gradients are exchanged."""
    loss = cross_entropy(run.network.balanced(batch.features), batch.labels, reduction="sum")
    loss = loss / max(1, len(batch.labels))  # without features the loss is 0, not NaN
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    _advance(run, 1)
    return loss.detach()


def _advance(run: Run, which: int) -> None:
    run.optimizers[which].step()
    run.optimizers[which].zero_grad(set_to_none=True)
    run.schedules[which].step()


def _balanced_batches(run: Run, steps: int) -> Iterator[BalancedBatch] | None:
    """The batches of the balanced head in this epoch, one a step; None means that it does not learn.

    `breadcrumb`: the trail, from the second epoch on; `breadcrumb-paper`: class-balanced images, forwarded once more,
    until every class has its q_y epochs; `crt`: class-balanced images in every epoch.
    """
    if run.trail is not None and (run.trail.complete or (run.again is None and run.trail.epochs)):
        return (run.trail.balanced(step, steps) for step in range(steps))
    return None if run.again is None else _forwarded_again(run, run.again)


def _forwarded_again(run: Run, again: Batches) -> Iterator[BalancedBatch]:
    """Class-balanced images, forwarded a second time.

    `crt` uses evaluation mode: in training mode, batch norm would normalise a balanced batch by its own statistics,
    which gives features that no image has later, and would change the backbone. The paper's release uses training
    mode, and updates batch norm's running statistics.
    """
    device = run.accelerator.device
    for step, (images, labels, _) in enumerate(again.epoch(run.epoch)):
        features = images.to(device, non_blocking=True) if run.kept else _forwarded(run, images)
        size = _size(run, step)
        place = processes.mine(torch.arange(size, device=device))
        yield BalancedBatch(
            processes.whole(features, place, size), processes.whole(labels.to(device, non_blocking=True), place, size)
        )


def _forwarded(run: Run, images: Tensor) -> Tensor:
    run.network.features.train(run.config.method != "crt" and not run.config.frozen)
    with torch.no_grad(), torch.random.fork_rng(), run.autocast():
        features: Tensor = run.network.features(images.to(run.accelerator.device, non_blocking=True)).float()
    _set_mode(run)
    return features


def _check_finite(run: Run, losses: Tensor) -> None:
    bad = (~losses.isfinite()).any(0).nonzero()
    if len(bad):
        step = int(bad[0])
        rows = run.images.order.batch(step)
        names = ", ".join(run.train.name(int(row)) for row in rows[:SHOWN])
        more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
        raise TrainingError(
            f"the loss is not finite from step {step + 1} of epoch {run.epoch + 1} on; "
            f"lower --learning-rate, or look at the images of that batch: {names}{more}"
        )
