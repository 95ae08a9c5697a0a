"""How commands print their results: as tables for a person at a terminal, as plain lines for a file or a pipe.

It knows nothing of what is in them.
"""

from rich.console import Console, RenderableType
from rich.table import Table

WIDE = 1000
"""Columns of a file, in which nothing needs to be wrapped."""


def show(result: RenderableType, console: Console | None = None) -> None:
    """Print a table or a text; where there is no terminal a table has no frame, and no line is wrapped.

    Args:
        result: a table or a text.
        console: where to; absent: standard output.
    """
    console = console or Console()
    if not console.is_terminal:
        console.width = WIDE
        if isinstance(result, Table):
            result.box, result.pad_edge = None, False
            result.title_justify = result.caption_justify = "left"
            result.leading = int(result.show_lines)
    console.print(result, highlight=False, markup=False)
