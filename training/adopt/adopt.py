"""From a backbone that is there already, and images, to a bundle: nothing is trained but the head.

    open -> images -> features once -> head, report and bundle by `package`

It knows nothing of what a backbone may be (`source`) or of how a head is chosen (`training.refit`).
"""

import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.head import LinearHead
from breadcrumbs.training.adopt.class_text import TEMPLATES, read_words, sentences
from breadcrumbs.training.adopt.config import AdoptConfig
from breadcrumbs.training.adopt.features import Extractor
from breadcrumbs.training.adopt.onnx_graph import operators
from breadcrumbs.training.adopt.opened import Opened
from breadcrumbs.training.adopt.package import FeatureSet, Origin, check_out, package
from breadcrumbs.training.adopt.source import Source, open_source
from breadcrumbs.training.adopt.two_towers import TextTower
from breadcrumbs.training.config import EMBEDDED, STANDARD, RefitDevice, RefitSpec, TrainConfig
from breadcrumbs.training.data.class_names import listed
from breadcrumbs.training.data.dataset import Data, Split, load
from breadcrumbs.training.data.sources import check_place
from breadcrumbs.training.export import open_session
from breadcrumbs.training.refit.deployment import check_deployment
from breadcrumbs.training.run.package import samples

LOG = logging.getLogger("breadcrumbs.adopt")

CHECKED = 32  # images on which the graph is compared with what it was opened from, and timed


def adopt(
    backbone: str,
    config: AdoptConfig,
    out: Path,
    cache: Path,
    *,
    spec: RefitSpec | None = None,
    device: RefitDevice = "cpu",
) -> Bundle:
    """Make a bundle around a backbone, and write it to `out/bundle`, metrics and report beside it.

    Args:
        backbone: as `training.adopt.source` says.
        config: the images, and how the backbone is opened.
        out: folder of the run; an earlier bundle there is replaced once the new one is whole.
        cache: folder of features and graphs that are known already.
        spec: how the head is chosen; None means the refit's defaults.
        device: where the head is solved.

    Raises:
        AdoptError: the backbone cannot be deployed.
        BackboneError: there is no such network, or no such weights for it here.
        DataError: the images cannot be used.
        ExportError: ONNX Runtime does not give the features of torch.
        RefitError: no head can be fitted.
    """
    check_out(out)
    check_place(config.recipe("none", config.size or 224, 1))
    in_memory = config.data in (EMBEDDED, *STANDARD)
    words = {} if config.class_text is None else read_words(config.class_text)
    source = open_source(backbone, config, in_memory=in_memory, exports=cache / "graphs", texts=config.named)
    opened = source.opened
    recipe = config.recipe(opened.name, opened.preprocess.height, config.looks + 1)
    for note in opened.notes:
        LOG.info("%s", note)
    data = load(recipe)
    check_deployment(spec or RefitSpec(), data.classes)
    LOG.info("%d training and %d test images of %d classes", len(data.train), len(data.test), len(data.classes))
    _check(source, data.train)
    looks = _looks(opened, data, config, recipe, cache)
    origin = _origin(opened, data, recipe)
    if config.named and source.texts is not None:
        data, origin = _with_names(source.texts, data, origin, config.class_names or TEMPLATES, words)
    return package(origin, data, looks, out, spec, device)


def _with_names(
    texts: TextTower, data: Data, origin: Origin, templates: Sequence[str], words: Mapping[str, tuple[str, ...]]
) -> tuple[Data, Origin]:
    """Add the classes that only have words, and what the text tower says of all of them."""
    new = tuple(name for name in words if name not in data.classes)
    data = replace(data, classes=(*data.classes, *new))
    if new:
        LOG.info("%d classes without any image, known by their words alone: %s", len(new), listed(new))
    rows = texts.rows(sentences(data.classes, words, templates))
    LOG.info("the words of %d classes in %d sentences each: the head may start from them", len(rows), len(templates))
    head = LinearHead(rows, np.zeros(len(rows), np.float32), data.classes)
    return data, replace(origin, files={**origin.files, bundles.NAMED: heads.to_onnx(head)})


def _origin(opened: Opened, data: Data, recipe: TrainConfig) -> Origin:
    own = samples(data.test, len(data.classes), opened.preprocess, recipe)
    return Origin(
        name=recipe.model_name, architecture=opened.name, space=opened.digest,
        recipe=recipe.model_dump(mode="json"), groups=recipe.groups, seed=recipe.seed, preprocess=opened.preprocess,
        files={bundles.BACKBONE: opened.model, **own},
    )  # fmt: skip


def _check(source: Source, split: Split) -> None:
    """Compare the graph with its original on real images, and tell what it is made of and how long an image takes."""
    opened = source.opened
    rows = np.linspace(0, len(split) - 1, min(CHECKED, len(split))).astype(int)
    images = np.stack([split.fitted(int(row), opened.preprocess) for row in rows])
    difference = source.check(images)
    LOG.info("checked on %d images: features differ by %.1g of the largest at most", len(images), difference)
    session, took = open_session(opened.model), []
    for image in images:
        began = time.perf_counter()
        session.run(None, {"image": image[None]})
        took.append(time.perf_counter() - began)
    kinds = operators(opened.model)
    LOG.info(
        "the graph: %d nodes of %d kinds of operators, %.1f MB, %.1f ms an image here", kinds.total(), len(kinds),
        len(opened.model) / 1e6, 1e3 * statistics.median(took),
    )  # fmt: skip


def _looks(opened: Opened, data: Data, config: AdoptConfig, recipe: TrainConfig, cache: Path) -> FeatureSet:
    extractor = Extractor(opened, cache, config.batch_size)
    began = time.monotonic()
    clean, digests = extractor.clean(data.train, "features of the training images")
    others = [extractor.augmented(data.train, digests, recipe, look) for look in range(1, config.looks + 1)]
    test, _ = extractor.clean(data.test, "features of the test images")
    made, took = extractor.computed, time.monotonic() - began
    known = len(clean) * (1 + len(others)) + len(test) - made
    LOG.info("features: %d computed in %.0f s, %d were known, in %s", made, took, known, cache)
    return FeatureSet((*others, clean), test)
