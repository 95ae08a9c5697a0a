"""Images that a backbone has looked at: features, labels and the images themselves, row by row.

It knows nothing of what is looked for.

Letters: N rows, D feature dimensions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.training.data.split import DataError, Split


@dataclass(frozen=True, eq=False)
class Looked:
    """Images and what a backbone made of them.

    Attributes:
        features: f32 (N, D).
        labels: int64 (N,), among the classes of the head that is examined; the images' own may be in another order.
        images: N of them.

    Raises:
        DataError: the three are not of one length, or a feature is not finite.
    """

    features: Floats
    labels: NDArray[np.int64]
    images: Split

    def __post_init__(self) -> None:
        rows = {len(self.features), len(self.labels), len(self.images)}
        if self.features.ndim != 2 or len(rows) != 1:
            raise DataError(
                f"features {self.features.shape}, {len(self.labels)} labels and {len(self.images)} images do not fit; "
                "expected (N, D), N and N"
            )
        bad = int((~np.isfinite(self.features).all(1)).sum())
        if bad:
            raise DataError(
                f"the backbone's features of {bad} of {len(self.features)} images are not finite; "
                "leave these images out, or use another backbone"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def feature_dim(self) -> int:
        """D."""
        return int(self.features.shape[1])
