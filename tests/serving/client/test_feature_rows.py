"""What the clients take as features, and what they refuse before anything is sent."""

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from breadcrumbs.serving.client.answers import Features
from breadcrumbs.serving.client.feature_rows import rows_of
from breadcrumbs.serving.client.images import InputError

OWN = np.array([[1.5, -2, 0], [0.25, 4, 8]], np.float32)


@pytest.mark.parametrize(
    "given",
    [
        OWN, OWN.astype(np.float16), OWN.astype(np.float64), OWN.astype(ml_dtypes.bfloat16), OWN.astype(">f4"),
        np.asfortranarray(OWN), OWN.tolist(), [tuple(row) for row in OWN.tolist()], torch.from_numpy(OWN),
        Features(OWN, "a" * 64),
    ],
    ids=range(10),
)  # fmt: skip
def test_whatever_numpy_reads_as_numbers_is_taken(given: Any) -> None:
    """As float32 (N, D), row-major."""
    found = rows_of(given)

    assert (found.dtype, found.flags.c_contiguous) == (np.float32, True)
    np.testing.assert_array_equal(found, OWN)


def test_one_vector_is_one_row() -> None:
    """Of integers too."""
    assert rows_of([1, 2, 3]).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "expected (N, D) with N and D at least 1, got shape (0,)"),
        (np.zeros((3, 0)), "got shape (3, 0)"),
        (np.zeros((2, 2, 2)), "got shape (2, 2, 2)"),
        (1.5, "got shape ()"),
        ("oak.jpg", "expected numbers, got str"),
        (b"bytes", "expected numbers, got bytes"),
        ([[1, 2], [3]], "what numpy cannot read"),
        ([True, False], "expected numbers, got bool"),
        ([1, None], "expected numbers, got object"),
        ([[1, 2], [3, np.nan], [np.inf, 0]], "2 of 3 rows are not finite as float32, the first is row 1"),
        ([1e300], "1 of 1 rows are not finite as float32"),
    ],
)
def test_what_are_no_features_is_told(given: Any, words: str) -> None:
    """In one sentence: what came and what was expected."""
    with pytest.raises(InputError, match=re.escape(words)) as raised:
        rows_of(given)

    assert "\n" not in str(raised.value)
