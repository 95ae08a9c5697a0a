"""A run's checkpoint: everything that going on needs, in one file, whole or absent.

It knows nothing of what the state means. It is read with torch's `weights_only`, so that a checkpoint, too, can
carry no code.
"""

import io
from pathlib import Path
from typing import Any

import torch

from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.files import write_whole


def save(path: Path, state: dict[str, Any]) -> None:
    """Write the state under a temporary name, then rename it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(path, buffer.getvalue())


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        FormatError: there is none, or it is damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise FormatError(
            f"no checkpoint at {path}; `breadcrumbs train --out {path.parent}` writes one after each epoch"
        ) from error
    except Exception as error:  # pickle, zip and torch each have their own
        raise FormatError(f"{path} is damaged: {error}") from error
    return state
