"""From a split of images to batches of uint8 tensors: decoding and augmentation, nothing after.

Training images are augmented here by torchvision; test images go through `models.preprocess.fit`, the transform that
the server uses. Normalisation is `training.network`'s. It knows nothing of networks or losses.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from models.preprocess import Preprocess, fit
from training.config import TrainConfig
from training.data import Split

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
        "none": [v2.Resize((size, size), antialias=True)],
    }
    chain = v2.Compose(steps[config.augmentation])

    def augment(image: Tensor) -> Tensor:
        augmented: Tensor = chain(image.permute(2, 0, 1))
        return augmented.permute(1, 2, 0).contiguous()

    return augment


def training_batches(
    split: Split, config: TrainConfig, generator: torch.Generator, sampler: torch.utils.data.Sampler[int] | None = None
) -> DataLoader[Batch]:
    """Every image once an epoch in an order drawn from `generator`, or as `sampler` says, augmented."""
    return DataLoader(
        Images(split, augmentation(config)),
        batch_size=config.batch_size,
        shuffle=sampler is None,
        sampler=sampler,
        generator=generator,
        num_workers=config.workers,
        pin_memory=torch.cuda.is_available(),
    )


def test_batches(split: Split, preprocess: Preprocess, config: TrainConfig) -> DataLoader[Batch]:
    """Every image once, in order, as the server would see it."""

    def prepare(image: Tensor) -> Tensor:
        return torch.from_numpy(np.array(fit(image.numpy(), preprocess)))

    return DataLoader(
        Images(split, prepare), batch_size=4 * config.batch_size, num_workers=config.workers, pin_memory=False
    )
