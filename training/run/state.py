"""The state of one training run: created, saved in a checkpoint, and restored exactly.

It knows nothing of epochs, losses or what is written beside the checkpoint.

Letters: N images, D feature dimensions, C classes.
"""

import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from breadcrumbs.models import backbones
from breadcrumbs.models.errors import BreadcrumbsError, FormatError
from breadcrumbs.models.files import write_whole
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.models.networks import Backbone
from breadcrumbs.training import processes
from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data.dataset import Data
from breadcrumbs.training.data.loader import Batch, TrainingBatches, preprocess_for
from breadcrumbs.training.data.order import BalancedOrder, Order
from breadcrumbs.training.data.split import Split
from breadcrumbs.training.network import Features, TwoHeads
from breadcrumbs.training.run.trail import Trail
from breadcrumbs.training.run.watch import Watch, divided


class TrainingError(BreadcrumbsError):
    """A run that cannot go on."""


class Batches(Protocol):
    """Batches of the training images in some order, or of the features that a frozen network computes from them."""

    order: Order

    def __len__(self) -> int:
        """Return the steps of an epoch."""

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield this process's part of every batch of an epoch."""


@dataclass(eq=False)
class Run:
    """The state of one run.

    Attributes:
        train: the images that are learned from: the data's training images without the watched ones.
        watch: the comparison of the epochs; None means that every epoch is trained and the last is exported.
        network: the network that is trained.
        step: its trunk as a training step calls it: compiled, or averaging gradients over the processes, if needed.
        average: the moving average of the network; None means that there is none.
        trail: the crumbs; None means that the method has none.
        images: every training image once an epoch.
        again: class-balanced images for a second forward pass; None means that the method has none.
        optimizers, schedules: of the trunk, and of the balanced head.
        epoch: the last finished one.
        kept: whether `images` and `again` return features, which a frozen network computes once
            (`training.run.features`).
        test_features: f32 (M, D) of the test images, if `kept`.
    """

    config: TrainConfig
    data: Data
    train: Split
    preprocess: Preprocess
    accelerator: Accelerator
    network: TwoHeads
    step: nn.Module
    average: AveragedModel | None
    trail: Trail | None
    images: Batches
    again: Batches | None
    optimizers: tuple[Optimizer, Optimizer]
    schedules: tuple[CosineAnnealingLR, CosineAnnealingLR]
    epoch: int = 0
    kept: bool = False
    test_features: torch.Tensor | None = None
    watch: Watch | None = None

    @property
    def measured(self) -> TwoHeads:
        """The network that is evaluated and exported: the moving average, if there is one."""
        return self.network if self.average is None else cast(TwoHeads, self.average.module)

    def autocast(self) -> torch.autocast:
        """Return a context in which the forward pass is in bfloat16, if the configuration says so."""
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=_half(self.config))


def backbone_of(config: TrainConfig, *, bare: bool = False) -> Backbone:
    """Make a run's backbone. It needs no images, so a wrong configuration is refused before any image is read.

    Args:
        config: of the run.
        bare: keep random weights, which a checkpoint will replace.

    Raises:
        BackboneError: there is no such backbone for images of that size, or no such weights for it here.
    """
    torch.manual_seed(config.seed)
    pretrained, weights = (False, None) if bare else (config.pretrained, config.weights)
    return backbones.create(config.architecture, pretrained, size=config.size, weights=weights)


def prepare(config: TrainConfig, data: Data, backbone: Backbone | None = None) -> Run:
    """Make the network, the trail and the optimizers of a run, on the GPU if there is one.

    Args:
        config: of the run.
        data: the images.
        backbone: the result of `backbone_of` for this configuration; None means that it is made here.

    Raises:
        TrainingError: there are more processes than images in a step.
        BackboneError: as `backbone_of`.
    """
    accelerator = Accelerator(mixed_precision="no")  # `Run.autocast` sets the precision of a step
    backbone = backbone or backbone_of(config)
    preprocess = preprocess_for(data.train, config, backbone.pixels)
    network = TwoHeads(Features(backbone, preprocess), backbone.feature_dim, len(data.classes)).to(accelerator.device)
    network.to(memory_format=torch.channels_last)  # the order of the pixels: a fifth faster
    network.features.requires_grad_(not config.frozen)
    average = _average(network, config.ema)
    train, watch = _parts(config, data)
    labels = torch.from_numpy(train.labels)
    order = Order(len(labels), config.batch_size, config.seed)
    if len(labels) // len(order) < processes.world():
        raise TrainingError(f"{processes.world()} processes cannot share steps of {len(labels) // len(order)} images")
    twice = config.method in ("crt", "breadcrumb-paper")
    again = BalancedOrder(labels, config.batch_size, config.seed) if twice else None
    optimizers = (
        _trunk_optimizer(network, config),
        _sgd(network.balanced.parameters(), config.balanced_learning_rate, config),
    )
    steps = config.epochs * len(order)
    return Run(
        config, data, train, preprocess, accelerator, network, step_of(network.trunk, accelerator, config), average,
        _trail(labels, len(data.classes), backbone.feature_dim, accelerator, config),
        TrainingBatches(train, config, order, preprocess.interpolation),
        None if again is None else TrainingBatches(train, config, again, preprocess.interpolation),
        optimizers, (CosineAnnealingLR(optimizers[0], steps), CosineAnnealingLR(optimizers[1], steps)),
        watch=watch,
    )  # fmt: skip


def _parts(config: TrainConfig, data: Data) -> tuple[Split, Watch | None]:
    """The images that are learned from, and the comparison of the epochs on the others."""
    parts = None if config.patience is None else divided(data.train, len(data.classes), config.seed)
    if config.patience is None or parts is None:
        return data.train, None
    return parts[0], Watch(parts[1], config.patience)


def _average(network: TwoHeads, decay: float | None) -> AveragedModel | None:
    if decay is None:
        return None
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)


def _half(config: TrainConfig) -> bool:
    return config.precision == "bf16" or (config.precision == "auto" and torch.cuda.is_available())


def step_of(trunk: nn.Module, accelerator: Accelerator, config: TrainConfig) -> nn.Module:
    """Return a module as a training step calls it: compiled, or averaging gradients over the processes, if needed."""
    if processes.world() > 1 and accelerator.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(trunk)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    if config.compile:
        trunk = torch.compile(trunk)  # type: ignore[assignment]  # it is a module, torch's types say a callable
    if processes.world() == 1:
        return trunk
    devices = [accelerator.device] if accelerator.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(trunk, device_ids=devices)


def _trail(
    labels: torch.Tensor, classes: int, feature_dim: int, accelerator: Accelerator, config: TrainConfig
) -> Trail | None:
    if not config.method.startswith("breadcrumb"):
        return None
    return Trail(
        labels, classes, feature_dim,
        device=accelerator.device, dtype=torch.bfloat16 if _half(config) else torch.float32,
        uniform=config.method != "breadcrumb-paper", seed=config.seed,
    )  # fmt: skip


def _trunk_optimizer(network: TwoHeads, config: TrainConfig) -> Optimizer:
    parameters = [p for p in network.trunk.parameters() if p.requires_grad]
    if config.optimizer == "adamw":
        return AdamW(parameters, config.learning_rate, weight_decay=config.weight_decay)
    return _sgd(parameters, config.learning_rate, config)


def _sgd(parameters: Iterable[nn.Parameter], learning_rate: float, config: TrainConfig) -> SGD:
    return SGD(
        parameters, learning_rate, config.momentum, weight_decay=config.weight_decay, nesterov=config.momentum > 0
    )


def state_of(run: Run) -> dict[str, Any]:
    """Return everything that a checkpoint holds."""
    return {
        "config": run.config.model_dump_json(),
        "epoch": run.epoch,
        "network": run.network.state_dict(),
        "average": None if run.average is None else run.average.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in run.optimizers],
        "schedules": [schedule.state_dict() for schedule in run.schedules],
        "trail": None if run.trail is None else run.trail.state_dict(),
        "watch": None if run.watch is None else run.watch.state_dict(),
    }


def restore(run: Run, state: dict[str, Any]) -> None:
    """Restore a run from the content of a checkpoint.

    Raises:
        TrainingError: the checkpoint was made with another configuration.
    """
    # A checkpoint from before there was a field is one of its default.
    was = json.loads(TrainConfig().model_dump_json()) | json.loads(state["config"])
    now = json.loads(run.config.model_dump_json())
    decides = [name for name in now if name != "check"]  # the check of the images does not change the run
    changed = [f"{name} was {was.get(name)!r}, is {now[name]!r}" for name in decides if was.get(name) != now[name]]
    if changed:
        raise TrainingError("a resumed run keeps its configuration, but " + "; ".join(changed))
    run.network.load_state_dict(state["network"])
    if run.average is not None:
        run.average.load_state_dict(state["average"])
    for part, saved in zip(run.optimizers, state["optimizers"], strict=True):
        part.load_state_dict(saved)
    for schedule, saved in zip(run.schedules, state["schedules"], strict=True):
        schedule.load_state_dict(saved)
    if run.trail is not None:
        run.trail.load_state_dict(state["trail"])
    if run.watch is not None:
        run.watch.load_state_dict(state["watch"])
    run.epoch = state["epoch"]


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; the file is complete or absent."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(path, buffer.getvalue())


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint with `weights_only`, so that it cannot run code.

    Raises:
        FormatError: the file is missing or damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise FormatError(
            f"no checkpoint at {path}; `breadcrumbs train --out {path.parent}` writes one after each epoch"
        ) from error
    except Exception as error:  # pickle, zip and torch each raise their own
        raise FormatError(f"{path} is damaged: {error}") from error
    return state
