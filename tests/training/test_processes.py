"""Several processes train as one does: the same crumbs, the same draws, the same numbers but for the last bits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import fresh, log_of, train

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.training import processes
from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data.dataset import load
from breadcrumbs.training.run.fit import _epoch
from breadcrumbs.training.run.journal import Journal
from breadcrumbs.training.run.state import TrainingError, prepare
from breadcrumbs.training.run.trail import Trail


def test_one_process_does_everything() -> None:
    """Alone, a process has every row, sums change nothing, and putting together restores the order."""
    rows, place = torch.arange(5), torch.tensor([2, 0, 1])

    assert processes.world() == 1
    assert processes.is_main()
    assert torch.equal(processes.mine(rows), rows)
    assert torch.equal(processes.add_up(rows.clone()), rows)
    assert processes.whole(torch.tensor([[2.0], [0.0], [1.0]]), place, 3).squeeze(1).tolist() == [0, 1, 2]


def test_a_trail_is_put_together_from_parts() -> None:
    """Two trails that recorded half of the images each, added up, are one that recorded all of them."""
    labels, features = torch.tensor([0, 0, 0, 1, 1]), torch.randn(5, 4)
    alone, first, second = (Trail(labels, 2, 4) for _ in range(3))
    alone.record(torch.arange(5), features)
    first.record(torch.tensor([0, 3]), features[[0, 3]])
    second.record(torch.tensor([1, 2, 4]), features[[1, 2, 4]])
    others = iter([second._fresh, second._seen.int()])

    first.pool(lambda tensor: tensor.add_(next(others)))
    for trail in (alone, first):
        trail.close_epoch()

    assert torch.equal(alone.balanced(0, 1).features, first.balanced(0, 1).features)


@pytest.fixture(scope="module")
def alone(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of three epochs by one process; nobody may change it."""
    out = tmp_path_factory.mktemp("alone") / "run"
    train(out, 1, *fresh(images), "--epochs", "3")
    return out


@pytest.mark.slow
@pytest.mark.parametrize("method", ["breadcrumb", "crt"])
def test_two_processes_train_as_one(images: Path, alone: Path, tmp_path: Path, method: str) -> None:
    """Two gloo processes keep the same crumbs in the same places, and measure what one measures within float noise."""
    one, two = alone if method == "breadcrumb" else tmp_path / "1", tmp_path / "2"
    if not one.exists():
        train(one, 1, *fresh(images), "--epochs", "3", "--method", method)
    said = train(two, 2, *fresh(images), "--epochs", "3", "--method", method)

    assert said.count("epoch 3/3: joint_loss") == 1  # a slow epoch also has lines of its bar
    for ours, theirs in zip(log_of(one), log_of(two), strict=True):
        assert ours["joint_loss"] == pytest.approx(theirs["joint_loss"], rel=2e-3)
        assert ours.get("balanced_loss", 0) == pytest.approx(theirs.get("balanced_loss", 0), rel=2e-3)
        assert ours["joint"]["recall"] == theirs["joint"]["recall"]
        assert ours.get("crumbs") == theirs.get("crumbs")
    states = [torch.load(out / "checkpoint.pt", weights_only=True) for out in (one, two)]
    torch.testing.assert_close(states[0]["network"], states[1]["network"], rtol=1e-2, atol=2e-3)
    if method == "breadcrumb":
        for name in ("next", "filled", "epochs"):
            assert torch.equal(*(torch.as_tensor(state["trail"][name]) for state in states))
        torch.testing.assert_close(
            states[0]["trail"]["residuals"], states[1]["trail"]["residuals"], rtol=1e-2, atol=1e-2
        )
        for path in sorted((one / "snapshots").iterdir()):
            ours, theirs = snapshots.read(path), snapshots.read(two / "snapshots" / path.name)
            assert ours.ids is not None
            assert np.array_equal(ours.ids, theirs.ids)
            assert sorted(set(ours.ids.tolist())) == sorted(ours.ids.tolist())
            np.testing.assert_allclose(ours.features.astype(np.float32), theirs.features.astype(np.float32), atol=2e-2)
    features = [bundles.read(out / "bundle").snapshots()[0].features for out in (one, two)]
    np.testing.assert_allclose(*features, rtol=1e-2, atol=2e-2)


@pytest.mark.slow
def test_two_processes_go_on_as_one(alone: Path, tmp_path: Path) -> None:
    """A run of one process, stopped after two epochs, is resumed by two, and ends where one would have ended."""
    chosen, cut = (alone / "config.json").read_text(), tmp_path / "cut"
    cut.mkdir()
    (cut / "config.json").write_text(chosen)
    config = TrainConfig.model_validate_json(chosen)
    run, journal = prepare(config, load(config)), Journal(cut, 3, 1)
    for _ in range(2):
        _epoch(run, journal, cut)
    train(cut, 2, "--resume")

    assert len(log_of(cut)) == 3
    ours, theirs = log_of(alone)[-1], log_of(cut)[-1]
    assert ours["joint_loss"] == pytest.approx(theirs["joint_loss"], rel=2e-3)
    assert ours["balanced_loss"] == pytest.approx(theirs["balanced_loss"], rel=2e-3)


def test_more_processes_than_images_a_step_are_refused(images: Path) -> None:
    """Each process needs an image in every step: the error says how many there are of both."""
    config = TrainConfig(data=str(images), size=16, batch_size=2)
    world = processes.world
    processes.world = lambda: 3
    try:
        with pytest.raises(TrainingError, match="3 processes cannot share steps of 1 images"):
            prepare(config, load(config))
    finally:
        processes.world = world
