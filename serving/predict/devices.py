"""Devices: which one a model runs on, and the ONNX Runtime session that runs it there.

A device that was asked for and cannot be used is an error with its reason; nothing falls back in silence. It knows
nothing of images, heads or batches.
"""

import ctypes
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnxruntime as ort

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.serving.setting_names import both

LOG = logging.getLogger("breadcrumbs.engine")
SILENT = 4
ERRORS_ONLY = 3  # ONNX Runtime warns that the head's weight is also an input, which is the point of it
CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC"}  # EXHAUSTIVE re-tunes for every new batch size

Wish = Literal["auto", "cpu", "cuda", "tensorrt"]
Model = bytes | Path
Device = Literal["cpu", "cuda"]


class EngineError(BreadcrumbsError):
    """A model that ONNX Runtime cannot run, or a device that it cannot run on."""


@dataclass(frozen=True)
class TensorRT:
    """What TensorRT is told when it builds the backbone's engine.

    Attributes:
        input: the dimensions of one image, without that of the batch.
        max_batch: images in a batch at most.
        cache: where engines are kept between starts; none: each start builds anew.
    """

    input: tuple[int, ...]
    max_batch: int
    cache: Path | None = None

    def options(self) -> dict[str, str]:
        """The provider's options: one engine for every batch size from 1 to `max_batch`."""
        image = "x".join(map(str, self.input))
        shapes = {
            f"trt_profile_{name}_shapes": f"image:{count}x{image}"
            for name, count in (("min", 1), ("opt", self.max_batch), ("max", self.max_batch))
        }
        kept = {} if self.cache is None else {
            "trt_engine_cache_enable": "True", "trt_engine_cache_path": str(self.cache),
            "trt_timing_cache_enable": "True", "trt_timing_cache_path": str(self.cache),
        }  # fmt: skip
        return shapes | kept


def open_backbone(backbone: Model, wish: Wish, threads: int, tensorrt: TensorRT) -> tuple[Any, Device]:
    """Open the backbone on the wanted device and prove that it is there.

    Returns:
        The session, and where its tensors lie.

    Raises:
        EngineError: the device cannot be used, and why; or the model cannot be loaded.
    """
    if wish == "cpu":
        return session(backbone, "cpu", threads, spinning=True), "cpu"
    if wish == "tensorrt":
        return _tensorrt(backbone, threads, tensorrt), "cuda"
    if "CUDAExecutionProvider" in ort.get_available_providers() and has_driver():
        opened = _on_gpu(backbone, threads)
        if opened.get_providers()[0] == "CUDAExecutionProvider":
            LOG.info("device: cuda")
            return opened, "cuda"
    reason = cuda_defect() or "the GPU's driver is older than the CUDA libraries need"
    if wish == "cuda":
        raise EngineError(f"device cuda was asked for, but CUDA cannot be used: {reason}; set by {both('device')}")
    if has_driver():
        raise EngineError(f"there is a GPU, but CUDA cannot be used: {reason}; {both('device')} cpu serves without it")
    LOG.warning("device: cpu, since CUDA cannot be used: %s", reason)
    return session(backbone, "cpu", threads, spinning=True), "cpu"


def device_of(head: Model, wish: Wish) -> Device:
    """Return where a head runs that has no backbone; it is opened there once. Raises as `open_backbone`.

    TensorRT is for backbones: the head runs in CUDA then.
    """
    return open_backbone(head, "cuda" if wish == "tensorrt" else wish, 1, TensorRT((), 1))[1]


def _tensorrt(backbone: Model, threads: int, tensorrt: TensorRT) -> Any:
    """Open the backbone in TensorRT; what it cannot run, CUDA does."""
    reason = "" if has_driver() else cuda_defect() or ""
    if not reason and "TensorrtExecutionProvider" not in ort.get_available_providers():
        reason = "this build of onnxruntime has no TensorRT"
    if not reason:
        opened = _on_gpu(backbone, threads, [("TensorrtExecutionProvider", tensorrt.options())])
        if opened.get_providers()[0] == "TensorrtExecutionProvider":
            LOG.info("device: cuda, the backbone in TensorRT")
            return opened
        reason = "its libraries (libnvinfer) cannot be loaded; install the package tensorrt of ONNX Runtime's version"
    raise EngineError(f"device tensorrt was asked for, but TensorRT cannot be used: {reason}; set by {both('device')}")


def _on_gpu(backbone: Model, threads: int, first: list[Any] | None = None) -> Any:
    ort.preload_dlls()
    ort.set_default_logger_severity(SILENT)  # it would tell of a missing library, at length; we tell it once
    try:
        return session(backbone, "cuda", threads, first)
    finally:
        ort.set_default_logger_severity(ERRORS_ONLY)


def cuda_defect() -> str | None:
    """Say why CUDA cannot be used here, looking without a model; none: nothing stands against it."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return "this build of onnxruntime has no CUDA; install onnxruntime-gpu[cuda,cudnn]"
    if not has_driver():
        return "no NVIDIA driver (libcuda.so.1) is installed, or it sees no GPU"
    ort.preload_dlls()
    capi = Path(ort.__file__).parent / "capi"
    try:  # ONNX Runtime only logs why its library does not load; the loader says it
        ctypes.CDLL(str(capi / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(capi / "libonnxruntime_providers_cuda.so"))
    except OSError as error:
        return str(error)
    return None


def has_driver() -> bool:
    """Whether the driver is there and sees a GPU: asked first, since loading CUDA's libraries takes 250 MB."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def session(
    model: Model, device: Device, threads: int, first: list[Any] | None = None, *, spinning: bool = False
) -> Any:
    """Load a model.

    Args:
        model: an ONNX file, or its bytes.
        device: where it runs.
        threads: of the CPU.
        first: providers that are asked before those of the device.
        spinning: whether its threads stay awake for a moment after a run, to begin the next one at once; else
            the cores are free between runs.

    Raises:
        EngineError: it cannot be loaded.
    """
    options = ort.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.intra_op_num_threads = threads
    if not spinning:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    cuda = [*(first or []), ("CUDAExecutionProvider", CUDA_OPTIONS)] if device == "cuda" else []
    try:
        given = str(model) if isinstance(model, Path) else model
        return ort.InferenceSession(given, options, providers=[*cuda, "CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common root of their own
        raise EngineError(f"ONNX Runtime cannot load the model: {str(error)[:500]}") from error
