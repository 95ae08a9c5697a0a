"""How much faster one graph is than another: a quotient, whatever the machine."""

from pathlib import Path

import numpy as np
import pytest
from tiny import SIDE, tiny_backbone

from breadcrumbs.models.speed import times_as_fast


@pytest.mark.parametrize("batches", [(1,), (4,), (1, 4)])
@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_a_graph_is_compared_with_itself(batches: tuple[int, ...], seconds: float, tmp_path: Path) -> None:
    """From bytes or a file, in any time: each runs once at least."""
    path = tmp_path / "backbone.onnx"
    path.write_bytes(tiny_backbone())

    ratio = times_as_fast(tiny_backbone(), path, np.zeros((SIDE, SIDE, 3), np.uint8), batches, seconds)

    assert np.isfinite(ratio)
    assert ratio > 0
