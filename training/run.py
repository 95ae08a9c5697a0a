"""The moving parts of one training run: made, kept in a checkpoint, and brought back exactly.

It knows nothing of epochs, losses or what is written beside the checkpoint.

Letters: N images, D feature dimensions, C classes.
"""

import json
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from models import backbones
from models.errors import BreadcrumbsError
from models.preprocess import Preprocess
from training.config import TrainConfig
from training.data import Data
from training.loader import preprocess_for
from training.network import Features, TwoHeads
from training.trail import Trail


class TrainingError(BreadcrumbsError):
    """A run that cannot go on."""


@dataclass(eq=False)
class Run:
    """The moving parts of one run."""

    config: TrainConfig
    data: Data
    preprocess: Preprocess
    accelerator: Accelerator
    network: TwoHeads
    trail: Trail
    optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer]  # backbone with joint head, balanced head
    schedules: tuple[CosineAnnealingLR, CosineAnnealingLR]
    epoch: int = 0  # the last one finished


def prepare(config: TrainConfig, data: Data) -> Run:
    """Make the network, the trail and the optimizers of a run, on the GPU if there is one."""
    accelerator = Accelerator(mixed_precision="bf16" if torch.cuda.is_available() else "no")
    torch.manual_seed(config.seed)
    backbone = backbones.create(config.architecture, config.pretrained)
    preprocess = preprocess_for(data.train, config)
    network = TwoHeads(Features(backbone, preprocess), backbone.feature_dim, len(data.classes)).to(accelerator.device)
    network.to(memory_format=torch.channels_last)  # as the pixels lie: a fifth faster
    joint = [*network.features.parameters(), *network.joint.parameters()]
    optimizers = (
        _sgd(joint, config.learning_rate, config),
        _sgd(list(network.balanced.parameters()), config.balanced_learning_rate, config),
    )
    steps = config.epochs * -(-len(data.train) // config.batch_size)
    schedules = (CosineAnnealingLR(optimizers[0], steps), CosineAnnealingLR(optimizers[1], steps))
    trail = Trail(
        torch.from_numpy(data.train.labels), len(data.classes), backbone.feature_dim,
        device=accelerator.device, dtype=torch.bfloat16 if accelerator.device.type == "cuda" else torch.float32,
        uniform=config.warmup != "paper", seed=config.seed,
    )  # fmt: skip
    return Run(config, data, preprocess, accelerator, network, trail, optimizers, schedules)


def _sgd(parameters: list[nn.Parameter], learning_rate: float, config: TrainConfig) -> torch.optim.SGD:
    return torch.optim.SGD(
        parameters, learning_rate, config.momentum, weight_decay=config.weight_decay, nesterov=config.momentum > 0
    )


def state_of(run: Run) -> dict[str, Any]:
    """Everything that a checkpoint holds."""
    return {
        "config": run.config.model_dump_json(),
        "epoch": run.epoch,
        "network": run.network.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in run.optimizers],
        "schedules": [schedule.state_dict() for schedule in run.schedules],
        "trail": run.trail.state_dict(),
    }


def restore(run: Run, state: dict[str, Any]) -> None:
    """Go on from a checkpoint.

    Raises:
        TrainingError: it was made with another configuration.
    """
    was, now = json.loads(state["config"]), json.loads(run.config.model_dump_json())
    changed = [f"{name} was {was.get(name)!r}, is {now[name]!r}" for name in now if was.get(name) != now[name]]
    if changed:
        raise TrainingError("a resumed run keeps its configuration, but " + "; ".join(changed))
    run.network.load_state_dict(state["network"])
    for part, saved in zip(run.optimizers, state["optimizers"], strict=True):
        part.load_state_dict(saved)
    for schedule, saved in zip(run.schedules, state["schedules"], strict=True):
        schedule.load_state_dict(saved)
    run.trail.load_state_dict(state["trail"])
    run.epoch = state["epoch"]
