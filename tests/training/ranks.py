"""Training by one or several processes, started as torchrun starts them but forked; torchrun has a test of its own."""

import contextlib
import json
from pathlib import Path
from typing import Any

from forked import started
from ports import free_port

NETWORK = ("--architecture", "test_convnext", "--learning-rate", "0.01", "--seed", "3")
"""Without batch norm, whose statistics gloo cannot share."""


def fresh(images: Path) -> list[str]:
    """The flags of a new run."""
    return ["--recipe", "demo", "--data", str(images), "--size", "32", "--batch-size", "9", *NETWORK]


def train(out: Path, count: int, *flags: str) -> str:
    """Run `breadcrumbs train` by so many processes to its end; return what they say."""
    together = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    with contextlib.ExitStack() as stack:
        parts = []
        for rank in range(count):
            each = together | {"RANK": rank, "LOCAL_RANK": rank} if count > 1 else {}
            environment = {name: str(value) for name, value in each.items()}
            one = started("train", "--out", str(out), *flags, environment=environment)
            parts.append(stack.enter_context(one))
        ended = [part.wait() for part in parts]
        said = "".join(part.err for part in parts)
    assert ended == [0] * count, said
    return said


def log_of(out: Path) -> list[dict[str, Any]]:
    """The log of a run, an epoch a line."""
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
