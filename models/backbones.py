"""From images to features: the networks, and nothing of heads, losses or data.

Three families, by name:

    resnet8 resnet14 resnet20 resnet26 resnet32   He et al. 2016, section 4.2, for images of about 32 pixels; D = 64;
                                                  resnet8x2, resnet8x4 …: twice, four times as wide
    resnet10                                      one basic block a stage, as the paper's ImageNet-LT setting; D = 512
    any name timm knows                           `timm/NAME` where one of the above hides it; `models.timm_backbones`
"""

import hashlib
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from breadcrumbs.models.networks import SMALL, Backbone, BackboneError

__all__ = ["SMALL", "Backbone", "BackboneError", "count_parameters", "create", "weights_digest"]

WIDTHS = {"": 1, "x2": 2, "x4": 4}


class _Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut without parameters (He et al.'s option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.stride, self.grown = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.grown:
            x = functional.pad(x, (0, 0, 0, 0, self.grown // 2, self.grown - self.grown // 2))
        return functional.relu(x + y)


class SmallResNet(nn.Module):
    """The CIFAR residual network of depth 6 n + 2: 16 k, 32 k, 64 k channels, then the spatial mean."""

    def __init__(self, n: int, k: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16 * k, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(16 * k)
        widths = [16 * k] + [16 * k] * n + [32 * k] * n + [64 * k] * n
        strides = [1] * n + [2] + [1] * (n - 1) + [2] + [1] * (n - 1)
        self.blocks = nn.Sequential(
            *(_Block(a, b, stride) for a, b, stride in zip(widths, widths[1:], strides, strict=False))
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 64 k)."""
        x = functional.relu(self.norm(self.conv(x)))
        return cast(Tensor, self.blocks(x)).mean((2, 3))


def create(name: str, pretrained: bool = False, *, size: int | None = None, weights: Path | None = None) -> Backbone:
    """Make a backbone by name.

    Args:
        name: as above.
        pretrained: with timm's pretrained weights, which are downloaded once.
        size: side of the square images, in pixels; None means the size the network was made for.
        weights: a file with weights of this network, in place of those; it is read without executing code.

    Raises:
        BackboneError: the name is unknown, the network does not take images of that size or does not pool its
            features, or the weights cannot be had or do not fit.
    """
    depth, times, width = name.partition("x")
    small = depth in SMALL and times + width in WIDTHS
    if small or name == "resnet10":
        if weights is not None:
            raise BackboneError(f"--weights {weights} is for timm's networks; --architecture is {name}")
        if pretrained:
            raise BackboneError(f"there are no pretrained weights of {name}; take a timm name, for example resnet50")
        return (
            Backbone(SmallResNet(SMALL[depth], WIDTHS[times + width]), 64 * WIDTHS[times + width])
            if small
            else _resnet10()
        )
    from breadcrumbs.models import timm_backbones  # only where it is used: timm takes seconds to import

    return timm_backbones.create(name.removeprefix("timm/"), pretrained=pretrained, size=size, weights=weights)


def _resnet10() -> Backbone:
    from torchvision.models.resnet import BasicBlock, ResNet  # only where it is used: it takes a second to import

    network = ResNet(BasicBlock, [1, 1, 1, 1])
    network.fc = nn.Identity()
    return Backbone(network, 512)


def count_parameters(network: nn.Module) -> int:
    """Trainable parameters of a network."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def weights_digest(network: nn.Module) -> str:
    """The sha256 over a network's parameters and buffers: the name of its feature space before export."""
    state = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        state.update(name.encode())
        state.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return state.hexdigest()
