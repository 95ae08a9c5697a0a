"""How well a feature is known: how near the nearest stored row is, compared with stored rows among themselves.

    known.safetensors   `basis` f32 (D, K), `points` f16 (P, K), `group` i64 (P,), `scales` f32 (3, S); and the head

A point is a row that the head was fitted to, in the K directions that explain the rows best, of length 1; or the mean
of the examples of a class. A feature z has the similarity s = max over p of cos(Bᵀz, p), and `known` is the share of
stored rows whose own nearest other row is no nearer than that, among those of the same group (many, medium, few). It is
1 where a row is as near as can be, and about one in 20 images of known classes are below 0.05, of rare ones more. It
tells images of classes that the backbone never saw apart only roughly (`benchmarks/unknown.py`), so no answer is called
unknown by it.
It knows nothing of how points are chosen (`training.known`), or of heads.

Letters: N features, D feature dimensions, K directions, P points, S steps of a scale.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models import safetensor
from breadcrumbs.models.arrays import Floats, products
from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.files import read_regular
from breadcrumbs.models.groups import GROUPS

FORMAT = "breadcrumbs.known/1"
FILE = "known.safetensors"
DIRECTIONS = 64
"""K at most; 128 and 256 tell no more apart."""
POINTS = 65_536
"""P at most: 8 MiB on disk, 16 MiB in memory, and 4 million multiplications a feature."""
STEPS = 101
"""S."""
LIMIT = 16 * 2**20
"""Bytes of a file at most."""
SMALLEST = float(np.finfo(np.float32).tiny)
"""A feature whose values are all smaller is one of zeros: some machines take such values for 0, others do not."""
CHUNK = 64
"""Features whose similarities are in memory at a time."""
TENSORS = {"basis": ("F32",), "points": ("F16",), "group": ("I64",), "scales": ("F32",)}


class KnownError(FormatError):
    """Points that are damaged, or of another head."""


@dataclass(frozen=True, eq=False)
class Known:
    """The points of one head, and the scale of each group.

    Attributes:
        basis: B, f32 (D, K).
        points: f32 (P, K), each of length 1.
        group: i64 (P,), of each point's class: 0 many, 1 medium, 2 few.
        scales: f32 (3, S), rising: the similarities that 0, 1/(S−1), … 1 of each group's rows do not reach.

    Raises:
        KnownError: the shapes disagree, there are too many points, or a value is not finite or out of place.
    """

    basis: Floats
    points: Floats
    group: NDArray[np.int64]
    scales: Floats

    def __post_init__(self) -> None:
        count, directions = self.points.shape if self.points.ndim == 2 else (0, 0)
        shapes = [one.shape for one in (self.basis, self.group, self.scales)]
        if not 1 <= count <= POINTS or not 1 <= directions <= DIRECTIONS or self.basis.ndim != 2:
            raise KnownError(
                f"points have shape {self.points.shape}, expected (P, K) of 1 … {POINTS} and 1 … {DIRECTIONS}"
            )
        if shapes != [(len(self.basis), directions), (count,), (len(GROUPS), STEPS)]:
            raise KnownError(
                f"basis, group and scales have shapes {shapes}, expected (D, {directions}), ({count},) and "
                f"({len(GROUPS)}, {STEPS})"
            )
        if not all(np.isfinite(one).all() for one in (self.basis, self.points, self.scales)):
            raise KnownError("basis, points or scales have values that are not finite, expected numbers")
        if (np.diff(self.scales) < 0).any() or not ((self.group >= 0) & (self.group < len(GROUPS))).all():
            raise KnownError("expected scales that rise, and groups 0, 1 or 2")

    @property
    def feature_dim(self) -> int:
        """D."""
        return len(self.basis)

    def of(self, features: Floats) -> list[float]:
        """Return how well each feature (N, D) is known, 0 … 1; a feature of zeros is not known: 0."""
        similarity, nearest = self.nearest(features)
        shares = np.linspace(0, 1, STEPS)
        scales = self.scales[self.group[nearest]]  # (N, S)
        return [float(np.interp(s, scale, shares)) for s, scale in zip(similarity, scales, strict=True)]

    def nearest(self, features: Floats) -> tuple[Floats, NDArray[np.int64]]:
        """Return of each feature (N, D) the similarity s to its nearest point, f32 (N,), and which that is, i64 (N,).

        A feature of zeros is like no point: −1.
        """
        similarity, place = np.empty(len(features), np.float32), np.empty(len(features), np.int64)
        for start in range(0, len(features), CHUNK):
            part = slice(start, start + CHUNK)
            rows = directions(features[part], self.basis)
            found = products(rows, self.points)  # (n, P)
            place[part] = found.argmax(1)
            best = np.take_along_axis(found, place[part, None], 1)[:, 0]
            similarity[part] = np.where(rows.any(1), best, -1)
        return similarity, place


def directions(features: Floats, basis: Floats) -> Floats:
    """Return features (N, D) in the directions of a basis (D, K), each of length 1; a feature of zeros stays 0."""
    return unit(unit(features) @ np.asarray(basis, np.float32))


def unit(features: NDArray[Any]) -> Floats:
    """Return features (N, D) of length 1, as float32; a feature of zeros stays 0."""
    wide = np.asarray(features, np.float32)
    largest = np.abs(wide).max(1, keepdims=True, initial=0)  # so that no square overflows
    scaled = np.divide(wide, largest, out=np.zeros_like(wide), where=largest >= SMALLEST)
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.asarray(np.divide(scaled, length, out=np.zeros_like(scaled), where=length > 0), np.float32)


def to_bytes(known: Known, head: str) -> bytes:
    """Return the bytes of `known.safetensors`, which names its head by digest."""
    tensors: dict[str, safetensor.Tensor] = {
        "basis": known.basis.astype(np.float32), "points": known.points.astype(np.float16),
        "group": known.group, "scales": known.scales.astype(np.float32),
    }  # fmt: skip
    return safetensor.encode(tensors, {"format": FORMAT, "head": head})


def from_bytes(data: bytes, head: str, feature_dim: int) -> Known:
    """Read what `to_bytes` made.

    Args:
        data: the file.
        head: digest of the head that it must be of.
        feature_dim: D of that head.

    Raises:
        KnownError: it is damaged, too large, or of another head or width.
    """
    if len(data) > LIMIT:
        raise KnownError(f"{FILE} has {len(data)} bytes; the limit is {LIMIT}")
    try:
        arrays, metadata = safetensor.decode(data, TENSORS)
    except FormatError as error:
        raise KnownError(f"{FILE}: {error}") from error
    if metadata.get("format") != FORMAT:
        raise KnownError(f"{FILE}: expected format {FORMAT}, got {metadata.get('format')!r:.80}")
    if metadata.get("head") != head:
        raise KnownError(f"{FILE}: expected that of head {head:.12}, got that of {metadata.get('head')!r:.14}")
    missing = sorted(TENSORS.keys() - arrays.keys())
    if missing:
        raise KnownError(f"{FILE}: tensor '{missing[0]}' is missing")
    try:
        found = Known(
            arrays["basis"], np.asarray(arrays["points"], np.float32), np.asarray(arrays["group"], np.int64),
            arrays["scales"],
        )  # fmt: skip
    except KnownError as error:
        raise KnownError(f"{FILE}: {error}") from error
    if found.feature_dim != feature_dim:
        raise KnownError(f"{FILE}: expected features of {feature_dim} dimensions, got {found.feature_dim}")
    return found


def read(path: Path, head: str, feature_dim: int) -> Known | None:
    """Read `known.safetensors` of a head; None: there is no such file. Raises as `from_bytes`."""
    if not path.exists():
        return None
    return from_bytes(read_regular(path), head, feature_dim)
