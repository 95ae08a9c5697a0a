"""Whole training runs: what they write, that they learn, stop and go on."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import command, started
from small_run import CLASSES, COUNTS, small_config

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.training.data.dataset import load
from breadcrumbs.training.emanate import back_track, balanced_target
from breadcrumbs.training.run.fit import fit, train_epoch
from breadcrumbs.training.run.state import TrainingError, load_checkpoint, prepare, restore, save_checkpoint, state_of

pytestmark = pytest.mark.slow
PICTURES = ("groups", "counts-and-recall", "curves", "confusion", "drift", "crumbs")


def lines(run: Path) -> list[dict[str, Any]]:
    """The run's log, an epoch a line; none yet before the first epoch has ended."""
    if not (run / "log.jsonl").exists():
        return []
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def without_seconds(run: Path) -> list[dict[str, Any]]:
    """The log without what a clock says."""
    return [{k: v for k, v in line.items() if "seconds" not in k} for line in lines(run)]


def test_a_run_writes_everything(run: Path) -> None:
    """Configuration, log, checkpoint, TensorBoard, snapshots, metrics and a bundle that verifies."""
    bundle = bundles.read(run / "bundle")

    assert json.loads((run / "config.json").read_text())["epochs"] == 3
    assert [line["epoch"] for line in lines(run)] == [1, 2, 3]
    assert list((run / "tensorboard").glob("events*"))
    assert json.loads((run / "metrics.json").read_text()) == bundle.manifest.metrics
    assert bundle.manifest.classes == CLASSES
    assert bundle.manifest.train_counts == COUNTS
    assert (run / "checkpoint.pt").exists()
    assert {f"{name}.{kind}" for name in PICTURES for kind in ("svg", "png")} <= {
        path.name for path in (run / "report").iterdir()
    }
    for head in ("joint", "balanced"):
        assert {"many", "medium", "few", "all", "ece"} <= set(bundle.manifest.metrics[head])


def test_the_report_examines_the_images_and_the_bundle_shows_none(run: Path) -> None:
    """CSV files and small pictures are in the run's folder; the bundle, which is passed on, has none of them."""
    own, passed_on = ((run / part / "index.html").read_text() for part in ("report", "bundle/report"))

    assert {"suspects.csv", "duplicates.csv", "wrong.csv", "confusions.csv", "classes.csv"} <= {
        path.name for path in (run / "report").iterdir()
    }
    assert "Labels that may be wrong" in own
    assert "Labels that may be wrong" not in passed_on
    assert "image/webp" not in passed_on
    assert "Configuration" in passed_on


def test_both_heads_learn(run: Path) -> None:
    """Colours are easy: both losses fall, and the balanced head beats chance by far."""
    first, last = lines(run)[1], lines(run)[-1]

    assert last["joint_loss"] < lines(run)[0]["joint_loss"]
    assert last["balanced_loss"] < first["balanced_loss"]
    assert last["balanced"]["balanced"] > 0.6


def test_the_bundle_carries_the_newest_snapshot_and_the_crumbs(run: Path) -> None:
    """The newest is one more look with the exported backbone; older ones hold just the classes they balance."""
    bundle = bundles.read(run / "bundle")
    stored = bundle.snapshots()
    newest = stored[0]
    back = back_track(torch.tensor(COUNTS), balanced_target(sum(COUNTS), len(COUNTS))).numpy()

    assert newest.backbone == bundle.backbone_digest
    assert newest.epoch == 4
    assert newest.counts().tolist() == list(COUNTS)
    assert len(stored) > 1
    for older in stored[1:]:
        expected = np.where(back > newest.epoch - older.epoch, COUNTS, 0)
        assert older.counts().tolist() == expected.tolist()


def test_a_runs_snapshots_are_of_the_same_images(run: Path) -> None:
    """The whole snapshots of the newest epochs have every image once, by id, and that epoch's classifier."""
    whole = [snapshots.read(run / "snapshots" / f"epoch-000{e}.safetensors") for e in (2, 3)]

    for snapshot in whole:
        assert sorted(snapshot.ids.tolist()) == list(range(sum(COUNTS)))
        assert snapshot.weight.shape == (3, 64)
    assert whole[0].backbone != whole[1].backbone


def test_a_run_is_not_overwritten(run: Path, images: Path) -> None:
    """A folder that holds a run is refused without --resume."""
    with pytest.raises(TrainingError, match="--resume"):
        fit(small_config(images), run)


def test_a_resumed_run_keeps_its_configuration(run: Path, images: Path) -> None:
    """Going on with other settings is refused, naming them."""
    with pytest.raises(TrainingError, match="batch_size was 8, is 4"):
        fit(small_config(images).model_copy(update={"batch_size": 4}), run, resume=True)


def test_a_run_stopped_in_its_first_epoch_goes_on(images: Path, tmp_path: Path) -> None:
    """The checkpoint from before the first epoch is one to go on from, and trains what a fresh run trains."""
    config = small_config(images, epochs=1)
    run = prepare(config, load(config))
    save_checkpoint(tmp_path / "checkpoint.pt", state_of(run))
    expected = train_epoch(run)

    other = prepare(config, load(config))
    restore(other, load_checkpoint(tmp_path / "checkpoint.pt", torch.device("cpu")))

    assert train_epoch(other) == expected


def test_ctrl_c_leaves_a_run_that_goes_on_exactly(images: Path, tmp_path: Path) -> None:
    """Interrupted and resumed, a run logs the same numbers and ends with the same backbone as one left alone."""
    line = ["train", "--recipe", "demo", "--data", str(images), "--size", "16", "--epochs", "30"]
    line += ["--batch-size", "8", "--learning-rate", "0.05", "--keep-snapshots", "2"]
    alone, cut = tmp_path / "alone", tmp_path / "cut"

    whole = command(*line, "--out", str(alone))
    with started(*line, "--out", str(cut)) as program:
        program.tells(lambda _: len(lines(cut)) >= 3)
        program.send(signal.SIGINT)
        interrupted, said = program.wait(), program.err
    stopped_at = len(lines(cut))
    resumed = command("train", "--resume", "--out", str(cut))

    assert whole.returncode == 0, whole.stderr
    assert interrupted == 130, said
    assert "--resume" in said
    assert "Traceback" not in said
    assert 3 <= stopped_at < 30
    assert resumed.returncode == 0, resumed.stderr
    assert without_seconds(cut) == without_seconds(alone)
    digests = {bundles.read(out / "bundle").backbone_digest for out in (alone, cut)}
    assert len(digests) == 1
