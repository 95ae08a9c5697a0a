"""A GPU where there is none: tensors that say they lie on one, are computed on the CPU, and may not meet others.

It shows every place that forgets where its tensors lie; a kernel that a GPU does not have it cannot show.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

GPU = torch.device("cuda")

DEVICE, IS_CUDA = torch.Tensor.device.__get__, torch.Tensor.is_cuda.__get__  # type: ignore[attr-defined]
PICKS = {Tensor.__getitem__}
"""A GPU's tensor may be indexed by one of the CPU; not the other way about."""


class PretendedGpu(TorchFunctionMode):
    """While it is entered, `device="cuda"` and `.to("cuda")` work, and mixing devices fails as it does with a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        """Functions that were called with a tensor of the GPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        given = list(tensors((args, kwargs)))
        there = [tensor for tensor in given if on_gpu(tensor)]
        self.calls += bool(there)
        if func in (DEVICE, IS_CUDA):
            return (GPU if func == DEVICE else True) if there else func(*args, **kwargs)
        if func is Tensor.numpy and there:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if func is Tensor.to:
            wish = [*args[1:], kwargs.get("device")]
            target = self._target(wish, default=bool(there))
            args = (args[0], *("cpu" if self._device(part) else part for part in args[1:]))
            kwargs.pop("device", None)
            return self._mark(func(*args, **kwargs), target, args[0])
        if func is Tensor.cpu:
            return self._mark(func(*args, **kwargs), False, args[0])
        wanted = kwargs.get("device")
        if wanted is not None and torch.device(wanted) == GPU:
            kwargs["device"] = "cpu"
            return self._mark(func(*args, **kwargs), True, None)
        here = [tensor for tensor in given if tensor.ndim and not on_gpu(tensor)]
        if there and here and not (func in PICKS and on_gpu(args[0])):
            shapes = [tuple(tensor.shape) for tensor in here]
            raise RuntimeError(f"{getattr(func, '__name__', func)}: tensors on cuda and, of shape {shapes}, on the cpu")
        return self._mark(func(*args, **kwargs), bool(there), None)

    @staticmethod
    def _device(part: Any) -> bool:
        return isinstance(part, torch.device) or (isinstance(part, str) and part in {"cuda", "cpu"})

    def _target(self, wish: list[Any], *, default: bool) -> bool:
        for part in wish:
            if isinstance(part, Tensor):
                return on_gpu(part)
            if self._device(part):
                return torch.device(part) == GPU
        return default

    def _mark(self, made: Any, there: bool, source: Any) -> Any:
        for tensor in tensors(made):
            if source is not None and tensor is source and on_gpu(source) != there:
                return self._mark(source.clone(), there, None)  # a real move makes another tensor
            tensor._on_gpu = there  # type: ignore[attr-defined]
        return made


def on_gpu(tensor: Tensor) -> bool:
    """Whether a tensor says that it lies on the GPU."""
    return bool(tensor.__dict__.get("_on_gpu", False))


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in nested arguments."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors(tuple(value.values()))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from tensors(part)
