"""What every test may use."""

import pytest
from tiny import write_bundle

from models.bundle import Bundle


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle; nobody may change it."""
    return write_bundle(tmp_path_factory.mktemp("bundle") / "tiny")
