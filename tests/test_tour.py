"""The tour and the first page, walked: every command of `docs/tour.md` and `docs/start.md`, in order.

The training is shorter: one epoch instead of 36; and the first page's network is the demo's, since weights would have
to be downloaded.
"""

import contextlib
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from forked import command, started
from PIL import Image
from ports import free_port

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "tour.md").read_text()
COMMANDS = re.findall(r"^\$ breadcrumbs (.+)$", PAGE, re.MULTILINE)
FIRST = re.findall(r"^\$ breadcrumbs (.+)$", (ROOT / "docs" / "start.md").read_text(), re.MULTILINE)
NETWORK = "adopt tf_efficientnet_lite0 "
EPOCHS = 1
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def run(words: list[str], folder: Path) -> str:
    """Run a command of ours and return what it prints."""
    done = command(*words, folder=folder, environment=ENVIRONMENT)
    assert done.returncode == 0, f"breadcrumbs {' '.join(words)}\n{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout


@contextlib.contextmanager
def serving(words: list[str], folder: Path, port: int) -> Iterator[None]:
    """Keep the tour's server running."""
    line = (*words, "--port", str(port), "--access-log", "none")
    with started(*line, folder=folder, environment=ENVIRONMENT) as server:
        server.tells(lambda told: "running on http" in told)
        yield


@pytest.mark.slow
def test_the_first_page_can_be_walked(tmp_path: Path) -> None:
    """A backbone is adopted for a folder of photos and served, and another folder is classified."""
    with np.load(ROOT / "training/data/embedded/fashion-mnist-lt.npz") as data:
        for label, name in enumerate(data["classes"][:3]):
            for folder, images in (("photos", "train_images"), ("new-photos", "test_images")):
                (tmp_path / folder / name).mkdir(parents=True)
                chosen = data[images][data[images.replace("images", "labels")] == label][:20]
                for number, one in enumerate(chosen):
                    Image.fromarray(one).save(tmp_path / folder / name / f"{number:02}.png")
    port = free_port()
    backbone = f"adopt {ROOT / 'models/demo/backbone.onnx'} "
    adopt, serve, predict = (shlex.split(one.replace(NETWORK, backbone)) for one in FIRST)
    run(adopt, tmp_path)
    with serving(serve, tmp_path, port):
        printed = run([*predict, "--server", f"http://127.0.0.1:{port}"], tmp_path)

    assert any(NETWORK in one for one in FIRST)
    assert (tmp_path / "runs/photos/report/index.html").exists()
    assert printed.count(".png") == 60


@pytest.mark.slow
def test_the_tour_can_be_walked(tmp_path: Path) -> None:
    """Every command does what the page says, on the files that the commands before it left."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    port = free_port()
    printed = {}
    with contextlib.ExitStack() as stack:
        for line in COMMANDS:
            here = line.replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace("epoch-0038", f"epoch-{EPOCHS + 2:04}")
            words = shlex.split(here)
            if words[0] == "train":
                words += ["--epochs", str(EPOCHS)]
            if words[0] == "serve":
                stack.enter_context(serving(words, tmp_path, port))
                continue
            if words[0] == "heads" or (words[0] == "predict" and "--bundle" not in words):
                words += ["--server", f"http://127.0.0.1:{port}"]
            printed[line] = run(words, tmp_path)

    assert len(COMMANDS) == 13
    names = re.compile(r"^(?:ok|--)  (\w+): ", re.MULTILINE)
    assert names.findall(printed["doctor"]) == names.findall(PAGE)
    assert (tmp_path / "runs/tour/run/report/index.html").exists()
    assert "bag" in (tmp_path / "runs/tour/refit/report.html").read_text()
    assert "●" in printed["heads"]
    assert "head 2 is live (activate" in printed[next(c for c in COMMANDS if c.startswith("heads activate"))]
    assert "head 1 is live (rollback" in printed[next(c for c in COMMANDS if c.startswith("heads rollback"))]
