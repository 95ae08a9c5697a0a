"""Two machines train as one with two processes does: two groups of processes that meet at an address, on one host."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from patience import PATIENCE

ROOT = Path(__file__).parents[3]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def start(images: Path, out: Path, *launch: str) -> subprocess.Popen[str]:
    """One machine's part of a run, with a network that has no batch norm, whose statistics gloo cannot share."""
    command = [sys.executable, "-m", "torch.distributed.run", *launch, "-m", "breadcrumbs", "train"]
    command += [
        "--recipe",
        "demo",
        "--data",
        str(images),
        "--out",
        str(out),
        "--size",
        "32",
        "--batch-size",
        "9",
        "--epochs",
        "2",
    ]
    command += ["--architecture", "test_convnext", "--learning-rate", "0.01", "--seed", "3"]
    words = os.environ | {"OMP_NUM_THREADS": "1"}  # torchrun says so only where a machine has several processes
    return subprocess.Popen(command, cwd=ROOT, env=words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ends(parts: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit status and messages of every machine's part."""
    try:
        return [(part.wait(PATIENCE), part.communicate()[1]) for part in parts]
    finally:
        for part in parts:
            part.kill()


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_machines_train_as_one_with_two_processes(images: Path, tmp_path: Path) -> None:
    """The same numbers to the last bit, and one writer."""
    meet = ["--nnodes=2", "--master-addr=127.0.0.1", f"--master-port={free_port()}", "--nproc-per-node=1"]
    two = ends([start(images, tmp_path / "two", *meet, f"--node-rank={rank}") for rank in (0, 1)])
    one = ends([start(images, tmp_path / "one", "--standalone", "--nproc-per-node=2")])

    assert [status for status, _ in two + one] == [0, 0, 0], two
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
