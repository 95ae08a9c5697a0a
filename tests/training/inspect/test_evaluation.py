"""The files of `breadcrumbs evaluate`, of the embedded bundle and of drawn answers."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from forked import command
from pages import Page

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.training.inspect.class_table import class_table
from breadcrumbs.training.inspect.evaluation import Outputs, _listed
from breadcrumbs.training.inspect.mistakes import Answers

DEMO = Path(__file__).parents[3] / "models" / "demo"
FLAGS = ("wrong", "rows", "confusion", "html")


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by column."""
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline="")))


@pytest.mark.parametrize("flag", FLAGS)
def test_a_path_that_cannot_be_written_is_refused_before_anything_is_computed(flag: str, tmp_path: Path) -> None:
    """A folder, a file in place of a folder, a name that is too long: a sentence with flag and path."""
    file = tmp_path / "file"
    file.touch()
    for path, why in (
        (tmp_path, "that is a folder; expected a file"),
        (file / "below.csv", "no file can be written there"),
        (tmp_path / ("n" * 250), "no file can be written there"),
        (Path("/proc/none/out.csv"), "no file can be written there"),
    ):
        with pytest.raises(BreadcrumbsError, match=f"^--{flag} .*{why}"):
            Outputs(**{flag: path}).check()
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_two_flags_need_two_files(tmp_path: Path) -> None:
    """One would replace the other."""
    with pytest.raises(BreadcrumbsError, match=r"--wrong and --html both name .*; expected a file for each"):
        Outputs(wrong=tmp_path / "a", html=tmp_path / "a").check()


@pytest.mark.parametrize("flag", FLAGS)
def test_a_path_that_can_be_written_leaves_nothing_behind(flag: str, tmp_path: Path) -> None:
    """A new file in a new folder, and an old file, which is as it was."""
    old = tmp_path / "old"
    old.write_text("as it was")

    for path in (old, tmp_path / "new" / "folder" / "out"):
        Outputs(**{flag: path}).check()

    assert [one.name for one in tmp_path.iterdir()] == ["old"]
    assert old.read_text() == "as it was"


@pytest.mark.parametrize("classes", [2, 1000, 1001, 2000])
def test_of_many_classes_the_page_lists_the_worst(classes: int) -> None:
    """Up to a thousand all, the largest first; of more the thousand with the lowest recall that are tested."""
    given = np.repeat(np.arange(classes - 1), 2)
    right = np.ones(len(given))
    predicted = np.where(np.arange(len(given)) < 40, classes - 1, given)
    found = Answers(given, predicted, right, right, right.astype(np.int64))

    order, note = _listed(class_table(found, [str(c) for c in range(classes)], np.arange(classes)))

    if classes <= 1000:
        assert order == list(range(classes))[::-1]
    else:
        assert len(order) == 1000
        assert order[:20] == list(range(20))
        assert f"1,000 of {classes:,}" in note


@pytest.mark.slow
def test_evaluate_writes_what_was_asked_for(tmp_path: Path) -> None:
    """Every test image, the wrong ones worst first, the matrix, and a page with their pictures."""
    paths = {flag: tmp_path / "new" / f"{flag}.out" for flag in FLAGS}

    ended = command("evaluate", str(DEMO), "--json", *(word for f, p in paths.items() for word in (f"--{f}", str(p))))

    told = json.loads(ended.stdout)
    assert told["files"] == {flag: str(path) for flag, path in paths.items()}
    every, wrong = rows(paths["rows"]), rows(paths["wrong"])
    assert len(every) == told["test_images"]
    assert [row["probability_class"] for row in wrong] == sorted(
        (row["probability_class"] for row in every if row["right"] == "no"), key=float
    )
    assert len(wrong) == round((1 - told["heads"]["balanced"]["metrics"]["all"]["value"]) * len(every))
    matrix = rows(paths["confusion"])
    names = list(bundles.read(DEMO).manifest.classes)
    assert [row["class"] for row in matrix] == names
    assert [int(row[row["class"]]) / sum(int(row[name]) for name in names) for row in matrix] == pytest.approx(
        told["heads"]["balanced"]["recall"]
    )
    page = Page(paths["html"].read_text("utf-8"))
    assert sum(tag == "img" for tag, _ in page.tags) == 24 + 1  # wrong images, and what is taken for what
    assert all(name in "".join(page.words) for name in names)


@pytest.mark.slow
def test_evaluate_refuses_a_bad_path_first(tmp_path: Path) -> None:
    """One sentence and status 2, before the bundle is looked for."""
    ended = command("evaluate", str(tmp_path / "nowhere"), "--wrong", str(tmp_path))

    assert ended.returncode == 2
    assert ended.stderr.strip().endswith(f"--wrong {tmp_path}: that is a folder; expected a file")
