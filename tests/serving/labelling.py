"""Labels and features for tests, and where in a store some bytes are."""

from pathlib import Path

import numpy as np

from breadcrumbs.models.arrays import Floats
from breadcrumbs.serving.learning.example import Label, Said, identity


def feature(thing: int, dim: int = 4, dtype: type = np.float32) -> Floats:
    """The feature of a thing: the same each time."""
    return np.random.default_rng(thing).normal(size=dim).astype(dtype)


def label(
    thing: int, name: str = "oak", verified: bool = True, by: str = "me", answer: str = "", dim: int = 4,
    dtype: type = np.float32,
) -> Label:  # fmt: skip
    """A label of a thing."""
    content = f"{thing:064x}"
    source = f"answer:{answer}" if answer else f"image:{content}"
    said = Said(identity(None, content), name, by, verified, source, content, "", "b" * 64, None)
    return Label(said, feature(thing, dim, dtype))


def holding(folder: Path, data: bytes) -> list[Path]:
    """The files that hold some bytes."""
    return [path for path in folder.rglob("*") if path.is_file() and data in path.read_bytes()]
