"""What commands print, on a terminal and in a file."""

import io

from rich.console import Console
from rich.table import Table

from breadcrumbs.training.terminal.screen import show


def printed(width: int, *, terminal: bool) -> list[str]:
    """The lines of a table with a long cell, without the spaces at their ends."""
    table = Table("name", "text", title="all of it")
    table.add_row("one", "a long text " * 20)
    file = io.StringIO()
    show(table, Console(file=file, width=width, force_terminal=terminal, color_system=None))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_a_file_gets_plain_lines() -> None:
    """One a row, without a frame, and nothing is cut off or wrapped."""
    assert printed(40, terminal=False) == ["all of it", "name  text", "one   " + ("a long text " * 20).rstrip()]


def test_a_terminal_gets_a_table_that_fits() -> None:
    """Framed, and no wider than the terminal."""
    lines = printed(40, terminal=True)

    assert lines[1].startswith("┏")
    assert max(map(len, lines)) <= 40
