"""The two conventions of many, medium and few, at their borders."""

import pytest

from breadcrumbs.models.groups import Convention, groups

BORDERS = (0, 19, 20, 21, 99, 100, 101)


@pytest.mark.parametrize(
    ("convention", "expected"),
    [
        ("A", ("few", "few", "few", "medium", "medium", "many", "many")),
        ("B", ("few", "few", "medium", "medium", "medium", "medium", "many")),
    ],
)
def test_borders(convention: Convention, expected: tuple[str, ...]) -> None:
    """A: many from 100, few up to 20; B: many above 100, few below 20."""
    assert groups(BORDERS, convention) == expected
