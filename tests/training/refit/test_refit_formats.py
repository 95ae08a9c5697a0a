"""A refit from snapshots in other formats, by the command line."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from forked import command

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models.snapshots import snapshot as snapshots

pytestmark = pytest.mark.slow


def refit(run: Path, snapshot: Path, out: Path) -> "subprocess.CompletedProcess[str]":
    flags = ["--bundle", run / "bundle", "--snapshot", snapshot, "--out", out, "--l2", "0.01", "--prior-offset", "0"]
    return command("refit", *map(str, flags))


def test_an_npz_gives_the_head_of_its_safetensors(run: Path, tmp_path: Path) -> None:
    """The same rows in another container are the same refit; one that leaves a key out is refused by the key."""
    path = max((run / "snapshots").glob("*"))
    own = snapshots.read(path)
    names = np.array(own.classes)[own.labels]
    whole = {"features": own.features, "labels": names, "ids": own.ids, "backbone": own.backbone, "epoch": own.epoch}
    np.savez_compressed(tmp_path / "whole.npz", **whole)
    np.savez_compressed(tmp_path / "part.npz", features=own.features, labels=names, epoch=own.epoch)

    ended = [refit(run, path, tmp_path / "one"), refit(run, tmp_path / "whole.npz", tmp_path / "two")]
    refused = refit(run, tmp_path / "part.npz", tmp_path / "three")

    assert [one.returncode for one in ended] == [0, 0], ended
    assert heads.read(tmp_path / "one/head.safetensors").digest == heads.read(tmp_path / "two/head.safetensors").digest
    assert refused.returncode == 2
    assert "part.npz: the file does not say 'backbone'" in refused.stderr


def test_features_from_elsewhere_become_a_snapshot_once(run: Path, tmp_path: Path) -> None:
    """`breadcrumbs convert` fills in what the file leaves out, from the bundle and the flags, and says so."""
    own = snapshots.read(max((run / "snapshots").glob("*")))
    np.savez(tmp_path / "bare.npz", features=own.features, labels=own.labels)
    files = str(tmp_path / "bare.npz"), str(tmp_path / "made.safetensors")

    ended = command("convert", *files, "--bundle", str(run / "bundle"), "--epoch", "7")
    refused = command("convert", *files)

    assert ended.returncode == 0, ended.stderr
    made = snapshots.read(tmp_path / "made.safetensors")
    assert (made.epoch, made.backbone) == (7, bundles.read(run / "bundle").backbone_digest)
    assert made.classes == own.classes
    np.testing.assert_array_equal(made.features, own.features)
    assert {"backbone: as given", "epoch: as given"} <= set(ended.stdout.splitlines())
    assert refused.returncode == 2
    assert "bare.npz: the file does not say 'backbone'" in refused.stderr
