"""From a split of images to batches of uint8 tensors: decoding and augmentation only.

Training images are augmented here by torchvision; test images go through `models.images.preprocess.fit`, the transform
that the server uses. Normalisation is `training.network`'s. It knows nothing of networks or losses.
"""

import math
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, SequentialSampler, default_collate
from torchvision.transforms import v2

from breadcrumbs.models import machine
from breadcrumbs.models.arrays import Pixels as Array
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.images.preprocess import Interpolation, Preprocess, fit
from breadcrumbs.models.networks import IMAGENET, Pixels
from breadcrumbs.training.config import PixelConfig, TrainConfig
from breadcrumbs.training.data.dataset import DataError, Split
from breadcrumbs.training.data.order import Look, Order
from breadcrumbs.training.stopping import uninterrupted

Batch = tuple[Tensor, Tensor, Tensor]
"""images uint8 (B, H, W, 3), labels int64 (B,), rows int64 (B,) of the split."""

Sample = tuple[Tensor, int, int] | Exception

_MODES: dict[Interpolation, v2.InterpolationMode] = {  # torchvision's nearest mode for tensors
    "nearest": v2.InterpolationMode.NEAREST_EXACT,
    "box": v2.InterpolationMode.BILINEAR,
    "bilinear": v2.InterpolationMode.BILINEAR,
    "hamming": v2.InterpolationMode.BILINEAR,
    "bicubic": v2.InterpolationMode.BICUBIC,
    "lanczos": v2.InterpolationMode.BICUBIC,
}


class Images(Dataset[Any]):
    """A split as torch sees it: one uint8 image (H, W, 3), its label and its row.

    What goes wrong with an image is its sample: raised in a worker process, it would come back as a traceback.
    """

    def __init__(self, split: Split, read: Callable[[int], Array]) -> None:
        self._split, self._read = split, read

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, row: int) -> Sample:
        try:
            return torch.from_numpy(np.array(self._read(row))), int(self._split.labels[row]), row
        except BreadcrumbsError as error:
            return error
        except MemoryError:
            return DataError(f"{self._split.name(row)}: out of memory; use fewer --workers, or make the image smaller")
        except Exception as error:  # noqa: BLE001 - a bug; its message says at which image
            return RuntimeError(f"{self._split.name(row)}: {type(error).__name__}: {error}")


class Augmented(Images):
    """The same, augmented with the look's own seed: every process and worker gets the same pixels."""

    def __getitem__(self, look: Look) -> Sample:  # type: ignore[override]  # what `Order` yields
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(zlib.crc32(repr(look).encode()))
            return super().__getitem__(look[-1])


class Batches(DataLoader[Batch]):
    """A loader's batches; the first sample that is an error is raised here, in the process that trains."""

    def __init__(self, images: Images, split: Split, config: TrainConfig, **how: Any) -> None:
        workers = workers_of(config)
        super().__init__(
            images,
            collate_fn=_collate,
            num_workers=workers,
            # A fork has the connections to a bucket, and not the threads that serve them: such workers start afresh.
            multiprocessing_context="spawn" if workers and split.remote else None,
            prefetch_factor=config.prefetch if workers else None,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # for the workers' seeds, on which nothing here depends
            **how,
        )

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch declares a class of its own
        try:
            with uninterrupted():  # torch's iterator, half made, prints a traceback when it is deleted
                batches = super().__iter__()
            for batch in batches:
                if isinstance(batch, Exception):
                    raise batch
                yield batch
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise DataError(
                f"a worker process that decodes images ended ({str(error).partition(': ')[2] or error}); if memory, or "
                "shared memory in a container, is short, use fewer --workers, 0 for none"
            ) from error


def workers_of(config: TrainConfig) -> int:
    """The number of worker processes, at most one a core; it changes no pixel."""
    return min(config.workers, machine.cores())


def _collate(samples: list[Sample]) -> Batch | Exception:
    failed = next((sample for sample in samples if isinstance(sample, Exception)), None)
    if failed is not None:
        return failed
    batch: Batch = tuple(default_collate(samples))
    return batch


def preprocess_for(split: Split, config: TrainConfig, pixels: Pixels = IMAGENET) -> Preprocess:
    """Choose the evaluation transform and the normalisation of a run.

    Files are treated as the network's weights expect it. Images in memory are small: they are resized without a crop,
    and where there are no weights their own mean and deviation are measured. The configuration overrules each.

    Args:
        split: the training images.
        config: its settings override the defaults.
        pixels: what the network's weights were trained on.
    """
    if split.pixels is not None and not config.pretrained and config.weights is None:
        pixels = _measured(split.pixels)
    return evaluation_of(pixels, config, config.size, config.weights, in_memory=split.pixels is not None)


def evaluation_of(
    pixels: Pixels, config: PixelConfig, side: int, weights: Path | None = None, *, in_memory: bool = False
) -> Preprocess:
    """Return the evaluation transform of a network.

    Args:
        pixels: what the network's weights were trained on.
        config: its settings override that.
        side: of the square input, in pixels.
        weights: the file that they came from.
        in_memory: the images are small and in memory: they are not cropped.
    """
    crop = config.crop or (None if in_memory else pixels.crop)
    of = [pixels.source] if weights is None else [pixels.source, f"for {weights.name}"]
    given = [f"--{name}" for name in ("mean", "std", "interpolation", "crop") if getattr(config, name) is not None]
    return Preprocess(
        height=side,
        width=side,
        resize=math.floor(side / crop) if isinstance(crop, float) else None,
        interpolation=config.interpolation or pixels.interpolation,
        mean=config.mean or pixels.mean,
        std=config.std or pixels.std,
        source=", ".join([*of, *given])[:200],
    )


def _measured(pixels: Array) -> Pixels:
    scaled = pixels.reshape(-1, 3 if pixels.ndim == 4 else 1) / 255
    mean, std = (tuple(np.broadcast_to(v.round(4), 3).tolist()) for v in (scaled.mean(0), scaled.std(0)))
    return Pixels(mean, std, "bilinear", None, "measured on the training images")


def augmentation(config: TrainConfig, interpolation: Interpolation = "bilinear") -> Callable[[Tensor], Tensor]:
    """Return the training transform: uint8 (rows, columns, 3) -> uint8 (size, size, 3)."""
    size = config.size
    mode = _MODES[interpolation]
    steps: dict[str, list[torch.nn.Module]] = {
        "crop-flip": [v2.RandomCrop(size, padding=size // 8), v2.RandomHorizontalFlip()],
        "resized-crop": [
            v2.RandomResizedCrop(size, interpolation=mode, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.4, 0.4, 0.4),
        ],
        "crop": [v2.RandomCrop(size, padding=size // 8)],
        "flip": [v2.RandomHorizontalFlip()],
        "none": [torch.nn.Identity()],
    }
    whole = Preprocess(height=size, width=size, interpolation=interpolation, mean=(0, 0, 0), std=(1, 1, 1))
    squash = None if config.augmentation == "resized-crop" else whole
    return partial(_augment, v2.Compose(steps[config.augmentation]), squash)


def _augment(chain: v2.Compose, squash: Preprocess | None, image: Tensor) -> Tensor:
    """Resize to a square, unless the chain does, by Pillow: torchvision's takes gigabytes for a long narrow image."""
    if squash is not None:
        image = _prepare(squash, image)
    augmented: Tensor = chain(image.permute(2, 0, 1))
    return augmented.permute(1, 2, 0).contiguous()


def augmented(split: Split, config: TrainConfig, interpolation: Interpolation) -> Callable[[int], Array]:
    """Return what reads an image of a split and augments it; it can be sent to another process."""
    return partial(_read_augmented, split, augmentation(config, interpolation))


def _read_augmented(split: Split, change: Callable[[Tensor], Tensor], row: int) -> Array:
    return change(torch.from_numpy(np.array(split.image(row)))).numpy()


class TrainingBatches:
    """The images in the given order, augmented. Workers stay from epoch to epoch."""

    def __init__(
        self, split: Split, config: TrainConfig, order: Order, interpolation: Interpolation = "bilinear"
    ) -> None:
        self.order = order
        images = Augmented(split, augmented(split, config, interpolation))
        self._loader = Batches(images, split, config, batch_sampler=order, persistent_workers=workers_of(config) > 0)

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, number: int) -> Iterator[Batch]:
        """This process's part of every batch of an epoch."""
        self.order.epoch = number
        return iter(self._loader)


def augmented_batches(
    split: Split,
    config: TrainConfig,
    epoch: int,
    interpolation: Interpolation = "bilinear",
    batch_size: int | None = None,
) -> Batches:
    """Every image once, in order, augmented as in training: each with its own seed, the same every time."""
    looks: list[Look] = [("snapshot", config.seed, epoch, row, row) for row in range(len(split))]
    images = Augmented(split, augmented(split, config, interpolation))
    return Batches(images, split, config, batch_size=batch_size or 4 * config.batch_size, sampler=looks)


def evaluation_batches(
    split: Split, preprocess: Preprocess, config: TrainConfig, rows: Tensor | None = None
) -> Batches:
    """Every image once, in order, or some `rows` int64 (M,) of them, transformed as in the server."""
    images = Images(split, partial(split.fitted, preprocess=preprocess))
    sampler = SequentialSampler(images) if rows is None else rows.tolist()
    return Batches(images, split, config, batch_size=4 * config.batch_size, sampler=sampler)


def _prepare(preprocess: Preprocess, image: Tensor) -> Tensor:
    return torch.from_numpy(np.array(fit(image.numpy(), preprocess)))
