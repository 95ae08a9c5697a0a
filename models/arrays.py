"""Array types shared by many modules."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""An image (rows, columns, 3), or several (N, rows, columns, 3)."""

Floats = NDArray[np.floating]
"""Features, logits, weights: floats of any width and shape."""
