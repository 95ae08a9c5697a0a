"""Several training processes as one: who does what, and how their parts are put together.

Each process takes its share of a batch and of an evaluation; what it computed lies in a tensor that is zero wherever
another process works, so a sum makes the whole, every row exactly once and without padding. With one process
everything here does nothing. It knows nothing of networks or data.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number, 0 … world − 1."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this process writes and prints."""
    return rank() == 0


def mine(rows: Tensor) -> Tensor:
    """This process's share of some rows int64 (M,); the shares differ by one row at most and together are all."""
    return rows.tensor_split(world())[rank()]


def add_up(tensor: Tensor) -> Tensor:
    """Replace a tensor, in place and in every process, by the sum over the processes."""
    if world() > 1:
        dist.all_reduce(tensor)
    return tensor


def whole(part: Tensor, place: Tensor, rows: int) -> Tensor:
    """Put together what every process has a share of.

    Args:
        part: (M, …), this process's rows.
        place: int64 (M,), where they belong.
        rows: how many there are together.

    Returns:
        (rows, …), the same in every process.
    """
    return add_up(torch.zeros(rows, *part.shape[1:], dtype=part.dtype, device=part.device).index_copy_(0, place, part))


def agree(tensors: Iterable[Tensor]) -> None:
    """Give every process the main one's values, where sums on a GPU may differ in the last bit."""
    if world() > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), 0)


def wait() -> None:
    """Go on when every process has come here."""
    if world() > 1:
        dist.barrier()


def leave() -> None:
    """Part, at the end of a run."""
    if dist.is_initialized():
        dist.destroy_process_group()
