"""From features that were computed elsewhere to a bundle without a backbone, whose server takes features.

    files -> training and test rows -> head, report and bundle by `package`

It knows nothing of images or of how a head is chosen.
"""

import logging
from pathlib import Path

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.training.adopt.config import AdoptConfig
from breadcrumbs.training.adopt.feature_files import Contents, FeatureFiles, read
from breadcrumbs.training.adopt.opened import AdoptError
from breadcrumbs.training.adopt.package import FeatureSet, Origin, check_out, package
from breadcrumbs.training.config import RefitDevice, RefitSpec
from breadcrumbs.training.data.taxonomy import with_taxonomy

LOG = logging.getLogger("breadcrumbs.adopt")

SETTINGS = ("name", "holdout", "groups", "seed", "taxonomy")
"""Of the configuration, what features have a use for."""


def adopt_features(
    named: FeatureFiles,
    config: AdoptConfig,
    out: Path,
    *,
    spec: RefitSpec | None = None,
    device: RefitDevice = "cpu",
) -> Bundle:
    """Make a bundle of features, and write it to `out/bundle`, metrics and report beside it.

    Args:
        named: the files of features.
        config: of which `SETTINGS` count.
        out: folder of the run; an earlier bundle there is replaced once the new one is whole.
        spec: how the head is chosen; None means the refit's defaults.
        device: where the head is solved.

    Raises:
        AdoptError: the features do not fit together, or a setting is for images.
        FormatError: a file is damaged, or the taxonomy has no place for a class.
        RefitError: no head can be fitted.
    """
    check_out(out)
    _check_settings(config)
    rows = read(named, config.holdout, config.seed)
    data = with_taxonomy(rows.data, config.taxonomy)
    for note in rows.data.notes:
        LOG.warning("%s", note)
    LOG.info(
        "%d training and %d test rows of %d classes, %d dimensions, by %s",
        len(rows.train), len(rows.test), len(rows.data.classes), rows.train.shape[1], rows.called,
    )  # fmt: skip
    origin = _origin(rows, named, config)
    return package(origin, data, FeatureSet((rows.train,), rows.test, rows.epoch), out, spec, device)


def _check_settings(config: AdoptConfig) -> None:
    strange = sorted(config.model_fields_set - set(SETTINGS))
    if strange:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in strange)
        raise AdoptError(f"{flags}: for images only; --features has the features already: leave it out")


def _origin(rows: Contents, named: FeatureFiles, config: AdoptConfig) -> Origin:
    recipe = config.model_dump(mode="json", include=set(SETTINGS))
    recipe |= {"features": str(named.train), "test_features": named.test and str(named.test), "space": named.space}
    return Origin(
        name=config.model_copy(update={"data": named.train.stem}).model_name, architecture=rows.called,
        space=rows.space, recipe=recipe, groups=config.groups, seed=config.seed,
    )  # fmt: skip
