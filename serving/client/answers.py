"""Answers of the clients that are more than JSON, and how those to the parts of one question are joined.

It knows nothing of connections.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from breadcrumbs.models import safetensor
from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.snapshots.snapshot import UNLABELLED, Snapshot, to_bytes
from breadcrumbs.models.snapshots.snapshot import read as read_snapshot
from breadcrumbs.serving.client.retries import ServerError
from breadcrumbs.serving.http.schemas import LineAnswer, PredictResponse, Timing

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Features:
    """The features of some images; numpy takes it as their array.

    Attributes:
        features: float32 (N, D), a row an image.
        backbone: sha256 of what made them: the name of this feature space.
    """

    features: NDArray[np.float32]
    backbone: str

    @property
    def feature_dim(self) -> int:
        """D."""
        return int(self.features.shape[1])

    def __len__(self) -> int:
        return len(self.features)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[np.float32]:
        return np.array(self.features, dtype, copy=copy)


def features(data: bytes) -> Features:
    """Read the features of `POST /v1/features`, as safetensors.

    Raises:
        ValueError: it is something else.
    """

    def read(path: Path) -> Features:
        arrays, metadata = safetensor.read(path, {"features": ("F32",)})
        return Features(np.array(arrays["features"], np.float32), metadata["backbone"])

    return _read(data, read)


def _read(data: bytes, read: Callable[[Path], T]) -> T:
    """Read bytes by what reads a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answer"
        path.write_bytes(data)
        try:
            return read(path)
        except (FormatError, KeyError) as error:
            raise ValueError(str(error)) from error


def joined_predictions(parts: Sequence[PredictResponse]) -> PredictResponse:
    """Return the answers of one head to the parts of one question as one; the slowest part gives the times."""
    first, *more = parts
    if not more:
        return first
    slowest = {name: max(getattr(one.timing, name) for one in parts) for name in Timing.model_fields}
    return PredictResponse(
        head=first.head,
        predictions=[prediction for one in parts for prediction in one.predictions],
        timing=Timing(**slowest),
        batch_size=max(one.batch_size for one in parts),
        rows=first.rows,
        lines=_joined_lines([one.lines for one in parts if one.lines is not None]),
    )


def _joined_lines(parts: Sequence[dict[str, LineAnswer]]) -> dict[str, LineAnswer] | None:
    """The answers of several lines to the parts of one question.

    Raises:
        ServerError: another head went live in one of them between two parts.
    """
    if not parts:
        return None
    for name in parts[0]:
        if len({one[name].head.version for one in parts}) > 1:
            raise ServerError(
                f"another head went live in the line {name} between two requests; ask again", kind="changed"
            )
    return {
        name: first.model_copy(update={"predictions": [one for part in parts for one in part[name].predictions]})
        for name, first in parts[0].items()
    }


def joined_features(parts: Sequence[Features]) -> Features:
    """Return the features of parts as one."""
    return Features(np.concatenate([one.features for one in parts]), parts[0].backbone)


def joined_snapshots(parts: Sequence[bytes]) -> bytes:
    """Return the snapshots of parts as one; classes are joined by name, in their order."""
    if len(parts) == 1:
        return parts[0]
    read = [_read(data, _whole) for data in parts]
    classes = tuple(dict.fromkeys(name for one in read for name in one.classes))
    index = {name: place for place, name in enumerate(classes)}
    places = [np.array([*(index[name] for name in one.classes), UNLABELLED]) for one in read]  # the last is that of −1
    labels = [place[one.labels] for one, place in zip(read, places, strict=True)]
    ids = [one.ids for one in read if one.ids is not None]
    first = replace(
        read[0], features=np.concatenate([one.features for one in read]), labels=np.concatenate(labels),
        classes=classes, ids=np.concatenate(ids) if len(ids) == len(read) else None, created="",
    )  # fmt: skip
    return to_bytes(first)


def _whole(path: Path) -> Snapshot:
    found = read_snapshot(path)
    return found.take(np.arange(len(found.labels)))  # a copy: the file goes
