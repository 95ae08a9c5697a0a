"""The table that `train`, `export` and `refit` end with: a column says what its numbers are."""

import io

from rich.console import Console

from breadcrumbs.training.terminal.tables import in_short


def test_all_is_the_share_of_images_and_balanced_the_mean_of_recalls() -> None:
    """Each number is under its own name, a dash where there are no rows; what is no head is passed over."""
    head = {"many": 0.9, "medium": 0.6, "few": None, "balanced": 0.7, "all": 0.8, "recall": [0.9, 0.5]}
    screen = Console(file=io.StringIO(), width=100)

    screen.print(in_short("title", {"joint": head, "test_images": 3, "groups": "A"}))

    file = screen.file
    assert isinstance(file, io.StringIO)
    words = file.getvalue().replace("┃", " ").replace("│", " ").split()
    assert [word for word in words if word in head] == ["many", "medium", "few", "balanced", "all"]
    assert [word for word in words if word[0].isdigit() or word == "–"] == ["90.0", "60.0", "–", "70.0", "80.0"]
    assert "test_images" not in words
