"""One pass over the images: what each method does to the two heads and to the backbone."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import small_config

from breadcrumbs.training.data.dataset import load
from breadcrumbs.training.run.epoch import train_epoch
from breadcrumbs.training.run.fit import fit
from breadcrumbs.training.run.state import Run, TrainingError, prepare, restore, state_of

pytestmark = pytest.mark.slow


def trained(images: Path, epochs: int = 2, **more: Any) -> Run:
    """A run of some epochs on the small images."""
    config = small_config(images, epochs=epochs).model_copy(update=more)
    run = prepare(config, load(config))
    for _ in range(epochs):
        train_epoch(run)
        if run.trail is not None:
            run.trail.close_epoch()
        run.epoch += 1
    return run


def test_the_first_epoch_leaves_the_balanced_head_alone(images: Path) -> None:
    """Nobody has left a crumb in the first epoch; from the second on the head learns, whatever class is short."""
    config = small_config(images)
    run = prepare(config, load(config))
    before = run.network.balanced.weight.detach().clone()

    first = train_epoch(run)
    untouched = torch.equal(run.network.balanced.weight, before)
    assert run.trail is not None
    run.trail.close_epoch()
    run.epoch += 1
    second = train_epoch(run)

    assert untouched
    assert not run.trail.complete
    assert not torch.equal(run.network.balanced.weight, before)
    assert first.keys() == {"joint_loss"}
    assert second.keys() == {"joint_loss", "balanced_loss"}


def test_methods_share_one_backbone(images: Path) -> None:
    """`plain`, `crt` and `breadcrumb` give one backbone and joint head, bit for bit; only the balanced heads differ."""
    runs = {method: trained(images, method=method) for method in ("plain", "crt", "breadcrumb")}
    trunks = [run.network.trunk.state_dict() for run in runs.values()]

    for name, value in trunks[0].items():
        assert all(torch.equal(value, trunk[name]) for trunk in trunks[1:]), name
    weights = [run.network.balanced.weight for run in runs.values()]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    assert runs["plain"].trail is None
    assert runs["crt"].trail is None


def test_the_papers_warm_up_forwards_balanced_images(images: Path) -> None:
    """`breadcrumb-paper` teaches the balanced head from the first epoch on, and batch norm sees the second pass."""
    run = trained(images, epochs=1, method="breadcrumb-paper")
    ours = trained(images, epochs=1)
    norms = [int(r.network.features.network.norm.num_batches_tracked) for r in (ours, run)]

    assert norms == [6, 12]
    assert not torch.equal(run.network.balanced.weight, ours.network.balanced.weight)


def test_a_frozen_backbone_stays(images: Path) -> None:
    """With `frozen` both heads learn and no weight or statistic of the backbone moves."""
    config = small_config(images)
    before = prepare(config, load(config)).network
    run = trained(images, frozen=True)

    for name, value in before.features.state_dict().items():
        assert torch.equal(value, run.network.features.state_dict()[name]), name
    assert not torch.equal(before.joint.weight, run.network.joint.weight)
    assert not torch.equal(before.balanced.weight, run.network.balanced.weight)


def test_the_moving_average_is_what_is_measured(images: Path) -> None:
    """With `ema` the measured network is the slow average of the weights that learn, batch norm's statistics too."""
    run = trained(images, epochs=1, ema=0.5)
    plain = trained(images, epochs=1)

    assert run.measured is not run.network
    assert plain.measured is plain.network
    for name, value in run.network.state_dict().items():
        assert torch.equal(value, plain.network.state_dict()[name]), name
    assert not torch.equal(run.measured.joint.weight, run.network.joint.weight)
    difference = (run.measured.joint.weight - run.network.joint.weight).norm() / run.network.joint.weight.norm()
    assert difference < 0.5


def test_clipping_bounds_the_step(images: Path) -> None:
    """With a tiny `clip` and no decay the weights hardly move in an epoch."""
    config = small_config(images)
    before = prepare(config, load(config)).network.joint.weight.detach()
    moved = {
        clip: float(
            (trained(images, epochs=1, clip=clip, weight_decay=0.0).network.joint.weight.detach() - before).norm()
        )
        for clip in (None, 1e-4)
    }

    assert moved[1e-4] < 0.01 * moved[None]


@pytest.mark.parametrize("more", [{"precision": "bf16"}, {"optimizer": "adamw", "learning_rate": 1e-3}])
def test_other_ways_of_training_learn_too(images: Path, more: dict[str, Any]) -> None:
    """bf16 and AdamW lower the loss; the trail's numbers are bf16 where the forward pass is."""
    config = small_config(images).model_copy(update=more)
    run = prepare(config, load(config))
    first = train_epoch(run)["joint_loss"]
    later = [train_epoch(run)["joint_loss"] for _ in range(3)][-1]

    assert later < first
    assert run.trail is not None
    assert (run.trail.state_dict()["residuals"].dtype == torch.bfloat16) == ("precision" in more)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_a_compiled_step_trains_the_same_network(images: Path) -> None:
    """With `compile` the loss of the first epoch is that of the plain step, and checkpoints are interchangeable."""
    config = small_config(images).model_copy(update={"batch_size": 45, "augmentation": "none"})
    losses, runs = [], []
    for chosen in (config, config.model_copy(update={"compile": True})):
        run = prepare(chosen, load(chosen))
        losses.append([train_epoch(run)["joint_loss"] for _ in range(2)])
        runs.append(run)

    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert runs[0].network.state_dict().keys() == runs[1].network.state_dict().keys()


@pytest.mark.parametrize("method", ["plain", "crt", "breadcrumb", "breadcrumb-paper"])
def test_every_method_goes_on_exactly(images: Path, method: str) -> None:
    """Brought back in a new run after an epoch, training gives the same numbers, average and trail included."""
    whole = trained(images, epochs=3, method=method, ema=0.9)

    config = whole.config
    cut = prepare(config, load(config))
    train_epoch(cut)
    if cut.trail is not None:
        cut.trail.close_epoch()
    cut.epoch += 1
    resumed = prepare(config, load(config))
    restore(resumed, state_of(cut))
    for _ in range(2):
        train_epoch(resumed)
        if resumed.trail is not None:
            resumed.trail.close_epoch()
        resumed.epoch += 1

    expected, found = state_of(whole), state_of(resumed)
    for part in ("network", "average", "trail"):
        for name, value in (expected[part] or {}).items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(found[part][name])), (part, name)


def test_a_loss_that_is_not_finite_stops_the_run(images: Path, tmp_path: Path) -> None:
    """The error names the epoch, the step and the files of its batch, and the last good checkpoint stays."""
    config = small_config(images).model_copy(update={"learning_rate": 1e18})

    with pytest.raises(TrainingError, match=r"not finite from step \d+ of epoch 1 on.*\d\d\.png"):
        fit(config, tmp_path / "out")
    assert (tmp_path / "out" / "checkpoint.pt").exists()
