"""The commands that train, measure and look: a few lines each around what does the work, imported when it is needed.

`breadcrumbs/cli.py` hangs them under its own. It knows nothing of servers.
"""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from breadcrumbs.models.images.decoding import MAX_PIXELS
from breadcrumbs.training.config import Check, TrainConfig, read_settings
from breadcrumbs.training.stopping import STATUS, Terminated, stoppable
from breadcrumbs.training.terminal.bars import step
from breadcrumbs.training.terminal.refit_events import Json, tell_json
from breadcrumbs.training.terminal.tables import show


def train(
    *,
    recipe: str | None = None,
    out: Path = Path("runs/latest"),
    resume: bool = False,
    int8: bool = False,
    json: Json = False,
    config: Annotated[TrainConfig | None, Parameter(name="*")] = None,
) -> None:
    """Train a backbone and its heads, and write a bundle.

    Example: `breadcrumbs train --data photos/ --out runs/photos`

    Args:
        recipe: Named configuration to start from; the other flags override its fields. Default: `finetune` for images
            of your own, `demo` for the sets known by name.
        out: Folder of the run; the bundle goes into its `bundle/`.
        resume: Continue from the checkpoint in `--out`, with the configuration saved there.
        int8: Also make the backbone in int8, for CPUs, if it is 1.2 times as fast there and costs little recall.
        json: Print one JSON object: the bundle's folder and its metrics.
        config: Fields of the configuration.
    """
    from breadcrumbs.training.recipes import recipe as recipe_named
    from breadcrumbs.training.recipes import recipe_for

    given = {} if config is None else config.model_dump(include=config.model_fields_set)
    if resume:
        base = TrainConfig.model_validate(read_settings(out / "config.json"))
    else:
        base = recipe_named(recipe or recipe_for(given.get("data")))
    chosen = TrainConfig.model_validate({**base.model_dump(), **given})
    try:
        with stoppable():
            from breadcrumbs.training import processes
            from breadcrumbs.training.run.fit import fit

            bundle = fit(chosen, out, resume=resume)
            if int8 and processes.is_main():
                from breadcrumbs.training.int8.int8 import add_int8

                bundle = add_int8(bundle)
    except KeyboardInterrupt as stop:
        tell_stopped(out)
        if isinstance(stop, Terminated):
            sys.exit(STATUS)
        raise
    if processes.is_main():
        metrics = bundle.manifest.metrics
        print_heads(f"{bundle.folder} on {metrics['test_images']} test images", bundle.folder, metrics, as_json=json)
    processes.leave()


def tell_stopped(out: Path) -> None:
    """How to go on, said by one of several processes; without a checkpoint there is nothing to go on from."""
    processes = sys.modules.get("breadcrumbs.training.processes")  # a signal may have come during its import
    if processes is not None and not processes.is_main():
        return
    if (out / "checkpoint.pt").exists():
        print(f"stopped; continue with: breadcrumbs train --resume --out {shlex.quote(str(out))}", file=sys.stderr)  # noqa: T201
    else:
        print("stopped before the first checkpoint; start again with the same command", file=sys.stderr)  # noqa: T201


def evaluate(
    bundle: Path,
    /,
    *,
    against: Path | None = None,
    features: Path | None = None,
    data: str | None = None,
    test_data: str | None = None,
    images: Path | None = None,
    check: Check = "headers",
    max_pixels: int | None = None,
    wrong: Path | None = None,
    rows: Path | None = None,
    confusion: Path | None = None,
    html: Path | None = None,
    coverage: Path | None = None,
    json: Json = False,
) -> None:
    """Measure a bundle's heads on test images, as the server would answer them, with 95 % intervals.

    Example: `breadcrumbs evaluate runs/photos/bundle --against runs/older/bundle`

    Args:
        bundle: Folder of the bundle.
        against: Another bundle, to compare the two exported heads on the same test images.
        features: Instead of images, a file of features with labels, made by the bundle's backbone: `.npz`, Parquet,
            Arrow or a snapshot.
        data: The data set, as for `train`; default: the one that the bundle was trained on.
        test_data: The test set, as for `train`.
        images: Root of the paths in list files, as for `train`.
        check: How images are checked first, as for `train`.
        max_pixels: Largest number of pixels in one image, as for `train`.
        wrong: Also write this CSV file: every test image that the exported head takes for another class, worst first.
        rows: Also write this CSV file: every test image, with the exported head's answer.
        confusion: Also write this CSV file: how many images of each class were predicted as each class.
        html: Also write this page: groups, classes, confusions, and wrong images with their pictures.
        coverage: Also write this CSV file: accuracy against coverage for each rank of the bundle's taxonomy.
        json: Print one JSON object with everything.
    """
    from breadcrumbs.models.bundle import read as read_bundle
    from breadcrumbs.training import feature_rows
    from breadcrumbs.training.inspect.evaluation import Outputs
    from breadcrumbs.training.measure import config_of, evaluated, evaluated_rows
    from breadcrumbs.training.terminal.tables import shown

    outputs = Outputs(wrong, rows, confusion, html, coverage)
    outputs.check()
    opened, *other = (read_bundle(folder) for folder in (bundle, against) if folder is not None)
    outputs.check_bundle(opened)
    given = {"data": data, "test_data": test_data, "images": images, "max_pixels": max_pixels}
    if features is not None:
        _check_features_alone({**given, "html": html})
        evaluation = evaluated_rows(opened, feature_rows.read(opened, features), other[0] if other else None)
    else:
        config, *others = (config_of(one, check=check, **given) for one in (opened, *other))
        evaluation = evaluated(opened, config, (other[0], others[0]) if other else None)
    written = outputs.write(opened, evaluation.found, evaluation.looked)
    if json:
        tell_json(evaluation.found | ({"files": written} if written else {}))
        return
    for part in shown(evaluation.found):
        show(part)
    for path in written.values():
        print(path)  # noqa: T201


def _check_features_alone(images: dict[str, object]) -> None:
    """Refuse flags of images, by their names, beside a file of features."""
    from breadcrumbs.models.errors import BreadcrumbsError

    strange = [f"--{name.replace('_', '-')}" for name, value in images.items() if value is not None]
    if strange:
        raise BreadcrumbsError(f"{', '.join(strange)}: for images only; --features has none: leave it out")


def export(run: Path, /, *, half: bool = False, int8: bool = False, json: Json = False) -> None:
    """Write the bundle of a run again, from its checkpoint; of an adopted backbone, add the one in int8.

    Example: `breadcrumbs export runs/photos --half`

    Args:
        run: Folder of the run.
        half: Also write a half-precision backbone, for GPUs, provided that no group loses recall.
        int8: Also make the backbone in int8, for CPUs, if it is 1.2 times as fast there and costs little recall.
        json: Print one JSON object: the bundle's folder and its metrics.
    """
    from breadcrumbs.models.bundle import read as read_bundle
    from breadcrumbs.training.run.fit import export_checkpoint

    adopted = int8 and not half and not (run / "checkpoint.pt").exists()  # nothing to export anew
    bundle = read_bundle(run / "bundle") if adopted else export_checkpoint(run, half=half)
    if int8:
        from breadcrumbs.training.int8.int8 import add_int8

        bundle = add_int8(bundle)
    print_heads(str(bundle.folder), bundle.folder, bundle.manifest.metrics, as_json=json)


def snapshot(
    *,
    bundle: Path,
    out: Path,
    data: str | None = None,
    images: Path | None = None,
    epochs: int = 1,
    clean: bool = False,
    check: Check = "headers",
    max_pixels: int = MAX_PIXELS,
    workers: int = 0,
    json: Json = False,
) -> None:
    """Compute the features of labelled images with a bundle's backbone, and write them as snapshots to refit from.

    Example: `breadcrumbs snapshot --data new-photos/ --bundle runs/photos/bundle --epochs 4 --out looks`

    Args:
        bundle: Folder of the bundle.
        out: Folder for the snapshots; their epoch numbers continue from the bundle's newest.
        data: The images, as for `train`; none are held out. Default: those that the bundle was trained on.
        images: Root of the paths in list files, as for `train`.
        epochs: Passes over the images, one snapshot each, with fresh augmentation from the bundle's recipe.
        clean: One pass without augmentation, with the server's preprocessing.
        check: How images are checked first, as for `train`.
        max_pixels: Largest number of pixels in one image, as for `train`.
        workers: Processes that decode and augment.
        json: Print one JSON object: the files, and the number of images in each class.
    """
    from breadcrumbs.models.bundle import read as read_bundle
    from breadcrumbs.training.make_snapshots import make_snapshots

    opened = read_bundle(bundle)
    made = make_snapshots(
        opened, out, data=data, folder=images, epochs=epochs, clean=clean, check=check, max_pixels=max_pixels,
        workers=workers,
    )  # fmt: skip
    if json:
        written = [str(path) for path in made.paths]
        tell_json({"snapshots": written, "classes": made.rows, "new": list(made.new), "notes": list(made.notes)})
        return
    for path in made.paths:
        print(path)  # noqa: T201
    counts = f"{sum(made.rows.values())} images of {len(made.rows)} classes"
    new = ", ".join(f"{name} ({made.rows[name]})" for name in made.new)
    print(f"{counts}; new: {new or 'none'}")  # noqa: T201


def convert(
    source: Path,
    out: Path,
    /,
    *,
    bundle: Path | None = None,
    epoch: int | None = None,
    classes: tuple[str, ...] = (),
    dataset: str | None = None,
    json: Json = False,
) -> None:
    """Convert features from `.npz`, Parquet or Arrow to a snapshot, with every check that an upload gets.

    Example: `breadcrumbs convert features.npz march.safetensors --bundle runs/photos/bundle --epoch 95`

    Args:
        source: The file to convert.
        out: The snapshot to write.
        bundle: Bundle that supplies what the file lacks: the backbone's digest and the class names.
        epoch: Epoch of the snapshot, if the file has none.
        classes: Names of the labels 0, 1, 2, …, if neither the file nor the bundle has them; repeat for each class.
        dataset: sha256 of the set of images that the ids number, if the file does not say it.
        json: Print one JSON object: the snapshot, its contents, and what was changed.
    """
    from breadcrumbs.models.bundle import read as read_bundle
    from breadcrumbs.models.snapshots.convert import in_child
    from breadcrumbs.models.snapshots.fields import Given
    from breadcrumbs.models.snapshots.formats import LIMIT

    opened = None if bundle is None else read_bundle(bundle)
    names = classes or (None if opened is None else opened.manifest.classes)
    given = Given(None if opened is None else opened.backbone_digest, epoch, names, dataset)
    with step(f"convert {source.name}"):
        made = in_child(source, out, given, LIMIT)
    rows, count, when = made.rows, made.classes, made.epoch
    if json:
        changes = list(made.changes)
        tell_json({"snapshot": str(out), "rows": rows, "classes": count, "epoch": when, "changes": changes})
        return
    for change in made.changes:
        print(change)  # noqa: T201
    print(f"{out}: {rows} rows, {count} classes, epoch {when}")  # noqa: T201


def print_heads(title: str, bundle: Path, metrics: dict[str, Any], *, as_json: bool) -> None:
    """Print what was measured of a bundle's heads: a table, or everything as one JSON object."""
    from breadcrumbs.training.terminal.tables import in_short

    if as_json:
        tell_json({"bundle": str(bundle), "metrics": metrics})
    else:
        show(in_short(title, metrics))
