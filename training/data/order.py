"""Which training images come when: the batches of an epoch, and of each batch this process's share.

Everything follows from the seed and the epoch's number, there is no other state: a resumed run, another number of
workers and another number of processes see the same batches. It knows nothing of pixels or networks.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler

from breadcrumbs.training import processes

Look = tuple[str, int, int, int, int]
"""Purpose, seed, epoch, number within the epoch, row: identifies one look at one image and seeds its augmentation."""


class Order(Sampler[list[Look]]):
    """Every row once an epoch, in S = ceil(N / batch_size) batches whose sizes differ by one at most.

    Args:
        rows: N.
        batch_size: images a step, over all processes.
        seed: of every order.
    """

    purpose = "joint"

    def __init__(self, rows: int, batch_size: int, seed: int) -> None:
        self._rows, self._seed, self.epoch = rows, seed, 0
        self._steps = -(-rows // batch_size)

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[list[Look]]:
        rows = self.rows()
        for numbers in torch.arange(len(rows)).tensor_split(self._steps):
            yield [(self.purpose, self._seed, self.epoch, i, int(rows[i])) for i in processes.mine(numbers).tolist()]

    def rows(self) -> Tensor:
        """The epoch's rows int64 (N,), in order."""
        return torch.randperm(self._rows, generator=self._generator())

    def batch(self, step: int) -> Tensor:
        """The rows int64 (B,) of one batch, over all processes."""
        return self.rows().tensor_split(self._steps)[step]

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed * 1_000_003 + self.epoch)


class BalancedOrder(Order):
    """As many batches, but every row is drawn: first a class, then an image of it, all equally likely.

    Args:
        labels: int64 (N,), the class of every row.
        batch_size, seed: as for `Order`.
    """

    purpose = "balanced"

    def __init__(self, labels: Tensor, batch_size: int, seed: int) -> None:
        super().__init__(len(labels), batch_size, seed)
        self._chances = 1 / torch.bincount(labels)[labels].double()

    def rows(self) -> Tensor:
        """The epoch's rows int64 (N,), with repetitions."""
        return torch.multinomial(self._chances, self._rows, replacement=True, generator=self._generator())
