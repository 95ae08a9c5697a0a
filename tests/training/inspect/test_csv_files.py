"""CSV files that any spreadsheet opens as text."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breadcrumbs.models.printable import defect
from breadcrumbs.training.inspect.csv_files import FORMULA, safe, write


def read(path: Path) -> list[list[str]]:
    """The rows of a file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@given(st.text(min_size=1, max_size=60))
def test_no_name_is_a_formula_or_breaks_a_line(name: str) -> None:
    """Whatever a class or a file is called, what is written is printable and begins with no formula."""
    cell = safe(name)

    assert not cell.lstrip().startswith(FORMULA)
    assert defect(cell) is None
    assert cell.encode()


@given(st.text(st.characters(categories=("L", "N")), min_size=1, max_size=60))
def test_a_plain_name_is_as_it_is(name: str) -> None:
    """Letters and digits of any script."""
    assert safe(name) == name


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "＝1", "\t=1", "\r=1"])
def test_a_formula_gets_an_apostrophe(name: str) -> None:
    """Also one that begins with white space, as spreadsheets pass over it."""
    assert safe(name).startswith(("'", "\\"))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """Commas, quotes and Unicode in names and columns; numbers, truths and nothing."""
    path = tmp_path / "new" / "table.csv"
    names = ['a,"b"', "Wollemia nobilis", "Ж" * 60, "猫", "=A1"]

    write(path, names, [[*names], [1, 0.1234567, None, True, False]])

    safe_names = [*names[:4], "'=A1"]
    assert read(path) == [safe_names, safe_names, ["1", "0.123457", "", "yes", "no"]]


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    """An error in the middle leaves the old file."""
    path = tmp_path / "table.csv"
    write(path, ["a"], [["old"]])

    with pytest.raises(ZeroDivisionError):
        write(path, ["a"], ([1 / divisor] for divisor in (1, 0)))

    assert read(path) == [["a"], ["old"]]
    assert [one.name for one in tmp_path.iterdir()] == ["table.csv"]
