"""What a user may give a client as features: an array of finite numbers (N, D), or one vector (D,).

It knows nothing of requests.

Letters: N rows, D feature dimensions.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from breadcrumbs.serving.client.images import InputError


def rows_of(features: ArrayLike) -> NDArray[np.float32]:
    """Return features as float32 (N, D), N at least 1.

    Raises:
        InputError: they are something else; the message says what came and what to do.
    """
    try:
        array = np.asarray(features)
    except (TypeError, ValueError, RuntimeError) as error:  # as a tensor on a GPU raises
        words = " ".join(str(error).split())
        raise InputError(
            f"features: expected an array (N, D) in memory, got what numpy cannot read: {words:.200}"
        ) from error
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        raise InputError(f"features: expected numbers, got {array.dtype.name}; predict takes images and files")
    rows = array[None] if array.ndim == 1 else array
    if rows.ndim != 2 or not rows.size:
        raise InputError(f"features: expected (N, D) with N and D at least 1, got shape {array.shape}")
    with np.errstate(over="ignore"):
        found = np.ascontiguousarray(rows, np.float32)
    bad = np.flatnonzero(~np.isfinite(found).all(1))
    if len(bad):
        raise InputError(
            f"features: {len(bad)} of {len(found)} rows are not finite as float32, the first is row {bad[0]}"
        )
    return found
