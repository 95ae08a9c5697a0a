"""Features of a frozen network: computed once, the same heads as from images, within a bound."""

from pathlib import Path

import pytest
import torch
from small_run import small_config
from torch import Tensor

from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data.dataset import load
from breadcrumbs.training.run import features
from breadcrumbs.training.run.epoch import train_epoch
from breadcrumbs.training.run.fit import fit
from breadcrumbs.training.run.journal import read_log
from breadcrumbs.training.run.state import Run, prepare

METHODS = ("plain", "crt", "breadcrumb", "breadcrumb-paper")


def frozen(images: Path, **more: object) -> TrainConfig:
    return TrainConfig.model_validate({**small_config(images).model_dump(), "frozen": True} | more)


def counted(run: Run) -> list[int]:
    """How many images each forward pass of the network has, from now on."""
    sizes: list[int] = []
    run.network.features.network.register_forward_hook(lambda *call: sizes.append(len(call[1][0])))
    return sizes


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("epochs", [1, 4])
def test_a_frozen_network_sees_each_image_once(images: Path, method: str, epochs: int) -> None:
    """Whatever the method and however many epochs: each training and test image passes the network once."""
    config = frozen(images, method=method)
    run = prepare(config, load(config))
    seen = counted(run)

    features.keep(run)
    for _ in range(epochs):
        train_epoch(run)
        if run.trail is not None:
            run.trail.close_epoch()
        run.epoch += 1

    assert sum(seen) == len(run.data.train) + len(run.data.test)


@pytest.mark.parametrize("method", METHODS)
def test_kept_features_train_the_heads_that_images_train(images: Path, method: str) -> None:
    """Where augmentation changes nothing, heads trained on kept features are those trained on images."""
    config = frozen(images, method=method, augmentation="none", crop="squash")
    heads: list[tuple[Tensor, ...]] = []
    for kept in (True, False):
        run = prepare(config, load(config))
        features.keep(run, features.LIMIT if kept else 0)
        assert run.kept is kept
        train_epoch(run)
        heads.append((run.network.joint.weight.detach(), run.network.balanced.weight.detach()))

    for own, other in zip(*heads, strict=True):
        assert torch.allclose(own, other, atol=1e-5)


def test_too_many_features_are_not_kept(images: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Beyond the bound the run goes on as without, and says so with both sizes."""
    config = frozen(images)
    run = prepare(config, load(config))

    features.keep(run, limit=1000)

    assert (run.kept, run.test_features) == (False, None)
    assert "the limit is 0.0; they are computed in every epoch" in caplog.text
    assert train_epoch(run)["joint_loss"] > 0


@pytest.mark.slow
def test_a_frozen_run_goes_to_the_end(images: Path, tmp_path: Path) -> None:
    """What was measured on kept features is what the exported bundle does on the images."""
    bundle = fit(frozen(images, epochs=2), tmp_path / "out")

    last = read_log(tmp_path / "out")[-1]
    for head in ("joint", "balanced"):
        told, exported = last[head], bundle.manifest.metrics[head]
        assert (told["all"], told["recall"]) == (exported["all"], list(exported["recall"]))
