"""Runs to the end on small and awkward sets of images, of which steps or processes might get none."""

from pathlib import Path

import numpy as np
import pytest

from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data.split import Data, Split
from breadcrumbs.training.run.fit import fit
from breadcrumbs.training.run.journal import read_log

pytestmark = pytest.mark.slow

SEVEN = (40, 22, 14, 10, 7, 5, 3)  # 101 images: at batch size 8 a ceiling of the share left the last step empty


def noise(counts: tuple[int, ...], tests: int = 2) -> Data:
    """Images of 12 × 12 in memory, `counts` of each class to train on and `tests` to test on."""

    def split(numbers: tuple[int, ...]) -> Split:
        labels = np.repeat(np.arange(len(numbers)), numbers)
        pixels = np.random.default_rng(0).integers(0, 200, (len(labels), 12, 12), dtype=np.uint8)
        return Split(labels, np.arange(len(labels)), pixels=pixels + labels[:, None, None].astype(np.uint8) * 7)

    return Data(split(counts), split((tests,) * len(counts)), tuple(f"c{n}" for n in range(len(counts))))


@pytest.mark.parametrize("method", ["breadcrumb", "breadcrumb-paper", "crt"])
@pytest.mark.parametrize(
    ("counts", "batch"), [(SEVEN, 8), ((2, 1), 2), ((3, 2), 2), ((5, 1, 1), 64), ((1,) * 30, 7), ((90, 1), 4)]
)
def test_a_run_goes_to_the_end(tmp_path: Path, method: str, counts: tuple[int, ...], batch: int) -> None:
    """With few images, many classes, a small or a large batch, every epoch has finite losses and a bundle is made."""
    config = TrainConfig.model_validate(
        {"size": 12, "epochs": 3, "batch_size": batch, "method": method, "learning_rate": 0.01}
    )

    bundle = fit(config, tmp_path / "out", data=noise(counts))

    log = read_log(tmp_path / "out")
    assert [line["epoch"] for line in log] == [1, 2, 3]
    assert all(np.isfinite(line["joint_loss"]) for line in log)
    assert all(np.isfinite(line["balanced_loss"]) for line in log[1:])
    assert bundle.manifest.train_counts == counts


def test_steps_without_a_crumb_are_no_error(tmp_path: Path) -> None:
    """Where most classes have no training image there are fewer crumbs than steps; a step without one is no error."""
    whole = noise((30, *([1] * 9)))
    data = Data(whole.train.take(np.arange(30)), whole.test, whole.classes)

    fit(TrainConfig(size=12, epochs=3, batch_size=2, learning_rate=0.01), tmp_path / "out", data=data)

    assert all(np.isfinite(line["joint_loss"]) for line in read_log(tmp_path / "out"))


@pytest.mark.parametrize("name", ["shop", "a" * 64])
def test_a_name_is_the_models_everywhere(tmp_path: Path, name: str) -> None:
    """`--name` is in the manifest and in the report's title."""
    bundle = fit(TrainConfig(size=12, epochs=1, name=name), tmp_path / "out", data=noise((5, 3)))

    assert bundle.manifest.name == name
    assert f"<title>{name}: breadcrumb" in (tmp_path / "out" / "report" / "index.html").read_text()
