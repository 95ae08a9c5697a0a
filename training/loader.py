"""From a split of images to batches of uint8 tensors: decoding and augmentation, nothing after.

Training images are augmented here by torchvision; test images go through `models.preprocess.fit`, the transform that
the server uses. Normalisation is `training.network`'s. It knows nothing of networks or losses.
"""

import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, SequentialSampler
from torchvision.transforms import v2

from models.preprocess import Preprocess, fit
from training.config import TrainConfig
from training.data import Split
from training.order import Look, Order

Batch = tuple[Tensor, Tensor, Tensor]
"""images uint8 (B, H, W, 3), labels int64 (B,), rows int64 (B,) of the split."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Images(Dataset[Any]):
    """A split as torch sees it: one uint8 image (H, W, 3), its label and its row."""

    def __init__(self, split: Split, prepare: Callable[[Tensor], Tensor]) -> None:
        self._split, self._prepare = split, prepare

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, row: int) -> tuple[Tensor, int, int]:
        image = torch.from_numpy(np.array(self._split.image(row)))
        return self._prepare(image), int(self._split.labels[row]), row


class Augmented(Images):
    """The same, augmented by chances of the look's own: whichever process or worker looks, it sees the same."""

    def __getitem__(self, look: Look) -> tuple[Tensor, int, int]:  # type: ignore[override]  # what `Order` yields
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(zlib.crc32(repr(look).encode()))
            return super().__getitem__(look[-1])


def preprocess_for(split: Split, config: TrainConfig) -> Preprocess:
    """Choose the evaluation transform and the normalisation of a run.

    Images in memory are measured; files get ImageNet's mean and deviation, and the usual margin of 8/7 before the crop.
    """
    if split.pixels is None:
        return Preprocess(
            height=config.size, width=config.size, resize=round(config.size * 8 / 7),
            mean=IMAGENET_MEAN, std=IMAGENET_STD,
        )  # fmt: skip
    scaled = split.pixels.reshape(-1, 3 if split.pixels.ndim == 4 else 1) / 255
    mean, std = (np.broadcast_to(v.round(4), 3).tolist() for v in (scaled.mean(0), scaled.std(0)))
    return Preprocess(height=config.size, width=config.size, mean=tuple(mean), std=tuple(std))


def augmentation(config: TrainConfig) -> Callable[[Tensor], Tensor]:
    """Return the training transform: uint8 (rows, columns, 3) -> uint8 (size, size, 3)."""
    size = config.size
    steps: dict[str, list[torch.nn.Module]] = {
        "crop-flip": [
            v2.Resize((size, size), antialias=True),
            v2.RandomCrop(size, padding=size // 8),
            v2.RandomHorizontalFlip(),
        ],
        "resized-crop": [
            v2.RandomResizedCrop(size, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.4, 0.4, 0.4),
        ],
        "crop": [v2.Resize((size, size), antialias=True), v2.RandomCrop(size, padding=size // 8)],
        "flip": [v2.Resize((size, size), antialias=True), v2.RandomHorizontalFlip()],
        "none": [v2.Resize((size, size), antialias=True)],
    }
    return partial(_augment, v2.Compose(steps[config.augmentation]))


def _augment(chain: v2.Compose, image: Tensor) -> Tensor:
    augmented: Tensor = chain(image.permute(2, 0, 1))
    return augmented.permute(1, 2, 0).contiguous()


class TrainingBatches:
    """The images as an order says, augmented. Workers stay from epoch to epoch."""

    def __init__(self, split: Split, config: TrainConfig, order: Order) -> None:
        self.order = order
        self._loader: DataLoader[Batch] = DataLoader(
            Augmented(split, augmentation(config)),
            batch_sampler=order,
            persistent_workers=config.workers > 0,
            **_workers(split, config),
        )

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, number: int) -> Iterator[Batch]:
        """This process's part of every batch of an epoch."""
        self.order.epoch = number
        return iter(self._loader)


def augmented_batches(split: Split, config: TrainConfig, epoch: int) -> DataLoader[Batch]:
    """Every image once, in order, augmented as in training: each look by chances of its own, the same every time."""
    looks: list[Look] = [("snapshot", config.seed, epoch, row, row) for row in range(len(split))]
    images = Augmented(split, augmentation(config))
    return DataLoader(images, batch_size=4 * config.batch_size, sampler=looks, **_workers(split, config))


def evaluation_batches(
    split: Split, preprocess: Preprocess, config: TrainConfig, rows: Tensor | None = None
) -> DataLoader[Batch]:
    """Every image once, in order, or some `rows` int64 (M,) of them, as the server would see it."""
    images = Images(split, partial(_prepare, preprocess))
    sampler = SequentialSampler(images) if rows is None else rows.tolist()
    return DataLoader(images, batch_size=4 * config.batch_size, sampler=sampler, **_workers(split, config))


def _prepare(preprocess: Preprocess, image: Tensor) -> Tensor:
    return torch.from_numpy(np.array(fit(image.numpy(), preprocess)))


def _workers(split: Split, config: TrainConfig) -> dict[str, Any]:
    return {
        "num_workers": config.workers,
        # A fork has the connections to a bucket, and not the threads that serve them: such workers start afresh.
        "multiprocessing_context": "spawn" if config.workers and split.remote else None,
        "prefetch_factor": config.prefetch if config.workers else None,
        "pin_memory": torch.cuda.is_available(),
        "generator": torch.Generator(),  # of the workers' seeds, which nothing here depends on
    }
