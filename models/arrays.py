"""Array types and a product, shared by many modules."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""An image (rows, columns, 3), or several (N, rows, columns, 3)."""

Floats = NDArray[np.floating]
"""Features, logits, weights: floats of any width and shape."""

FEW = 4
"""Rows whose products are summed without BLAS."""


def products(features: Floats, rows: Floats) -> Floats:
    """Return the products of each feature (N, D) and each row (M, D), (N, M).

    BLAS has a thread for each core and waits for all of them, and in a server the engine's threads hold these cores: a
    product of 2 ms took 20. For few features, numpy's own loops in one thread take up to twice as long as BLAS in one.
    """
    if len(features) <= FEW:
        return np.asarray(np.einsum("nd,md->nm", features, rows))
    return np.asarray(features @ rows.T)
