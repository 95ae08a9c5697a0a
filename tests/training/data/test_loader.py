"""Batches: what evaluation sees is what the server sees; what training sees has the right form and a seeded order."""

import gc
import io
import math
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from breadcrumbs.models.images.preprocess import Interpolation, Preprocess, fit
from breadcrumbs.models.images.preprocess import load as load_image
from breadcrumbs.models.networks import IMAGENET, Pixels
from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data.dataset import DataError, Split
from breadcrumbs.training.data.loader import (
    Batch,
    Batches,
    Images,
    TrainingBatches,
    augmentation,
    augmented,
    evaluation_batches,
    preprocess_for,
)
from breadcrumbs.training.data.order import Order
from breadcrumbs.training.stopping import Terminated, stoppable


class SignalsFirst(list[list[int]]):
    """Batches of rows; a signal comes when torch begins to make its iterator, before the iterator can be shut down."""

    number = signal.SIGINT

    def __iter__(self) -> Iterator[list[int]]:
        signal.raise_signal(self.number)
        return super().__iter__()


SHAPES = ((20, 30), (30, 20), (12, 12), (9, 40), (16, 16))


def config(**more: Any) -> TrainConfig:
    return TrainConfig(**{"size": 12, "batch_size": 2} | more)


def some_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def files(tmp_path: Path) -> Split:
    """Five images of different shapes and kinds on disk."""
    paths = []
    for i, shape in enumerate(SHAPES):
        kind = ("png", "jpeg", "webp")[i % 3]
        paths.append(tmp_path / f"{i}.{kind}")
        exif = Image.Exif()
        exif[0x0112] = 6 if i == 1 else 1
        Image.fromarray(some_pixels(*shape, 3)).save(paths[-1], exif=exif)
    return Split(np.arange(5), np.arange(5) + 100, paths=tuple(paths))


def in_memory(rows: int, *shape: int) -> Split:
    return Split(np.arange(rows) % 3, np.arange(rows), pixels=some_pixels(rows, *shape))


@pytest.mark.parametrize("resize", [None, 14, 30])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_evaluation_sees_what_the_server_sees(files: Split, resize: int | None, interpolation: Any) -> None:
    """Evaluation's batches equal `preprocess.load` of the same files, pixel for pixel, in order."""
    transform = Preprocess(
        height=12, width=10, resize=resize, interpolation=interpolation, mean=(0, 0, 0), std=(1, 1, 1)
    )

    batches = list(evaluation_batches(files, transform, config(batch_size=2)))
    images = torch.cat([images for images, _, _ in batches])

    assert images.dtype == torch.uint8
    assert images.shape == (5, 12, 10, 3)
    for image, path in zip(images, files.paths or (), strict=True):
        assert np.array_equal(image.numpy(), load_image(path.read_bytes(), transform))
    assert torch.cat([labels for _, labels, _ in batches]).tolist() == files.labels.tolist()
    assert torch.cat([rows for _, _, rows in batches]).tolist() == [0, 1, 2, 3, 4]


def test_grey_images_in_memory_are_evaluated_as_three_channels() -> None:
    """A grey set in memory gives the same pixels as its PNG files would."""
    split = in_memory(3, 9, 9)
    transform = Preprocess(height=12, width=12, mean=(0, 0, 0), std=(1, 1, 1))
    assert split.pixels is not None

    ((images, _, _),) = evaluation_batches(split, transform, config())

    for image, pixels in zip(images, split.pixels, strict=True):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        assert np.array_equal(image.numpy(), load_image(file.getvalue(), transform))


@pytest.mark.parametrize("mode", ["crop-flip", "crop", "flip", "resized-crop", "none"])
@pytest.mark.parametrize("shape", SHAPES)
def test_augmentation_reaches_the_size(mode: Any, shape: tuple[int, int]) -> None:
    """Whatever the image's shape, each mode gives uint8 (size, size, 3), laid out as rows of pixels."""
    found = augmentation(config(augmentation=mode))(torch.from_numpy(some_pixels(*shape, 3)))

    assert found.dtype == torch.uint8
    assert found.shape == (12, 12, 3)
    assert found.is_contiguous()


def times(mode: Any, image: Tensor, number: int) -> list[Tensor]:
    augment = augmentation(config(augmentation=mode))
    torch.manual_seed(0)
    return [augment(image) for _ in range(number)]


def test_no_augmentation_changes_nothing() -> None:
    """`none` leaves an image of the right size as it is."""
    image = torch.from_numpy(some_pixels(12, 12, 3))

    assert torch.equal(times("none", image, 1)[0], image)


def test_crop_flip_shifts_and_mirrors() -> None:
    """`crop-flip` gives the image or its mirror, shifted by up to an eighth, with black beyond its edge."""
    size, margin = 16, 2
    image = torch.arange(1, size + 1, dtype=torch.uint8).repeat(size, 1).unsqueeze(2).repeat(1, 1, 3)
    augment = augmentation(config(size=size))
    torch.manual_seed(0)

    found = [augment(image)[size // 2, :, 0].tolist() for _ in range(80)]

    row = [0] * margin + list(range(1, size + 1)) + [0] * margin
    shifted = [row[i : i + size] for i in range(2 * margin + 1)]
    assert all(f in shifted or f[::-1] in shifted for f in found)
    assert {tuple(f) for f in found} == {tuple(s) for s in shifted} | {tuple(s[::-1]) for s in shifted}


def test_resized_crop_varies() -> None:
    """`resized-crop` gives another picture every time."""
    found = times("resized-crop", torch.from_numpy(some_pixels(30, 40, 3)), 5)

    assert len({image.numpy().tobytes() for image in found}) == 5


def looks(split: Split, epoch: int = 0, **more: Any) -> list[Batch]:
    """The training batches of an epoch."""
    chosen = config(**more)
    return list(TrainingBatches(split, chosen, Order(len(split), chosen.batch_size, chosen.seed)).epoch(epoch))


def test_batches_carry_their_rows_labels_and_images() -> None:
    """A row names its image and its label, and every image comes once."""
    split = in_memory(11, 12, 12)
    batches = looks(split, augmentation="none")

    assert sorted(torch.cat([rows for _, _, rows in batches]).tolist()) == list(range(11))
    for images, labels, rows in batches:
        assert labels.dtype == rows.dtype == torch.int64
        for image, label, row in zip(images, labels, rows, strict=True):
            assert label == split.labels[row]
            assert np.array_equal(image.numpy(), split.image(int(row)))


def test_an_epoch_can_be_seen_again() -> None:
    """The same epoch gives the same augmented pixels, whatever was drawn before it; another gives others."""
    split = in_memory(11, 12, 12)
    first = looks(split)
    torch.manual_seed(5)

    again, other = looks(split), looks(split, epoch=1)

    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(first, other, strict=True))


def test_looks_leave_the_generator_alone() -> None:
    """Augmentation has chances of its own: dropout and the like draw what they would have drawn without it."""
    torch.manual_seed(0)
    expected = torch.rand(3)

    torch.manual_seed(0)
    looks(in_memory(11, 12, 12))

    assert torch.equal(torch.rand(3), expected)


def test_workers_augment_as_one_process_does(files: Split) -> None:
    """With workers that stay from epoch to epoch, each epoch's pixels are those of no workers at all."""
    chosen = config(workers=2, batch_size=3)
    order = Order(5, 3, 0)
    helped = TrainingBatches(files, chosen, order)

    for epoch in (0, 1):
        alone = looks(files, epoch, batch_size=3)
        for (images, labels, rows), (own, _, own_rows) in zip(helped.epoch(epoch), alone, strict=True):
            assert torch.equal(images, own)
            assert torch.equal(rows, own_rows)
            assert len(labels) in (2, 3)


def test_workers_give_what_one_process_gives(files: Split) -> None:
    """Decoding in other processes changes no pixel and no order."""
    transform = Preprocess(height=12, width=12, mean=(0, 0, 0), std=(1, 1, 1))

    alone, helped = (
        torch.cat([i for i, _, _ in evaluation_batches(files, transform, config(workers=w))]) for w in (0, 1)
    )

    assert torch.equal(alone, helped)


@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 3)])
def test_images_in_memory_are_measured(shape: tuple[int, ...]) -> None:
    """Mean and deviation are those of the training pixels on 0 … 1, by channel; grey counts for all three."""
    split = in_memory(4, *shape)
    assert split.pixels is not None
    values = split.pixels.astype(float) / 255

    found = preprocess_for(split, config())

    channels = [values[..., c] for c in range(3)] if len(shape) == 3 else [values] * 3
    assert found.mean == pytest.approx([c.mean() for c in channels], abs=1e-4)
    assert found.std == pytest.approx([c.std() for c in channels], abs=1e-4)
    assert (found.height, found.width, found.resize) == (12, 12, None)


def test_files_without_weights_get_the_usual_numbers(files: Split) -> None:
    """Files are not measured: ImageNet's mean and deviation, and 8/7 of the size before the crop."""
    found = preprocess_for(files, config(size=28))

    assert (found.mean, found.std) == (IMAGENET.mean, IMAGENET.std)
    assert (found.height, found.width, found.resize) == (28, 28, 32)


CLIP = Pixels((0.48, 0.46, 0.41), (0.27, 0.26, 0.28), "bicubic", 0.9, "timm's some_network.some_weights")


@pytest.mark.parametrize("size", [28, 96, 224, 518])
@pytest.mark.parametrize("crop", [1.0, 0.95, 0.9, 0.875, None])
def test_files_get_what_the_weights_expect(files: Split, size: int, crop: float | None) -> None:
    """Mean, deviation, interpolation and crop are the weights' own, the crop rounded down as timm does."""
    pixels = Pixels(CLIP.mean, CLIP.std, CLIP.interpolation, crop, CLIP.source)

    found = preprocess_for(files, config(size=size, pretrained=True), pixels)

    assert (found.mean, found.std, found.interpolation) == (CLIP.mean, CLIP.std, "bicubic")
    assert found.resize == (None if crop is None else math.floor(size / crop))
    assert found.source == CLIP.source


@pytest.mark.parametrize(
    ("flag", "value", "field", "expected"),
    [
        ("mean", (0.1, 0.2, 0.3), "mean", (0.1, 0.2, 0.3)),
        ("std", (0.4, 0.5, 0.6), "std", (0.4, 0.5, 0.6)),
        ("interpolation", "lanczos", "interpolation", "lanczos"),
        ("crop", 0.5, "resize", 24),
        ("crop", "squash", "resize", None),
    ],
)
@pytest.mark.parametrize("memory", [False, True])
def test_a_flag_overrules_one_value_only(
    files: Split, flag: str, value: object, field: str, expected: object, memory: bool
) -> None:
    """Each of the four flags changes its own value, whatever the others come from, and the source says so."""
    split = in_memory(4, 7, 5) if memory else files
    without = preprocess_for(split, config(), CLIP)

    found = preprocess_for(split, config(**{flag: value}), CLIP)

    assert getattr(found, field) == expected
    assert found.source == f"{without.source}, --{flag}"
    assert found.model_copy(update={field: getattr(without, field), "source": without.source}) == without


def test_images_in_memory_with_weights_are_normalised_as_these(files: Split) -> None:
    """Pretrained weights decide how small images are normalised, too; they are not cropped."""
    found = preprocess_for(in_memory(4, 7, 5), config(pretrained=True), CLIP)

    assert (found.mean, found.std, found.interpolation, found.resize) == (CLIP.mean, CLIP.std, "bicubic", None)


@pytest.mark.parametrize("interpolation", get_args(Interpolation))
@pytest.mark.parametrize("mode", ["crop-flip", "resized-crop", "none"])
def test_every_interpolation_trains_and_evaluates(mode: Any, interpolation: Interpolation) -> None:
    """Whatever weights ask for is known to training and evaluation alike."""
    pixels = some_pixels(30, 40, 3)
    transform = Preprocess(height=12, width=12, resize=14, interpolation=interpolation, mean=(0, 0, 0), std=(1, 1, 1))

    assert augmentation(config(augmentation=mode), interpolation)(torch.from_numpy(pixels)).shape == (12, 12, 3)
    assert fit(pixels, transform).shape == (12, 12, 3)


def test_training_resizes_as_the_weights_expect() -> None:
    """Bicubic and bilinear give different training images."""
    pixels = torch.from_numpy(some_pixels(30, 40, 3))
    bilinear, bicubic = (augmentation(config(augmentation="none"), how)(pixels) for how in ("bilinear", "bicubic"))

    assert not torch.equal(bilinear, bicubic)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("training", [False, True])
def test_a_damaged_image_is_one_sentence_with_its_file(tmp_path: Path, workers: int, training: bool) -> None:
    """With and without worker processes the error has its own type and text, names the file and has no traceback."""
    paths = tuple(tmp_path / f"{n}.png" for n in range(6))
    for path in paths:
        Image.fromarray(some_pixels(20, 20, 3)).save(path)
    whole = paths[3].read_bytes()
    paths[3].write_bytes(whole[: len(whole) // 2])
    split = Split(np.zeros(6, np.int64), np.arange(6), paths=paths)
    chosen = config(workers=workers, batch_size=2)
    batches = (
        TrainingBatches(split, chosen, Order(6, 2, 0)).epoch(0)
        if training
        else evaluation_batches(split, preprocess_for(split, chosen), chosen)
    )

    with pytest.raises(DataError) as caught:
        list(batches)

    assert str(caught.value).startswith(f"{paths[3]}: ")
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_no_fault_of_the_image_says_at_which_image(files: Split, workers: int) -> None:
    """A bug while an image is prepared stays an error of another kind, with the file's name."""

    def broken(_: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError("oh")

    with pytest.raises(RuntimeError, match="ZeroDivisionError: oh") as caught:
        list(Batches(Images(files, broken), files, config(workers=workers), batch_size=2))

    assert str(caught.value).startswith(f"{files.name(0)}: ")


def test_extreme_shapes_are_augmented_in_little_memory() -> None:
    """Whatever the augmentation, memory follows the pixels and the output, 64 MiB at most."""
    program = """
import resource, torch
from typing import get_args
from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data.loader import augmentation
torch.set_num_threads(1)
ways = [augmentation(TrainConfig(size=224, augmentation=mode))
        for mode in get_args(TrainConfig.model_fields["augmentation"].annotation)]
for augment in ways:
    augment(torch.zeros(30, 40, 3, dtype=torch.uint8))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for augment in ways:
    for shape in ((1, 1_000_000), (1_000_000, 1), (3, 400_000)):
        assert augment(torch.zeros(*shape, 3, dtype=torch.uint8)).shape == (224, 224, 3)
print(len(ways), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    ways, most = map(int, ran.stdout.split())
    assert ways == len(get_args(TrainConfig.model_fields["augmentation"].annotation)) > 3
    assert most < 64 * 1024  # KiB


@pytest.mark.parametrize("augment", ["crop-flip", "crop", "flip", "resized-crop", "none"])
def test_what_reads_images_can_be_sent_to_another_process(augment: str) -> None:
    """Workers that start afresh, as those of a bucket do, get it pickled."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 11, 3), np.uint8)
    split = Split(np.zeros(3, np.int64), np.arange(3), pixels=pixels)
    read = augmented(split, config(augmentation=augment, size=8), "bilinear")

    torch.manual_seed(0)
    own = read(1)
    torch.manual_seed(0)
    sent = pickle.loads(pickle.dumps(read))(1)

    assert np.array_equal(own, sent)
    assert own.shape == (8, 8, 3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_while_the_workers_start_is_handled_once_they_have(number: signal.Signals, workers: int) -> None:
    """Raised at once, it left half an iterator, which printed a traceback after the last word of the run."""
    split = in_memory(6, 12, 12)
    order = SignalsFirst([[0, 1, 2], [3, 4, 5]])
    order.number = number
    batches = Batches(Images(split, split.image), split, config(workers=workers), batch_sampler=order)

    with pytest.raises(KeyboardInterrupt) as stopped, stoppable():
        next(iter(batches))

    gc.collect()  # an iterator that cannot be shut down warns here, which is an error
    assert isinstance(stopped.value, Terminated) is (number == signal.SIGTERM)
    assert len(list(Batches(Images(split, split.image), split, config(workers=workers), batch_size=3))) == 2
