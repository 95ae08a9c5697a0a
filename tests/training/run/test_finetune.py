"""Fine-tuning: the heads begin on the pretrained network, the best epoch is exported, or the start itself."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from ranks import log_of, train

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data.dataset import load
from breadcrumbs.training.data.split import Data, Split
from breadcrumbs.training.recipes import RECIPES
from breadcrumbs.training.run import features
from breadcrumbs.training.run.features import features_of
from breadcrumbs.training.run.fit import _announce, _epoch, _start, _stopped, export_checkpoint, fit
from breadcrumbs.training.run.head_start import fit_heads
from breadcrumbs.training.run.journal import Journal, read_log
from breadcrumbs.training.run.snapshots import path_of
from breadcrumbs.training.run.state import Run, prepare, restore, save_checkpoint, state_of

SIDE = 32


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights of a tiny network with batch norm."""
    return weights_of("test_resnet", tmp_path_factory.mktemp("weights"))


def weights_of(name: str, folder: Path) -> Path:
    """A file of seeded weights of a network."""
    torch.manual_seed(2)
    torch.save(timm.create_model(name).state_dict(), folder / "weights.pth")
    return folder / "weights.pth"


def colours(counts: tuple[int, ...], tests: int = 4) -> Data:
    """Images in memory whose class is their brightness, under noise."""

    def split(numbers: tuple[int, ...]) -> Split:
        labels = np.repeat(np.arange(len(numbers)), numbers)
        pixels = np.random.default_rng(len(labels)).integers(0, 40, (len(labels), SIDE, SIDE), dtype=np.uint8)
        return Split(labels, np.arange(len(labels)), pixels=pixels + (labels % 4 * 60)[:, None, None].astype(np.uint8))

    return Data(split(counts), split((tests,) * len(counts)), tuple(f"Ł{n}" for n in range(len(counts))))


def finetune(weights: Path, **more: Any) -> TrainConfig:
    """The recipe for a tiny network."""
    own = {
        "architecture": "test_resnet", "weights": weights, "pretrained": False, "size": SIDE, "batch_size": 16,
        "workers": 0, "epochs": 3, "learning_rate": 1e-4, "augmentation": "none",
    }  # fmt: skip
    return TrainConfig.model_validate(RECIPES["finetune"].model_dump() | own | more)


def without_seconds(out: Path) -> list[dict[str, Any]]:
    """The log without what a clock says."""
    return [{key: value for key, value in line.items() if "seconds" not in key} for line in read_log(out)]


def head_bytes(bundle: Bundle) -> tuple[bytes, ...]:
    """Both heads of a bundle."""
    return tuple((bundle.folder / name).read_bytes() for name in ("head.onnx", "joint-head.onnx"))


def test_the_recipe_is_for_pretrained_networks() -> None:
    """Only a network that is trained from pretrained weights has a head start."""
    own = RECIPES["finetune"]

    assert own.head_start
    assert own.patience is not None
    assert not own.model_copy(update={"frozen": True}).head_start
    assert not own.model_copy(update={"pretrained": False}).head_start
    assert own.model_copy(update={"pretrained": False, "weights": Path("weights.pth")}).head_start
    assert not any(found.head_start or found.patience for name, found in RECIPES.items() if name != "finetune")


@pytest.mark.parametrize("name", ["plain", "crt", "breadcrumb", "breadcrumb-paper"])
def test_a_run_without_patience_trains_on_every_image(name: str) -> None:
    """Nothing is watched and nothing is drawn unless the configuration says so."""
    data = colours((20, 12))
    run = prepare(TrainConfig(size=SIDE, method=name), data)

    assert run.train is data.train
    assert run.watch is None


@pytest.mark.parametrize("counts", [(40, 20), (60, 12, 1)])
@pytest.mark.parametrize("ema", [None, 0.9])
def test_both_heads_know_the_images_before_training(weights: Path, counts: tuple[int, ...], ema: float | None) -> None:
    """The joint head knows most images, the balanced head most classes, and the backbone is as it was."""
    config, data = finetune(weights, ema=ema), colours(counts)
    run, before = prepare(config, data), prepare(config, data)

    fit_heads(run)

    found = features_of(run, run.measured, data.test)
    labels = torch.from_numpy(data.test.labels)
    for head in (run.measured.joint, run.measured.balanced):
        assert float((head(found).argmax(1) == labels).float().mean()) > 0.6
    for own, other in zip(run.network.features.parameters(), before.network.features.parameters(), strict=True):
        assert torch.equal(own, other)
    assert torch.equal(run.network.joint.weight, run.measured.joint.weight)


def test_a_drawn_part_of_the_images_is_enough(weights: Path) -> None:
    """Where the features would take too much memory, equally many images of each class are fitted, with its weight."""
    config, data = finetune(weights), colours((80, 12, 1))
    whole, part = prepare(config, data), prepare(config, data)
    few = 30 * 4 * whole.network.joint.in_features

    fit_heads(whole)
    fit_heads(part, limit=few)

    labels = torch.from_numpy(data.test.labels)
    found = features_of(part, part.network, data.test)
    assert not torch.equal(whole.network.joint.weight, part.network.joint.weight)
    assert float((part.network.balanced(found).argmax(1) == labels).float().mean()) > 0.6


def test_the_first_epoch_is_better_than_from_random_heads(weights: Path, tmp_path: Path) -> None:
    """On separable images, the network and both heads are better after one epoch than after one from random heads."""
    data = colours((40, 24, 12))
    lines = {}
    for start in ("head", "random"):
        run = prepare(finetune(weights, start=start), data)
        with Journal(tmp_path / start, 3, 0) as journal:
            if start == "head":
                _start(run, journal, tmp_path / start)
            _epoch(run, journal, tmp_path / start)
        lines[start] = read_log(tmp_path / start)[-1]

    assert lines["head"]["joint_loss"] < lines["random"]["joint_loss"]
    assert lines["head"]["joint"]["balanced"] > lines["random"]["joint"]["balanced"]
    assert lines["head"]["balanced"]["balanced"] > lines["random"]["balanced"]["balanced"]


@pytest.mark.parametrize("method", ["plain", "crt", "breadcrumb"])
def test_batch_norm_keeps_its_statistics(weights: Path, tmp_path: Path, method: str) -> None:
    """After a head start the weights learn, and the statistics that the heads were fitted to stay."""
    run = prepare(finetune(weights, method=method), colours((30, 15)))
    before = {name: value.clone() for name, value in run.network.features.state_dict().items()}

    with Journal(tmp_path, 3, 0) as journal:
        _start(run, journal, tmp_path)
        _epoch(run, journal, tmp_path)

    after = run.network.features.state_dict()
    statistics = [name for name in before if "running" in name]
    assert statistics
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    assert not all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
@pytest.mark.parametrize(("learning_rate", "method"), [(0.05, "breadcrumb"), (0.5, "plain")])
def test_a_harmful_training_is_given_up(
    weights: Path, tmp_path: Path, learning_rate: float, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With an absurd learning rate the start is exported, and log, metrics and report say so with both numbers."""
    caplog.set_level(logging.INFO, "breadcrumbs.training")
    config, data = (
        finetune(weights, learning_rate=learning_rate, epochs=9, patience=2, method=method),
        colours((40, 20)),
    )
    started = prepare(config, data)
    fit_heads(started)

    bundle = fit(config, tmp_path / "out", data=data)

    watched = bundle.manifest.metrics["watched"]
    told = watched["verdict"]
    assert told.startswith("the frozen start was ")
    assert watched["exported_epoch"] == 0
    assert [line["epoch"] for line in read_log(tmp_path / "out")] == [0, 1, 2]
    assert told in caplog.text
    assert "stopped after epoch 2 of 9" in caplog.text
    for page in ("report/index.html", "bundle/report/index.html"):
        assert told[1:] in (tmp_path / "out" / page).read_text()
    expected = features_of(started, started.network, data.train).numpy()
    newest = bundle.snapshots()[0]
    assert newest.epoch == 1
    np.testing.assert_allclose(newest.features, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    assert bundle.manifest.train_counts == (40, 20)


@pytest.mark.slow
def test_the_best_epoch_is_exported(weights: Path, tmp_path: Path) -> None:
    """From random heads, a later epoch is the best: the bundle has its weights, and no later crumbs."""
    config = finetune(weights, start="random", learning_rate=1e-2, epochs=8, patience=3)
    out = tmp_path / "out"

    bundle = fit(config, out, data=colours((60, 30, 12)))

    lines = {line["epoch"]: line for line in read_log(out)}
    best = bundle.manifest.metrics["watched"]["exported_epoch"]
    scores = {epoch: line["watched"] for epoch, line in lines.items()}
    assert scores[best] == max(scores.values())
    assert best == min(epoch for epoch, score in scores.items() if score == scores[best])
    assert 0 < best < max(lines)
    assert max(lines) == min(8, best + 3)
    newest = bundle.snapshots()[0]
    assert newest.epoch == best + 1
    assert np.array_equal(newest.weight, snapshots.read(path_of(out / "snapshots", best)).weight)


@pytest.fixture(scope="module")
def alone(images: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of two runs that nobody stopped, by how their heads begin; nobody may change them."""
    folders = {}
    for start, learning_rate, ema in (("head", 1e-3, 0.9), ("random", 1e-2, None)):
        config = finetune(weights, data=str(images), start=start, patience=2, ema=ema, epochs=7)
        folders[start] = tmp_path_factory.mktemp("alone") / start
        fit(config.model_copy(update={"learning_rate": learning_rate}), folders[start])
    return folders


@pytest.mark.slow
@pytest.mark.parametrize(("start", "epochs"), [("head", None), ("head", 0), ("random", 2), ("head", 7)])
def test_a_stopped_run_goes_on_exactly(alone: dict[str, Path], tmp_path: Path, start: str, epochs: int | None) -> None:
    """Stopped before the head start, after it, after an epoch or after the last: the same log and the same bundle."""
    whole = bundles.read(alone[start] / "bundle")
    config = TrainConfig.model_validate_json((alone[start] / "config.json").read_text())
    run = prepare(config, load(config))
    save_checkpoint(tmp_path / "checkpoint.pt", state_of(run))
    if epochs is not None:
        with Journal(tmp_path, config.epochs, 0) as journal:
            if config.head_start:
                _start(run, journal, tmp_path)
            while run.epoch < epochs and not _stopped(run):
                _epoch(run, journal, tmp_path)

    resumed = fit(config, tmp_path, resume=True)

    assert without_seconds(tmp_path) == without_seconds(alone[start])
    assert resumed.backbone_digest == whole.backbone_digest
    assert head_bytes(resumed) == head_bytes(whole)
    assert resumed.manifest.metrics["watched"] == whole.manifest.metrics["watched"]


@pytest.mark.slow
def test_export_gives_the_best_epoch(alone: dict[str, Path], tmp_path: Path) -> None:
    """`breadcrumbs export` makes the bundle of the best epoch too, not of the last."""
    whole = bundles.read(alone["random"] / "bundle")
    shutil.copytree(alone["random"], tmp_path / "copy", ignore=shutil.ignore_patterns("bundle"))

    assert head_bytes(export_checkpoint(tmp_path / "copy")) == head_bytes(whole)


def test_a_checkpoint_from_before_fine_tuning_goes_on(images: Path) -> None:
    """A checkpoint without the newer fields is one of their defaults."""
    config = TrainConfig(data=str(images), size=16)
    state = state_of(prepare(config, load(config)))
    older = json.loads(state["config"])
    del older["start"], older["patience"]
    run = prepare(config, load(config))

    restore(run, {**state, "config": json.dumps(older)})

    assert run.epoch == 0


@pytest.mark.parametrize("counts", [(3, 2), (200, 1, 1, 1), (1,) * 1000])
def test_sets_without_an_image_to_spare_are_not_watched(
    weights: Path, counts: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """Where most classes have few images, a warning says that none is watched, and all are learned from."""
    run = prepare(finetune(weights), colours(counts))

    _announce(run)

    assert "no image is watched, since fewer than half of the classes have 10 training images" in caplog.text
    assert (run.watch, len(run.train)) == (None, sum(counts))


@pytest.mark.slow
def test_a_run_that_is_not_watched_exports_the_last_epoch(weights: Path, tmp_path: Path) -> None:
    """The heads begin on the network, every epoch is trained, and there is no comparison in the metrics."""
    bundle = fit(finetune(weights, epochs=2, patience=1), tmp_path / "out", data=colours((5, 4, 1)))

    assert "watched" not in bundle.manifest.metrics
    assert [line["epoch"] for line in read_log(tmp_path / "out")] == [0, 1, 2]
    assert bundle.snapshots()[0].epoch == 3


def test_a_frozen_network_is_watched_without_further_passes(weights: Path, tmp_path: Path) -> None:
    """With `frozen` every image passes the network once, the watched ones too, and training stops all the same."""
    data = colours((40, 20))
    run: Run = prepare(finetune(weights, frozen=True, epochs=5, patience=2), data)
    sizes: list[int] = []
    run.network.features.network.register_forward_hook(lambda *call: sizes.append(len(call[1][0])))

    features.keep(run)
    with Journal(tmp_path, 5, 1) as journal:
        for _ in range(2):
            _epoch(run, journal, tmp_path)

    assert sum(sizes) == len(data.train) + len(data.test)
    assert run.watch is not None
    assert set(run.watch.scores) == {1, 2}


@pytest.mark.slow
def test_two_processes_stop_as_one(images: Path, tmp_path: Path) -> None:
    """Two processes fit the same heads, see the same scores and stop after the same epoch."""
    file = weights_of("test_convnext", tmp_path)
    flags = ["--recipe", "finetune", "--data", str(images), "--architecture", "test_convnext", "--no-pretrained"]
    flags += ["--weights", str(file), "--size", "32", "--batch-size", "9", "--workers", "0", "--epochs", "4"]
    flags += ["--patience", "1", "--learning-rate", "0.001"]
    one, two = tmp_path / "1", tmp_path / "2"

    train(one, 1, *flags)
    said = train(two, 2, *flags)

    assert said.count("stopped after epoch") == 1
    assert [line["watched"] for line in log_of(one)] == [line["watched"] for line in log_of(two)]
    verdicts = {bundles.read(out / "bundle").manifest.metrics["watched"]["verdict"] for out in (one, two)}
    assert len(verdicts) == 1
