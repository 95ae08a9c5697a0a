"""The hold-out of a bundle: bounded by class and in all, drawn the same way every time."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.run.holdout import drawn


@settings(max_examples=60)
@given(
    counts=st.lists(st.integers(0, 9), min_size=2, max_size=6).filter(any), per_class=st.integers(1, 6),
    rows=st.integers(1, 30), seed=st.integers(0, 99),
)  # fmt: skip
def test_classes_share_evenly(counts: list[int], per_class: int, rows: int, seed: int) -> None:
    """Both bounds are kept, no class is short of rows while another has more, and the rows stay whole and in order."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    ids = np.arange(len(labels)) + 100
    look = Snapshot(
        np.float32(ids[:, None]), labels, tuple("abcdef"[: len(counts)]), "b" * 64, 3, ids, dataset="d" * 64
    )

    found = drawn(look, per_class, rows)
    own = found.counts()

    assert len(found.labels) == min(rows, sum(min(count, per_class) for count in counts))
    assert (own <= np.minimum(counts, per_class)).all()
    assert all(own[c] >= own.max() - 1 or own[c] == min(counts[c], per_class) for c in range(len(counts)))
    assert (np.diff(found.ids) > 0).all()
    assert (labels[found.ids - 100] == found.labels).all()
    assert (found.features[:, 0] == found.ids).all()
    assert drawn(look, per_class, rows).ids.tolist() == found.ids.tolist()
    assert (found.dataset, found.epoch) == ("d" * 64, 3)
