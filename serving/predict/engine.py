"""ONNX Runtime: images to features through the bundle's backbone, features to logits through a head.

Features that were computed elsewhere go straight to the head, in the same batches; a bundle that was made of such has
no backbone. Sessions live as long as the server. The head's takes weight and bias as inputs, so that another head, with
more classes too, is another pair of arrays: a swap is one assignment, no session is made or dropped, and a batch that
has begun ends with the head it began with. On a CPU of several threads the backbone has two sessions: a lone image is
fastest on one that uses all threads, batches side by side are fastest with a thread each; the second is made when the
first batches come side by side. It knows nothing of bytes, HTTP, queues or where heads are kept.

Letters: N rows, D feature dimensions, C classes.
"""

import contextlib
import ctypes
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from breadcrumbs.models.arrays import Floats, Pixels
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.head import LinearHead, to_onnx
from breadcrumbs.models.machine import cores
from breadcrumbs.serving.predict import devices
from breadcrumbs.serving.predict.devices import EngineError, Model, TensorRT, Wish
from breadcrumbs.serving.refusals import BadRequest
from breadcrumbs.serving.setting_names import both

LOG = logging.getLogger("breadcrumbs.engine")

CALM = 0.1
"""Seconds without company after which an image is taken to be alone: the threads that wait for the next one would take
the cores from others."""


@dataclass(frozen=True, eq=False)
class BoundHead:
    """A head whose arrays lie on the device.

    Attributes:
        version: its number in the store.
        head: the numbers and the class names.
        weight, bias: the same numbers, as ONNX Runtime's values.
    """

    version: int
    head: LinearHead
    weight: Any = field(repr=False)
    bias: Any = field(repr=False)


@dataclass(frozen=True, eq=False)
class Row:
    """One image to compute, or the feature of one.

    Attributes:
        pixels: uint8 (H, W, 3); or
        feature: f32 (D,), finite.
        head: the head to use; none: the one that is live when its batch begins.
    """

    pixels: Pixels | None = None
    head: BoundHead | None = None
    feature: Floats | None = None


@dataclass(frozen=True, eq=False)
class Scores:
    """What came out for one image: feature (D,), logits (C,), the head that made them, and the batch's seconds."""

    feature: Floats
    logits: Floats
    head: BoundHead
    seconds: float = 0.0


class Engine:
    """Runs batches, from as many threads as `workers` says; `swap` and `bind` are for any thread.

    Args:
        backbone: gives `backbone.onnx`, its place or its bytes; from a file it takes half the memory. None: there is
            none, and every row has a feature.
        head: what is live at first.
        version: its number.
        size: rows and columns of the images; None without a backbone.
        device: where to run; see `Settings.device`.
        threads: CPU threads of the backbone, 0: one a core.
        observe: told the seconds of backbone and head after each batch.
        max_batch: images that a batch will have at most, for TensorRT.
        tensorrt_cache: where TensorRT keeps its engines, if anywhere.

    Raises:
        EngineError: the device cannot be used, or the model does not run on it.
    """

    def __init__(
        self,
        backbone: Callable[[], Model] | None,
        head: LinearHead,
        version: int,
        size: tuple[int, int] | None,
        device: Wish = "auto",
        threads: int = 0,
        observe: Callable[[float, float], None] = lambda _backbone, _head: None,
        max_batch: int = 32,
        tensorrt_cache: Path | None = None,
    ) -> None:
        self._observe = observe
        self.size = size
        """Rows and columns of the images. None means that only features are taken."""
        threads = threads or cores()
        if backbone is None:
            self._wide, self.device = None, devices.device_of(to_onnx(head), device)
        else:
            tensorrt = TensorRT((*(size or ()), 3), max_batch, tensorrt_cache)
            self._wide, self.device = devices.open_backbone(backbone(), device, threads, tensorrt)
        self.workers = threads if self.device == "cpu" else 1
        """Batches that are fastest side by side."""
        self._backbone = backbone
        self._options = ort.RunOptions()
        self._narrow: Any = None if self.workers > 1 else self._wide
        self._making: threading.Thread | None = None
        self._running = 0
        self._company = 0.0  # when an image was last not alone
        self._counting = threading.Lock()
        self._heads = devices.session(to_onnx(head), self.device, 1)
        self.feature_dim = head.feature_dim
        """D."""
        self._live = self.bind(version, head)
        self.answered = 0.0
        """When the last batch came out well, on the monotonic clock."""

    @property
    def live(self) -> BoundHead:
        """The head that a batch beginning now would use."""
        return self._live

    def bind(self, version: int, head: LinearHead) -> BoundHead:
        """Bring a head's arrays to the device.

        Raises:
            EngineError: it takes features of another dimension.
        """
        if head.feature_dim != self.feature_dim:
            raise EngineError(
                f"head {version} takes features of {head.feature_dim} dimensions; the backbone has {self.feature_dim}"
            )
        return BoundHead(version, head, self._value(head.weight), self._value(head.bias))

    def _value(self, array: Floats) -> Any:
        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self.device, 0)

    def swap(self, head: BoundHead) -> None:
        """Make a bound head the live one, from the next batch on."""
        self._live = head

    def warm_up(self, max_batch: int, seconds: float | None = None) -> None:
        """Run batches of 1, 2, 4, … `max_batch` blank rows, so that the first request does not pay for it.

        Args:
            max_batch: rows in the largest batch.
            seconds: after which the graph is stopped, since it may not end by itself; None: never.

        Raises:
            EngineError: the backbone does not run or end, or gives features of another dimension than the head takes.
        """
        limit = threading.Timer(seconds or 0, lambda: setattr(self._options, "terminate", True))
        limit.daemon = True
        if seconds is not None:
            limit.start()
        try:
            self._warm_up(max_batch)
        except EngineError as error:
            if not self._options.terminate:
                raise
            raise EngineError(
                f"the backbone gave no answer to a blank image within {seconds:g} s; if it is sound and large, "
                f"{both('start_timeout')} gives it longer"
            ) from error
        finally:
            limit.cancel()

    def _warm_up(self, max_batch: int) -> None:
        sizes = {min(2**power, max_batch) for power in range(max_batch.bit_length() + 1)}
        for count in sorted(sizes) if self.device == "cuda" else (1,):  # a CPU has nothing to tune for a size
            self._score([self.blank()] * count)
        release_memory()

    def blank(self) -> Row:
        """Return a row to try the engine with."""
        if self.size is None:
            return Row(feature=np.zeros(self.feature_dim, np.float32))
        return Row(np.zeros((*self.size, 3), np.uint8))

    def compute(self, rows: Sequence[Row]) -> list[Scores | BadRequest]:
        """Compute a batch. Rows that name no head all use ONE head: the one that is live now.

        The result of a given feature that is too large for the head is its refusal.

        Raises:
            EngineError: ONNX Runtime failed, or a result is not finite.
        """
        scores, seconds = self._score(rows)
        self._observe(*seconds)
        return scores

    def _score(self, rows: Sequence[Row]) -> tuple[list[Scores | BadRequest], tuple[float, float]]:
        live = self._live
        wanted = [row.head or live for row in rows]
        lone = self._enter(len(rows))
        try:
            session = self._wide if lone else self._narrow or self._wide_until_narrow()
            features, logits, seconds = self._run(session, rows, wanted)
        except Exception as error:  # ONNX Runtime's exceptions have no common root of their own
            raise EngineError(f"ONNX Runtime failed on a batch of {len(rows)}: {str(error)[:500]}") from error
        finally:
            self._leave()
        if features.shape != (len(rows), self.feature_dim):
            raise EngineError(f"backbone gave {features.shape}; expected {(len(rows), self.feature_dim)}")
        scores: list[Scores | BadRequest] = [
            Scores(feature, own, head, sum(seconds))
            for feature, own, head in zip(features, logits, wanted, strict=True)
        ]
        if not all(np.isfinite(own).all() for own in ([logits] if isinstance(logits, np.ndarray) else logits)):
            scores = [_checked(row, one) for row, one in zip(rows, scores, strict=True)]
        self.answered = time.monotonic()
        return scores, seconds

    def _enter(self, rows: int) -> bool:
        """Count a batch in; whether it is a lone image, which all threads compute: no company, none a moment ago."""
        now = time.monotonic()
        with self._counting:
            self._running += 1
            if rows > 1 or self._running > 1:
                self._company = now
            return now - self._company > CALM

    def _leave(self) -> None:
        with self._counting:
            self._running -= 1

    def _wide_until_narrow(self) -> Any:
        """The session of all threads, while that of one thread is being made in the background."""
        with self._counting:
            if self._making is None:
                self._making = threading.Thread(target=self._make_narrow, name="session", daemon=True)
                self._making.start()
        return self._wide

    def _make_narrow(self) -> None:
        if self._backbone is None:
            return
        try:
            self._narrow = devices.session(self._backbone(), "cpu", 1)
        except BreadcrumbsError:  # the other one goes on answering
            LOG.exception("no session of one thread; batches side by side share the other")
        release_memory()

    def _run(
        self, session: Any, rows: Sequence[Row], wanted: list[BoundHead]
    ) -> tuple[Floats, Floats | list[Floats], tuple[float, float]]:
        """The features (N, D), on the device between the sessions; each row's logits (C,) by its head; seconds."""
        began = time.perf_counter()
        feature = self._feature(session, rows)
        middle = time.perf_counter()
        heads = {head.version: head for head in wanted}
        if len(heads) == 1:
            logits: Floats | list[Floats] = self._logits(feature, wanted[0])
            features = feature.numpy().copy()  # given features lie in memory that ends with `feature`
        else:
            features = feature.numpy().copy()
            logits = self._by_head(features, heads, wanted)
        return features, logits, (middle - began, time.perf_counter() - middle)

    def _by_head(self, features: Floats, heads: dict[int, BoundHead], wanted: list[BoundHead]) -> list[Floats]:
        """The logits (C,) of each feature (D,), each head computing only the features that want it."""
        logits: dict[int, Floats] = {}
        for version, head in heads.items():
            places = [place for place, one in enumerate(wanted) if one.version == version]
            logits |= zip(places, self._logits(self._value(features[places]), head), strict=True)
        return [logits[place] for place in range(len(wanted))]

    def logits(self, features: Floats, head: BoundHead) -> Floats:
        """Return a head's logits (N, C) of features f32 (N, D), beside the batches; for any thread.

        Raises:
            EngineError: ONNX Runtime failed.
        """
        try:
            return self._logits(self._value(features), head)
        except Exception as error:  # as for a batch
            raise EngineError(f"ONNX Runtime failed on {len(features)} features: {str(error)[:500]}") from error

    def _logits(self, feature: Any, head: BoundHead) -> Floats:
        """The logits (N, C) of features (N, D) that lie on the device."""
        binding = self._heads.io_binding()
        for name, value in (("feature", feature), ("weight", head.weight), ("bias", head.bias)):
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("logits", self.device)
        self._heads.run_with_iobinding(binding)
        logits: Floats = binding.get_outputs()[0].numpy()
        return logits

    def _feature(self, session: Any, rows: Sequence[Row]) -> Any:
        """The rows' features (N, D) on the device: those that are given, and those of pixels by the backbone."""
        images = [row.pixels for row in rows if row.pixels is not None]
        if len(images) == len(rows):
            return self._computed(session, images)
        computed = iter(self._computed(session, images).numpy() if images else ())
        return self._value(np.stack([next(computed) if row.feature is None else row.feature for row in rows]))

    def _computed(self, session: Any, images: Sequence[Pixels]) -> Any:
        """The backbone's features of images, on the device."""
        binding = session.io_binding()
        binding.bind_cpu_input("image", images[0][None] if len(images) == 1 else np.stack(images))
        binding.bind_output("feature", self.device)
        session.run_with_iobinding(binding, self._options)
        return binding.get_outputs()[0]


def _checked(row: Row, scores: Scores | BadRequest) -> Scores | BadRequest:
    """A row's scores, where they are finite; the refusal of a given feature for which they are not.

    Raises:
        EngineError: the backbone made the feature.
    """
    if isinstance(scores, BadRequest) or np.isfinite(scores.logits).all():
        return scores
    if row.feature is None:
        raise EngineError("the model gave a value that is not finite")
    return BadRequest(
        f"a feature has values up to {np.abs(row.feature).max():.3g}, for which the head's logits are not finite; "
        "expected a feature as the backbone makes it"
    )


def release_memory() -> None:
    """Give back what loading a model took: glibc would keep it, twice the model's size."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
