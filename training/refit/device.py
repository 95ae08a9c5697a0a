"""Where a refit's problem is solved: on a GPU that is there and pays, or on the CPU.

It knows nothing of heads, snapshots or solvers.
"""

import contextlib
from collections.abc import Iterator

import torch

from breadcrumbs.training.config import RefitDevice
from breadcrumbs.training.refit.rows import RefitError
from breadcrumbs.training.solver.rows import Chunk, Source

WORTH = 1_000_000_000  # products, 15 ms of two cores: a pass that is worth waking a GPU for; an estimate
ROOM = 2**31  # bytes that must be free on a GPU which nobody asked for: a server computes there too
SHARE = 0.5  # of a GPU's free memory that the rows may take; the rest is the solver's

CPU = torch.device("cpu")


def choose(wish: RefitDevice, elements: int, classes: int) -> torch.device:
    """Return where to solve for so many elements of Z and C classes.

    Args:
        wish: `cpu`, `cuda`, or `auto`: a GPU if there is one with room, and the problem is large enough to pay for it.
        elements: N · D.
        classes: C.

    Raises:
        RefitError: `cuda` was asked for and cannot be used; it says why.
    """
    if wish == "cpu" or (wish == "auto" and elements * classes < WORTH):
        return CPU
    check(wish)
    if wish == "auto" and (_defect() or torch.cuda.mem_get_info()[0] < ROOM):
        return CPU
    return torch.device("cuda")


def check(wish: RefitDevice) -> None:
    """Refuse a device that cannot be used.

    Raises:
        RefitError: as `choose`.
    """
    if wish == "cuda" and (defect := _defect()):
        raise RefitError(f"device cuda was asked for, but torch cannot use it: {defect}; device cpu solves without it")


def _defect() -> str | None:
    if torch.version.cuda is None:
        return "this build of torch has no CUDA"
    if not torch.cuda.is_available():
        return "there is no NVIDIA GPU that it sees, or the driver is older than its CUDA needs"
    return None


def fits(device: torch.device, size: int) -> bool:
    """Whether a device has room for rows of so many bytes, and for solving on them; of the CPU others know that."""
    return device.type != "cuda" or size <= SHARE * torch.cuda.mem_get_info()[0]


def to(device: torch.device, rows: Chunk) -> Chunk:
    """Bring features, labels and weights to a device, where they are not there already."""
    features, labels, weights = rows
    return features.to(device), labels.to(device), weights.to(device)


def moved(source: Source, device: torch.device) -> Source:
    """The same rows, each chunk brought to a device when it is read."""

    def read() -> Iterator[Chunk]:
        for rows in source():
            yield to(device, rows)

    return read


@contextlib.contextmanager
def full_is_told() -> Iterator[None]:
    """A GPU without room for the solver is the refit's error, with the way out.

    Raises:
        RefitError: instead of torch's own.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        told = str(error).splitlines()[0]
        raise RefitError(f"the GPU has no room for this refit; device cpu solves without it: {told:.300}") from error
