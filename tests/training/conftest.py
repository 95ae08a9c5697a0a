"""One small finished run for all tests that only look at it."""

from pathlib import Path

import pytest
from small_run import small_config, write_images

from breadcrumbs.training.run.fit import fit


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of training and test images."""
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on those images; nobody may change it."""
    out = tmp_path_factory.mktemp("run") / "out"
    fit(small_config(images), out)
    return out
