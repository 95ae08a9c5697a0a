"""Two machines train as one with two processes does: two groups of processes that meet at an address, on one host."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from patience import PATIENCE
from ports import free_port
from ranks import fresh, log_of, train

ROOT = Path(__file__).parents[3]


def start(images: Path, out: Path, *launch: str) -> subprocess.Popen[str]:
    """One machine's part of a run."""
    line = [sys.executable, "-m", "torch.distributed.run", *launch, "-m", "breadcrumbs", "train", "--out", str(out)]
    line += [*fresh(images), "--epochs", "2"]
    return subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ends(parts: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit status and messages of every machine's part."""
    try:
        return [(part.wait(PATIENCE), part.communicate()[1]) for part in parts]
    finally:
        for part in parts:
            part.kill()


@pytest.mark.slow
def test_two_machines_train_as_one_with_two_processes(images: Path, tmp_path: Path) -> None:
    """The same numbers to the last bit, and one writer."""
    meet = ["--nnodes=2", "--master-addr=127.0.0.1", f"--master-port={free_port()}", "--nproc-per-node=1"]
    two = ends([start(images, tmp_path / "two", *meet, f"--node-rank={rank}") for rank in (0, 1)])
    train(tmp_path / "one", 2, *fresh(images), "--epochs", "2")

    assert [status for status, _ in two] == [0, 0], two
    assert [said.count("epoch 2/2") for _, said in two] == [1, 0]
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
    meet = ["--nnodes=2", "--master-addr=127.0.0.1", f"--master-port={free_port()}", "--nproc-per-node=1"]
    places = (images, tmp_path / "nowhere")
    found = ends([start(place, tmp_path / "out", *meet, f"--node-rank={rank}") for rank, place in enumerate(places)])

    assert all(status != 0 for status, _ in found)
    assert f"no data at {tmp_path / 'nowhere'}" in found[1][1]
