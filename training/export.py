"""Exports a trained network to ONNX, and refuses it unless both give the same results on real images.

It knows nothing of training. The gate compares torch and ONNX Runtime on every test image: features within 1e-3 of
the largest feature, and the same top class from both heads.
"""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.head import IR_VERSION, LinearHead, parse_onnx
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.training.network import Features
from breadcrumbs.training.origin import forget_origin

TOLERANCE = 1e-3  # of features, relative to the largest
OPSET = 18


class ExportError(BreadcrumbsError):
    """The exported network does not give the results of the trained one."""


def to_onnx(features: Features, preprocess: Preprocess) -> bytes:
    """Return the network as ONNX: `image` uint8 (N, H, W, 3) -> `feature` f32 (N, D), N free, one single file."""
    example = torch.zeros(2, preprocess.height, preprocess.width, 3, dtype=torch.uint8)
    module = features.eval().to("cpu")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "backbone.onnx"
        torch.onnx.export(
            module, (example,), str(path), dynamo=True, external_data=False, opset_version=OPSET,
            input_names=["image"], output_names=["feature"], dynamic_shapes=({0: torch.export.Dim("N")},),
            verbose=False,
        )  # fmt: skip
        model = parse_onnx(path.read_bytes())
    model.ir_version = IR_VERSION
    forget_origin(model)
    return bytes(model.SerializeToString())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's log, warnings and output; errors are still raised."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def open_session(model: bytes) -> Any:
    """Return a backbone on the GPU, if there is one that torch and ONNX Runtime can both use; else on the CPU."""
    providers: list[str | tuple[str, dict[str, str]]] = ["CPUExecutionProvider"]
    if torch.cuda.is_available() and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        onnxruntime.preload_dlls()
        providers.insert(0, ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"}))
    return onnxruntime.InferenceSession(model, providers=providers)


def run_onnx(model: bytes, batches: Iterable[Tensor]) -> Floats:
    """Return the features (N, D) of batches of uint8 images by ONNX Runtime on the CPU."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": images.numpy()})[0] for images in batches])


def run_both(features: Features, model: bytes, batches: Iterable[Tensor]) -> tuple[Floats, Floats]:
    """Return the features (N, D) of batches of uint8 images by torch and by ONNX Runtime, in one pass."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        pairs = [(features(images).numpy(), session.run(None, {"image": images.numpy()})[0]) for images in batches]
    trained, exported = zip(*pairs, strict=True)
    return np.concatenate(trained), np.concatenate(exported)


def gate(torch_features: Floats, onnx_features: Floats, heads: Iterable[LinearHead]) -> float:
    """Refuse an export whose results differ from those of the trained network.

    Args:
        torch_features, onnx_features: (N, D) of the same real images.
        heads: each must give the same top class on both.

    Returns:
        The largest difference of a feature, relative to the largest feature.

    Raises:
        ExportError: a feature differs by more than the tolerance, or a top class differs.
    """
    difference = float(np.abs(torch_features - onnx_features).max() / np.abs(torch_features).max())
    if not difference <= TOLERANCE:
        raise ExportError(
            f"features of torch and ONNX Runtime differ by {difference:.2g} of the largest; limit {TOLERANCE}"
        )
    for head in heads:
        changed = int((head.logits(torch_features).argmax(1) != head.logits(onnx_features).argmax(1)).sum())
        if changed:
            raise ExportError(f"torch and ONNX Runtime differ in the top class of {changed} of {len(onnx_features)}")
    return difference
