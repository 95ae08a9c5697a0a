"""Two machines train as one with two processes does: two groups of processes that meet at an address, on one host."""

import contextlib
import os
from pathlib import Path

import pytest
import torch
from forked import started
from ports import free_port
from ranks import fresh, log_of, train

TORCHRUN = "from torch.distributed.run import main; main()"


def ends(places: tuple[Path, Path], out: Path) -> list[tuple[int, str]]:
    """Exit status and messages of both machines' parts of a run, each on the images in its place.

    torchrun is forked from a process that has imported torch; what it starts is not.
    """
    meet = ["--nnodes=2", "--master-addr=127.0.0.1", f"--master-port={free_port()}", "--nproc-per-node=1"]
    with contextlib.ExitStack() as stack:
        parts = []
        for rank, images in enumerate(places):
            line = [*meet, f"--node-rank={rank}", "-m", "breadcrumbs", "train", "--out", str(out)]
            line += [*fresh(images), "--epochs", "2"]
            parts.append(stack.enter_context(started(*line, environment=os.environ, code=TORCHRUN)))
        return [(part.wait(), part.err) for part in parts]


@pytest.mark.slow
def test_two_machines_train_as_one_with_two_processes(images: Path, tmp_path: Path) -> None:
    """The same numbers to the last bit, and one writer."""
    two = ends((images, images), tmp_path / "two")
    train(tmp_path / "one", 2, *fresh(images), "--epochs", "2")

    assert [status for status, _ in two] == [0, 0], two
    assert [said.count("epoch 2/2: joint_loss") for _, said in two] == [1, 0]
    states = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("one", "two")]
    torch.testing.assert_close(states[0]["network"], states[1]["network"], rtol=0, atol=0)
    for ours, theirs in zip(log_of(tmp_path / "one"), log_of(tmp_path / "two"), strict=True):
        assert all(
            ours.get(name) == theirs.get(name)
            for name in ("joint_loss", "balanced_loss", "joint", "balanced", "crumbs")
        )
    assert (tmp_path / "two" / "bundle" / "manifest.json").is_file()


@pytest.mark.slow
def test_a_machine_that_fails_ends_the_other(images: Path, tmp_path: Path) -> None:
    """One that finds no images ends with what it misses, and the other does not wait for ever."""
    found = ends((images, tmp_path / "nowhere"), tmp_path / "out")

    assert all(status != 0 for status, _ in found)
    assert f"no data at {tmp_path / 'nowhere'}" in found[1][1]
