"""What a predict request brings: images, or features that its client has computed with the backbone.

    application/json            {"images": ["<base64>", …]} or {"features": [[…], …]}, or one vector
    application/x-npy           an array (N, D) or (D,) of float16, float32, float64 or bfloat16
    application/x-safetensors   a tensor `features` (N, D) of F16, BF16 or F32
    anything else               images, as in `image_upload`; of an unnamed body the first bytes decide

Features are read in memory, checked, and nothing of them is kept. It knows nothing of heads or scores.

Letters: N rows, D feature dimensions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from breadcrumbs.models import safetensor
from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.snapshots import npy
from breadcrumbs.models.snapshots.snapshot import rows_told
from breadcrumbs.serving.http import bodies, image_upload
from breadcrumbs.serving.http.image_upload import Upload
from breadcrumbs.serving.http.schemas import PredictBody
from breadcrumbs.serving.http.service import Service
from breadcrumbs.serving.refusals import BadRequest, TooLarge

NPY, SAFETENSORS = "application/x-npy", "application/x-safetensors"
FEW = 100_000
"""Values of a JSON body that are read however few a request may have, so that what is wrong with it is told."""
TENSORS = {"features": ("F32", "F16", "BF16")}


async def read(request: Request, service: Service) -> list[bytes] | Floats:
    """Return the bytes of a request's images, or its features f32 (N, D).

    Raises:
        BadRequest: it has neither or both; or images came and the bundle has no backbone; or the features are empty,
            ragged, not finite, or not of the backbone.
        TooLarge, Unsupported: as `image_upload.read`; a feature counts as an image.
    """
    kind, settings = bodies.media_type(request), service.settings
    if kind in (NPY, SAFETENSORS):
        data = await bodies.read_body(request, settings.max_body_bytes, "features")
        return _from_bytes(data, service)
    if kind == "application/json":
        data = await bodies.read_body(request, settings.max_body_bytes, "JSON body")
        _check_values(data, service)
        return _from_json(bodies.parse_json(data, PredictBody, "JSON body"), service)
    if kind not in image_upload.RAW:
        check_takes_images(service)
    upload = await image_upload.read(request, settings)
    if kind in image_upload.RAW:
        if _holds_features(upload.images[0]):
            return _from_bytes(upload.images[0], service)
        check_takes_images(service)
    _check_no_snapshot(upload)
    return upload.images


def check_takes_images(service: Service) -> None:
    """Refuse images where the bundle has no backbone.

    Raises:
        BadRequest: it has none.
    """
    if service.engine.size is None:
        raise BadRequest(
            f"this server takes features only: its bundle has no backbone; send features of {_meant(service)}, "
            f'{service.engine.feature_dim} numbers each, as JSON {{"features": [[…]]}}, {NPY} or {SAFETENSORS}'
        )


def _check_values(data: bytes, service: Service) -> None:
    """Refuse JSON of more values than the largest request has, before they take memory."""
    bodies.check_json(data, "JSON body")
    count, width, most = data.count(b","), service.engine.feature_dim, service.settings.max_images
    limit = max(FEW, most * (width + 2))
    if count > limit:
        raise TooLarge(
            f"JSON body has {count} values; the limit is {limit}, for {most} features of {width} numbers; send an "
            f"array as {NPY}"
        )


def _check_no_snapshot(upload: Upload) -> None:
    if upload.labels is not None or upload.epoch is not None or upload.ids is not None or upload.dataset:
        raise BadRequest("labels, epoch, ids and dataset make a snapshot: POST them to /v1/features")


def _features(features: NDArray[Any], service: Service) -> Floats:
    """Return features as f32 (N, D).

    Args:
        features: numbers of any type and shape.
        service: whose backbone and limits count.

    Raises:
        BadRequest: there are none, of another shape, or not finite.
        TooLarge: more rows than the limit of images.
    """
    rows = features[None] if features.ndim == 1 and features.size else features
    most, width = service.settings.max_images, service.engine.feature_dim
    if rows.ndim != 2 or not rows.size:
        raise BadRequest(f"features: expected (N, {width}) with N at least 1, got shape {features.shape}")
    if len(rows) > most:
        raise TooLarge(f"the request has {len(rows)} features; the limit is {most}")
    if rows.shape[1] != width:
        raise BadRequest(f"features of {rows.shape[1]} dimensions came; expected {width}, those of {_meant(service)}")
    with np.errstate(over="ignore"):
        found: Floats = np.ascontiguousarray(rows, np.float32)
    bad = np.flatnonzero(~np.isfinite(found).all(1))
    if len(bad):
        raise BadRequest(f"features: {len(bad)} of {len(found)} are not finite as float32: {rows_told(bad)}")
    return found


def _meant(service: Service) -> str:
    """The backbone whose features are taken, in words."""
    manifest, digest = service.bundle.manifest, service.bundle.backbone_digest
    return f"the backbone {manifest.architecture} ({digest[:12]})"


def _holds_features(data: bytes) -> bool:
    """Whether the first bytes are those of an array or of safetensors; no image begins so."""
    return data.startswith(b"\x93NUMPY") or data[8:9] == b"{"


def _from_bytes(data: bytes, service: Service) -> Floats:
    try:
        if data.startswith(b"\x93NUMPY"):
            return _features(npy.from_bytes(data, npy.FLOATS), service)
        tensors, metadata = safetensor.decode(data, TENSORS)
        if "features" not in tensors:
            raise FormatError("tensor 'features' is missing")
    except FormatError as error:
        raise BadRequest(f"features: {error}") from error
    _check_space(metadata.get("backbone"), service)
    return _features(tensors["features"], service)


def _check_space(backbone: str | None, service: Service) -> None:
    """Refuse features that say themselves that another backbone made them."""
    if backbone not in (None, service.bundle.backbone_digest):
        raise BadRequest(f"features of the backbone {backbone!r:.14}… came; expected those of {_meant(service)}")


def _from_json(body: PredictBody, service: Service) -> list[bytes] | Floats:
    if (body.images is None) == (body.features is None):
        came = "neither" if body.images is None else "both"
        raise BadRequest(f"JSON body: expected either images or features, got {came}")
    if body.images is not None:
        check_takes_images(service)
        return image_upload.from_base64_list(body.images, service.settings)
    return _features(_array(body.features or []), service)


def _array(vectors: Sequence[float | Sequence[float]]) -> NDArray[Any]:
    try:
        return np.array(vectors, np.float64)
    except ValueError as error:  # numpy says it of nested lists in many words
        raise BadRequest("features: expected vectors of one length, got several lengths") from error
