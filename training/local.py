"""The commands `adopt`, `train`, `snapshot`, `refit` and `evaluate` as functions, for programs and notebooks.

    from breadcrumbs.training import local

Each does what the command of its name does, takes the same settings as a typed object, and raises an error of
`models.errors` with the sentence that the command would print. What needs PyTorch is imported when it is called. It
knows nothing of servers; `breadcrumbs.Client` asks one.

Letters: C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.refit_report import RefitReport
from breadcrumbs.training.adopt.config import AdoptConfig
from breadcrumbs.training.config import RefitDevice, RefitSpec, TrainConfig

Place = str | Path
"""A file or a folder."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured of a bundle.

    Attributes:
        bundle: that was measured.
        found: all of it, as `breadcrumbs evaluate --json` prints it: `heads`, `classes`, `notes`, and where asked for
            `against` and `coverage`.
    """

    bundle: Bundle
    found: dict[str, Any]

    @property
    def metrics(self) -> dict[str, Any]:
        """The exported head's metrics by name, each an interval: `value`, `low` and `high`."""
        metrics: dict[str, Any] = self.found["heads"][self.found["exported"]]["metrics"]
        return metrics

    def columns(self) -> dict[str, list[Any]]:
        """Return the exported head's recall as a table by columns, a row for each class (C); pandas takes it."""
        classes = self.found["classes"]
        return {
            "class": classes["names"],
            "group": classes["groups"][self.bundle.manifest.groups],
            "train_images": classes["train_images"],
            "test_images": classes["test_images"],
            "recall": self.found["heads"][self.found["exported"]]["recall"],
        }


def adopt(
    backbone: str, config: AdoptConfig, out: Place, *, cache: Place | None = None, device: RefitDevice = "auto"
) -> Bundle:
    """Fit a head for your images to a pretrained backbone, and write the bundle to `out/bundle`.

    Args:
        backbone: a timm network, `hf-hub:org/name`, `local-dir:folder`, a file of weights, or an ONNX file.
        config: the images (`data`), and how the backbone is opened.
        out: folder of the run.
        cache: folder of features that are known already; None means among your caches.
        device: where the head is solved.

    Raises:
        AdoptError, BackboneError: the backbone cannot be used.
        DataError: the images cannot be used.
        RefitError: no head can be fitted.
    """
    from breadcrumbs.training.adopt.adopt import adopt as make
    from breadcrumbs.training.adopt.cache import default_folder

    return make(backbone, config, Path(out), default_folder() if cache is None else Path(cache), device=device)


def fit(config: TrainConfig, out: Place, *, resume: bool = False) -> Bundle:
    """Train a backbone and its heads, and write the bundle to `out/bundle`.

    Args:
        config: of the run; `training.recipes.recipe` has the named ones.
        out: folder of the run.
        resume: continue from the checkpoint there.

    Raises:
        DataError: the images cannot be used.
        TrainingError: the folder holds another run, or the loss is no longer finite.
        ExportError: the exported network does not give the results of the trained one.
    """
    from breadcrumbs.training.run.fit import fit as train

    return train(config, Path(out), resume=resume)


def snapshot(bundle: Bundle | Place, data: Place, out: Place, *, epochs: int = 1, clean: bool = True) -> list[Path]:
    """Compute the features of labelled images with a bundle's backbone, and return the files of rows to refit from.

    Args:
        bundle: whose backbone looks.
        data: the images, as for `adopt`; none are held out.
        out: folder for the snapshots.
        epochs: passes over the images, a file each.
        clean: without augmentation, which is one pass.

    Raises:
        BundleError: the bundle has no backbone.
        DataError: the images cannot be used.
    """
    from breadcrumbs.training.make_snapshots import make_snapshots

    return list(make_snapshots(_opened(bundle), Path(out), data=str(data), epochs=epochs, clean=clean).paths)


def refit(
    bundle: Bundle | Place,
    snapshots: Sequence[Place],
    out: Place,
    *,
    spec: RefitSpec | None = None,
    holdout: Place | None = None,
    device: RefitDevice = "auto",
) -> RefitReport:
    """Fit a new head to rows of features, without images; `out/bundle` is the bundle with that head.

    Args:
        bundle: whose head is refitted; its own snapshots are rows, too.
        snapshots: files of further rows.
        out: folder for head, report and bundle.
        spec: how the head is chosen; None means the defaults.
        holdout: a snapshot to judge on; None means the bundle's, or a share of the images where it has none.
        device: where the head is solved.

    Returns:
        The report, with the answer of the gate in `report.gate`; the head is written, whatever the gate says.

    Raises:
        FormatError: a file is damaged.
        EditError: the classes cannot be edited as the spec says.
        RefitError: no head can be fitted.
    """
    from breadcrumbs.training.refit.files import run

    held = None if holdout is None else Path(holdout)
    folder = bundle.folder if isinstance(bundle, Bundle) else Path(bundle)
    return run(folder, None, [*map(Path, snapshots)], held, spec or RefitSpec(), Path(out), device=device)


def evaluate(
    bundle: Bundle | Place,
    *,
    data: Place | None = None,
    test_data: Place | None = None,
    features: Place | None = None,
    against: Bundle | Place | None = None,
) -> Evaluation:
    """Measure a bundle's heads on test images, or on rows of features.

    Args:
        bundle: what to measure.
        data: the data set; None means the one that the bundle was made of.
        test_data: the test set, where it is elsewhere.
        features: instead of images, a file of features with labels, made by the bundle's backbone.
        against: another bundle, to compare both exported heads on the same rows.

    Raises:
        BreadcrumbsError: both images and features are named.
        DataError: the images are not as they should be, or are of classes that the bundle does not know.
        BundleError: the bundle takes no images.
        FormatError: the file of features is damaged.
    """
    from breadcrumbs.models.errors import BreadcrumbsError
    from breadcrumbs.training import feature_rows
    from breadcrumbs.training.measure import config_of, evaluated, evaluated_rows

    opened = _opened(bundle)
    other = None if against is None else _opened(against)
    places = {name: None if place is None else str(place) for name, place in (("data", data), ("test_data", test_data))}
    if features is None:
        beside = None if other is None else (other, config_of(other, **places))
        return Evaluation(opened, evaluated(opened, config_of(opened, **places), beside).found)
    if any(places.values()):
        raise BreadcrumbsError("evaluate: got images and features; expected one of them: leave the other out")
    return Evaluation(opened, evaluated_rows(opened, feature_rows.read(opened, Path(features)), other).found)


def _opened(bundle: Bundle | Place) -> Bundle:
    return bundle if isinstance(bundle, Bundle) else bundles.read(Path(bundle))
