"""Several training processes as one: which rows each takes, and how their results are combined.

Each process takes its share of a batch and of an evaluation. It puts its results into a tensor that is zero at the rows
of all other processes, so the sum over the processes has every row exactly once, without padding. With one process all
functions here do nothing. It knows nothing of networks or data.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number, 0 … world − 1."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Return whether this is the process that writes and prints."""
    return rank() == 0


def mine(rows: Tensor) -> Tensor:
    """Return this process's share of the rows int64 (M,); the sizes of the shares differ by one at most."""
    return rows.tensor_split(world())[rank()]


def add_up(tensor: Tensor) -> Tensor:
    """Replace a tensor, in place and in every process, by the sum over the processes."""
    if world() > 1:
        dist.all_reduce(tensor)
    return tensor


def whole(part: Tensor, place: Tensor, rows: int) -> Tensor:
    """Combine the shares of all processes.

    Args:
        part: (M, …), this process's rows.
        place: int64 (M,), the index of each in the result.
        rows: of the result.

    Returns:
        (rows, …), the same in every process.
    """
    return add_up(torch.zeros(rows, *part.shape[1:], dtype=part.dtype, device=part.device).index_copy_(0, place, part))


def agree(tensors: Iterable[Tensor]) -> None:
    """Give every process the values of the main one: sums on a GPU may differ in the last bit."""
    if world() > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), 0)


def wait() -> None:
    """Return when every process has called this."""
    if world() > 1:
        dist.barrier()


def leave() -> None:
    """Leave the group of processes at the end of a run."""
    if dist.is_initialized():
        dist.destroy_process_group()
