"""In which precision the backbone runs: as asked for, or what is fastest on this machine.

Full and half precision share a feature space; int8 is another one, with heads of its own. So a store that has a live
head has decided already, and `auto` measures only where nothing is live. It knows nothing of how a backbone is run.
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from breadcrumbs.models.arrays import Pixels
from breadcrumbs.models.bundle import Bundle, Precision
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.speed import FASTER, times_as_fast
from breadcrumbs.serving.predict import devices
from breadcrumbs.serving.predict.devices import EngineError, Wish
from breadcrumbs.serving.predict.in_time import in_time
from breadcrumbs.serving.setting_names import about
from breadcrumbs.serving.settings import Settings
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.activation_log import Log
from breadcrumbs.serving.state.store import Store, StoreError

LOG = logging.getLogger("breadcrumbs.server")

SECONDS = 0.25
"""For the runs of both backbones at start."""

Speed = Callable[[Path, Path, Pixels], float]
"""Returns how many times as fast the second graph is as the first."""
MEASURED: Speed = partial(times_as_fast, batches=(1,), seconds=SECONDS)


async def chosen(
    settings: Settings, bundle: Bundle, store: Store, log: Log, speed: Speed = MEASURED
) -> tuple[Bundle, Precision]:
    """Return the bundle to serve, that of the space, and the precision.

    Args:
        settings: what is asked for.
        bundle: with all of its backbones.
        store: where heads are.
        log: of what went live.
        speed: compares two backbones on this machine, for `auto`.

    Raises:
        BundleError: the bundle has no backbone of the precision that is asked for, or a damaged one.
        EngineError: a backbone does not end in time.
        StoreError: the store cannot be read.
    """
    if bundle.manifest.space is not None:
        return bundle, "full"
    with about("bundle", "precision"):
        if settings.precision != "auto":
            return bundle.of(settings.precision), settings.precision
        int8 = bundle.of("int8") if bundle.has("int8") else None
    on_gpu = has_gpu(settings.device)
    in_float: Precision = "half" if on_gpu and bundle.has("half") else "full"
    if int8 is None:
        return bundle, in_float
    live = await _live_space(store, log, {bundle.backbone_digest, int8.backbone_digest})
    if live is None and not on_gpu:
        timing = partial(_pays, bundle, int8, speed)
        pays = await in_time(timing, settings.start_timeout, f"the models of {bundle.folder}")
        return (int8, "int8") if pays else (bundle, in_float)
    return (int8, "int8") if live == int8.backbone_digest else (bundle, in_float)


async def _live_space(store: Store, log: Log, known: set[str]) -> str | None:
    """The space of the head that went live last, among those that are known; None: none did."""
    for record in reversed(await log.readable()):
        try:
            space = (await heads.record(store, record.head)).backbone
        except StoreError:  # damaged: an older head will be live
            continue
        if space in known:
            return space
    return None


def _pays(bundle: Bundle, int8: Bundle, speed: Speed) -> bool:
    """Time both backbones on one image, and tell whether int8 is fast enough to be worth its cost.

    Raises:
        FormatError: a backbone names another file.
        EngineError: ONNX Runtime cannot run one.
    """
    preprocess = bundle.preprocess
    image = np.full((preprocess.height, preprocess.width, 3), 127, np.uint8)
    try:
        ratio = speed(bundle.backbone_path(), int8.backbone_path(), image)
    except BreadcrumbsError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common root of their own
        raise EngineError(f"ONNX Runtime cannot run the backbones of {bundle.folder}: {str(error)[:500]}") from error
    LOG.info("int8 is %.1f times as fast as full precision on this machine; it pays from %g times", ratio, FASTER)
    return ratio >= FASTER


def has_gpu(wish: Wish) -> bool:
    """Whether the backbone will run on a GPU, where int8 is no faster."""
    if wish == "auto":
        return devices.cuda_defect() is None
    return wish != "cpu"
