"""Features of a split in evaluation mode; those of a frozen network are computed once and kept.

It knows nothing of losses or metrics.

Letters: N images, D feature dimensions.
"""

import logging
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from breadcrumbs.training import processes
from breadcrumbs.training.data.dataset import Split
from breadcrumbs.training.data.loader import Batch, evaluation_batches
from breadcrumbs.training.data.order import Order
from breadcrumbs.training.network import TwoHeads
from breadcrumbs.training.run.state import Run, step_of
from breadcrumbs.training.terminal.bars import track

LIMIT = 4 * 2**30  # bytes of kept features; a trail needs about twice as much in addition

log = logging.getLogger("breadcrumbs.training")


class KeptBatches:
    """Kept features f32 (N, D) and labels int64 (N,) in batches of an order; used in place of `TrainingBatches`."""

    def __init__(self, features: Tensor, labels: Tensor, order: Order) -> None:
        self._features, self._labels, self.order = features, labels, order

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield this process's part of every batch of an epoch: features (B, D), labels and rows (B,)."""
        self.order.epoch = number
        for batch in self.order:
            rows = torch.tensor([place[-1] for place in batch], dtype=torch.int64)
            yield self._features[rows.to(self._features.device)], self._labels[rows], rows


class _Probe(nn.Module):
    """The joint head on features that are computed already; returns the same as `Trunk`."""

    def __init__(self, joint: nn.Linear) -> None:
        super().__init__()
        self.joint = joint

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        logits: Tensor = self.joint(features)
        return logits, features


def keep(run: Run, limit: int = LIMIT) -> None:
    """Compute the features of a frozen network once, without augmentation, and train on them from now on.

    If the features take more than `limit` bytes, none is kept: images are augmented and forwarded in every epoch.
    """
    data, width = run.data, run.network.joint.in_features
    watched = 0 if run.watch is None else len(run.watch.split)
    size = 4 * width * (len(run.train) + len(data.test) + watched)
    if size > limit:
        if processes.is_main():
            log.warning(
                "frozen: the features of all images take %.1f GiB, the limit is %.1f; they are computed in every "
                "epoch, from augmented images", size / 2**30, limit / 2**30,
            )  # fmt: skip
        return
    if processes.is_main():
        log.info("frozen: the features of all images are computed once, without augmentation")
    labels = torch.from_numpy(run.train.labels)
    train = features_of(run, run.network, run.train, "training images")
    if run.watch is not None:
        run.watch.features = features_of(run, run.network, run.watch.split, "watched images")
    run.test_features = features_of(run, run.network, data.test)
    run.images = KeptBatches(train, labels, run.images.order)
    if run.again is not None:
        run.again = KeptBatches(train, labels, run.again.order)
    run.kept = True
    run.step = step_of(_Probe(run.network.joint), run.accelerator, run.config)


def features_of(run: Run, network: TwoHeads, split: Split, title: str = "test images") -> Tensor:
    """Return the features (N, D) of a split in evaluation mode, on the run's device; each process does its share."""
    network.eval()
    device = run.accelerator.device
    rows = processes.mine(torch.arange(len(split)))
    own = [
        torch.zeros(0, network.joint.in_features, device=device)
    ]  # with fewer images than processes, some processes have none
    with torch.no_grad(), run.autocast():
        batches = evaluation_batches(split, run.preprocess, run.config, rows)
        tracked = track(batches, len(batches), title, show=processes.is_main())
        own += [network.features(images.to(device, non_blocking=True)).float() for images, _, _ in tracked]
    return processes.whole(torch.cat(own), rows.to(device), len(split))
