"""Runs to the end on small and awkward sets of images, of which steps or processes might get none."""

from pathlib import Path

import numpy as np
import pytest

from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data.split import Data, Split
from breadcrumbs.training.run.fit import _epoch, fit
from breadcrumbs.training.run.journal import Journal, read_log
from breadcrumbs.training.run.state import prepare

pytestmark = pytest.mark.slow

SEVEN = (40, 22, 14, 10, 7, 5, 3)  # 101 images: at batch size 8 a ceiling of the share left the last step empty


def noise(counts: tuple[int, ...], tests: int = 2) -> Data:
    """Images of 12 × 12 in memory, `counts` of each class to train on and `tests` to test on."""

    def split(numbers: tuple[int, ...]) -> Split:
        labels = np.repeat(np.arange(len(numbers)), numbers)
        pixels = np.random.default_rng(0).integers(0, 200, (len(labels), 12, 12), dtype=np.uint8)
        return Split(labels, np.arange(len(labels)), pixels=pixels + labels[:, None, None].astype(np.uint8) * 7)

    return Data(split(counts), split((tests,) * len(counts)), tuple(f"c{n}" for n in range(len(counts))))


SETS = [(SEVEN, 8), ((2, 1), 2), ((3, 2), 2), ((5, 1, 1), 64), ((1,) * 30, 7), ((90, 1), 4)]
METHODS = ("breadcrumb", "breadcrumb-paper", "crt")


def small(batch: int, method: str) -> TrainConfig:
    """Three epochs on such images."""
    return TrainConfig(size=12, epochs=3, batch_size=batch, method=method, learning_rate=0.01)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("counts", "batch"), SETS)
def test_every_epoch_has_finite_losses(tmp_path: Path, method: str, counts: tuple[int, ...], batch: int) -> None:
    """With few images, many classes, a small or a large batch; of both heads as soon as the second learns."""
    config = small(batch, method)
    run, journal = prepare(config, noise(counts)), Journal(tmp_path, config.epochs, 1)
    for _ in range(config.epochs):
        _epoch(run, journal, tmp_path)

    log = read_log(tmp_path)
    assert [line["epoch"] for line in log] == [1, 2, 3]
    assert all(np.isfinite(line["joint_loss"]) for line in log)
    assert all(np.isfinite(line["balanced_loss"]) for line in log[1:])


@pytest.mark.parametrize(("counts", "batch", "method"), [(*one, METHODS[n % 3]) for n, one in enumerate(SETS)])
def test_a_run_goes_to_the_end(tmp_path: Path, method: str, counts: tuple[int, ...], batch: int) -> None:
    """A bundle is made of every such set, with its name in the manifest and in the report's title."""
    config = small(batch, method).model_copy(update={"name": "a" * 64})

    bundle = fit(config, tmp_path / "out", data=noise(counts))

    assert bundle.manifest.train_counts == counts
    assert bundle.manifest.name == config.name
    assert f"<title>{config.name}: {method}" in (tmp_path / "out" / "report" / "index.html").read_text()


def test_steps_without_a_crumb_are_no_error(tmp_path: Path) -> None:
    """Where most classes have no training image there are fewer crumbs than steps; a step without one is no error."""
    whole = noise((30, *([1] * 9)))
    data = Data(whole.train.take(np.arange(30)), whole.test, whole.classes)

    fit(small(2, "breadcrumb"), tmp_path / "out", data=data)

    assert all(np.isfinite(line["joint_loss"]) for line in read_log(tmp_path / "out"))
