"""The examples, run as a user runs them: scripts on a server with real refits of the tiny bundle, and a notebook.

Real refits of the demo bundle, which take three times as long, are in `test_end_to_end.py`.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from running import make_settings, running
from tiny import CLASSES, SIDE

from breadcrumbs import Client
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.app import REFIT

ROOT = Path(__file__).parents[1]
EACH = 12
"""Images of each class in each folder."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of images, each with a folder for each class, which is a colour under noise."""
    place, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for part in ("corrected", "holdout"):
        for label, name in enumerate(CLASSES):
            (place / part / name).mkdir(parents=True)
            for number in range(EACH):
                pixels = rng.integers(0, 140, (SIDE, SIDE, 3), dtype=np.uint8)
                pixels[:, :, label] += 90
                Image.fromarray(pixels).save(place / part / name / f"{number:02}.png")
    return place


@pytest.fixture(scope="module")
def url(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server for both scripts."""
    with running(make_settings(tiny_bundle, tmp_path_factory.mktemp("store")), command=REFIT) as client:
        yield str(client.base_url)


def run(script: str, *words: str, place: Path) -> str:
    """Run a script, and return what it prints."""
    line = [sys.executable, str(ROOT / "examples" / script), *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_predict_and_correct(folder: Path, url: str) -> None:
    """It prints the unsure images, the least sure first, and then learns from the corrected ones."""
    first = run("predict_and_correct.py", "holdout", "--server", url, place=folder)
    told = first.splitlines()
    row = re.compile(r"holdout/.+\.png: .+ \((0\.\d\d)\) or .+$")
    sure = [float(found[1]) for line in told[1:] if (found := row.match(line))]

    assert told[0] == f"{len(told) - 1} of {len(CLASSES) * EACH} images are unsure, says head 1"
    assert len(told) > 5
    assert len(sure) == len(told) - 1
    assert sure == sorted(sure)
    assert max(sure) <= 0.7

    words = ("--corrected", "corrected", "--holdout", "holdout", "--server", url)
    second = run("predict_and_correct.py", "holdout", *words, place=folder)
    with Client(url) as client:
        (job,) = client.jobs()

    assert second.startswith(first)
    assert job.verdict is not None
    live = job.verdict.head if job.verdict.activated else 1
    assert second.splitlines()[-2:] == [f"refit succeeded: {job.verdict.note}", f"head {live} is live"]


def test_refit_from_features(folder: Path, url: str) -> None:
    """Features in numpy become a head, which goes live and is taken back."""
    with Client(url) as client:
        before = client.heads().live
        for part in ("corrected", "holdout"):
            paths = sorted((folder / part).rglob("*.png"))
            np.savez(
                folder / part, features=client.features(paths).features, labels=[path.parent.name for path in paths]
            )
    printed = run("refit_from_features.py", "corrected.npz", "holdout.npz", "--server", url, place=folder)
    with Client(url) as client:
        after = client.heads()

    assert "succeeded" in printed
    assert re.search(r"^the gate says (yes|no|not measured)$", printed, re.MULTILINE)
    new = after.heads[0].version
    assert new > before
    assert printed.splitlines()[-2:] == [f"head {new} is live", f"head {before} is live again"]
    assert after.live == before


def cells() -> list[dict[str, Any]]:
    """The cells of the notebook."""
    found: list[dict[str, Any]] = json.loads((ROOT / "examples/local.ipynb").read_text())["cells"]
    return found


def test_local(tmp_path: Path) -> None:
    """The notebook's cells, one after the other in one process, adopt, measure, look and refit."""
    lines = ["".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code"]
    (tmp_path / "cells.py").write_text("\n\n".join(lines))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "cells.py"]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"^balanced recall \d+\.\d%, between", done.stdout, re.MULTILINE)
    assert re.search(r"^sandal +8 images, recall \d+%$", done.stdout, re.MULTILINE)
    assert re.search(r"^the gate says (yes|no|not measured)", done.stdout, re.MULTILINE)
    assert "'class': ['dress', 'sandal', 'trouser'], 'group': [" in done.stdout
    assert (tmp_path / "local-notebook/refitted/bundle/manifest.json").exists()


def test_the_notebook_is_kept_without_outputs() -> None:
    """So that a change of it can be read."""
    assert [cell["outputs"] for cell in cells() if cell["cell_type"] == "code"] == [[]] * 5


@pytest.mark.parametrize(
    "script", sorted(path.name for path in (ROOT / "examples").iterdir() if path.suffix in {".py", ".ipynb"})
)
def test_an_example_is_short_and_tested(script: str) -> None:
    """A script of under 80 lines, or a notebook, run by a test of its name."""
    assert script.endswith(".ipynb") or len((ROOT / "examples" / script).read_text().splitlines()) < 80
    assert f"test_{Path(script).stem}" in globals()
