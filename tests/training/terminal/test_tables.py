"""The tables that commands print, at a terminal and in a file."""

import io

import pytest
from rich.console import Console
from rich.table import Table
from told import told

from breadcrumbs.training.terminal import tables
from breadcrumbs.training.terminal.tables import in_short, show


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


CAPTION = "what the numbers of this table mean, in a sentence that is longer than a short table is wide"


def printed(width: int, text: str, *, terminal: bool) -> list[str]:
    """The lines of a table with one cell and a caption, without the spaces at their ends."""
    table = Table("name", "text", title="all of it", caption=CAPTION)
    table.add_row("one", text)
    file = io.StringIO()
    show(table, Console(file=file, width=width, force_terminal=terminal, color_system=None))
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize("words", [1, 20])
def test_a_file_gets_plain_lines(words: int) -> None:
    """One a row, without a frame, and nothing is cut off or wrapped, nor is a caption longer than the rows."""
    text = ("a long text " * words).rstrip()

    assert printed(40, text, terminal=False) == ["all of it", "name  text", f"one   {text}", CAPTION]


def test_a_terminal_gets_a_table_that_fits() -> None:
    """Framed, and no wider than the terminal."""
    lines = printed(40, "a long text " * 20, terminal=True)

    assert lines[1].startswith("┏")
    assert max(map(len, lines)) <= 40


def test_a_refits_table_has_error_and_loss_before_and_after() -> None:
    """By group of the answer, with the temperature and the prior that is meant."""
    calibration = told().calibration
    assert calibration is not None
    file = io.StringIO()

    show(tables.calibration(calibration.model_dump()), Console(file=file))

    lines = file.getvalue().splitlines()
    whole = calibration.groups["all"]
    errors = [f"{100 * head.ece.value:.1f}" for head in (whole.before, whole.after)]
    losses = [f"{head.nll.value:.3f}" for head in (whole.before, whole.after)]
    assert "temperature 1.25 (1.10–1.50), prior training" in lines[0]
    assert next(line for line in lines if line.startswith("all")).split() == ["all", "40", *errors, *losses]
