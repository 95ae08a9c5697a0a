"""From images to features: the networks, and nothing of heads, losses or data.

Three families, by name:

    resnet8 resnet14 resnet20 resnet26 resnet32   He et al. 2016, section 4.2, for images of about 32 pixels; D = 64;
                                                  resnet8x2, resnet8x4 …: twice, four times as wide
    resnet10                                      one basic block a stage, as the paper's ImageNet-LT setting; D = 512
    any name timm knows                           `timm/NAME` where one of the above hides it; D as timm says
"""

import difflib
import hashlib
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.errors import BreadcrumbsError

HUB_SECONDS = 5  # to wait for an answer of the hub that has the pretrained weights
SMALL = {f"resnet{6 * n + 2}": n for n in range(1, 6)}
WIDTHS = {"": 1, "x2": 2, "x4": 4}


class BackboneError(BreadcrumbsError):
    """No backbone of that name, or no pretrained weights for it here."""


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network (N, 3, H, W) -> (N, D), and its D."""

    network: nn.Module
    feature_dim: int


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


def create(name: str, pretrained: bool = False) -> Backbone:
    """Make a backbone by name.

    Raises:
        BackboneError: the name is unknown, or `pretrained` weights are asked for and cannot be had.
    """
    depth, times, width = name.partition("x")
    small = depth in SMALL and times + width in WIDTHS
    if small or name == "resnet10":
        if pretrained:
            raise BackboneError(f"there are no pretrained weights of {name}; take a timm name, for example resnet50")
        return (
            Backbone(SmallResNet(SMALL[depth], WIDTHS[times + width]), 64 * WIDTHS[times + width])
            if small
            else _resnet10()
        )
    return _timm(name.removeprefix("timm/"), pretrained)


def _resnet10() -> Backbone:
    from torchvision.models.resnet import BasicBlock, ResNet  # only where it is used: it takes a second to import

    network = ResNet(BasicBlock, [1, 1, 1, 1])
    network.fc = nn.Identity()
    return Backbone(network, 512)


def _timm(name: str, pretrained: bool) -> Backbone:
    import timm

    if not timm.is_model(name):
        near = ", ".join(difflib.get_close_matches(name, timm.list_models(), 5, 0.5)) or "nothing"
        own = f"{', '.join(SMALL)}, resnet10, and wider ones such as resnet8x2"
        raise BackboneError(f"no backbone '{name}'; own: {own}; timm has near it: {near}")
    if pretrained:
        _look_for_the_hub()
    try:
        network = timm.create_model(name, pretrained=pretrained, num_classes=0)
    except Exception as error:  # timm and the hub client raise whatever their transport raises
        if not pretrained:
            raise BackboneError(f"timm cannot make '{name}': {error}") from error
        raise BackboneError(
            f"the pretrained weights of '{name}' could not be had ({type(error).__name__}: {str(error)[:200]}); "
            "train with pretrained = false, or put the weights into the hub's cache (HF_HOME) on a machine with network"
        ) from error
    return Backbone(network, cast(int, network.num_features))


def _look_for_the_hub() -> None:
    """Where the hub cannot be reached, have its client look into its cache at once, not after a minute of retries."""
    import httpx
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        try:
            httpx.head(constants.ENDPOINT, timeout=HUB_SECONDS)
        except httpx.HTTPError:
            constants.HF_HUB_OFFLINE = True


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
