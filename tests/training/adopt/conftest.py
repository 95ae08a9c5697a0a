"""One small backbone, and one bundle around it, for all tests that only look at them."""

from pathlib import Path

import pytest
from small_backbone import SIDE, write_folder, write_weights

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.training.adopt.adopt import adopt
from breadcrumbs.training.adopt.config import AdoptConfig


@pytest.fixture(scope="session")
def folder_of_timm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with config.json and weights."""
    return write_folder(tmp_path_factory.mktemp("timm"))


@pytest.fixture(scope="session")
def weights(folder_of_timm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights as a file."""
    return write_weights(folder_of_timm, tmp_path_factory.mktemp("weights") / "weights.pth")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of features that all tests may fill."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="session")
def adopted(images: Path, folder_of_timm: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle around the backbone, with one augmented look; nobody may change it."""
    out = tmp_path_factory.mktemp("adopted")
    return adopt(f"local-dir:{folder_of_timm}", AdoptConfig(data=str(images), size=SIDE, looks=1), out, cache)
