"""The commands that train, measure and look: a few lines each around what does the work, imported when it is needed.

`breadcrumbs.py` hangs them under its own. It knows nothing of servers.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from training.bars import step
from training.config import TrainConfig, read_settings
from training.progress import tell_json

screen = Console()


def train(
    *,
    recipe: str = "demo",
    out: Path = Path("runs/latest"),
    resume: bool = False,
    json: bool = False,
    config: Annotated[TrainConfig | None, Parameter(name="*")] = None,
) -> None:
    """Train backbone and heads, and write a bundle.

    Example: `breadcrumbs train --data photos/ --architecture resnet50 --pretrained --size 224 --out runs/photos`

    Args:
        recipe: named configuration to start from; every other flag overrides one of its fields.
        out: folder of the run; the bundle is in its `bundle/`.
        resume: go on from the checkpoint in `out`, with the configuration saved there.
        json: print one JSON object: the bundle's folder, and what was measured.
        config: fields of the configuration.
    """
    from training import processes
    from training.config import recipe as find
    from training.fit import fit

    base = TrainConfig.model_validate(read_settings(out / "config.json")) if resume else find(recipe)
    given = {} if config is None else config.model_dump(include=config.model_fields_set)
    chosen = TrainConfig.model_validate({**base.model_dump(), **given})
    try:
        bundle = fit(chosen, out, resume=resume)
    except KeyboardInterrupt:
        print(f"stopped; go on with: breadcrumbs train --resume --out {out}", file=sys.stderr)  # noqa: T201
        raise
    if processes.is_main():
        metrics = bundle.manifest.metrics
        print_heads(f"{bundle.folder} on {metrics['test_images']} test images", bundle.folder, metrics, as_json=json)
    processes.leave()


def evaluate(
    bundle: Path,
    /,
    *,
    against: Path | None = None,
    data: str | None = None,
    test_data: str | None = None,
    images: Path | None = None,
    json: bool = False,
) -> None:
    """Measure a bundle's heads on test images, as the server would answer, with 95 % intervals.

    Example: `breadcrumbs evaluate runs/photos/bundle --against runs/older/bundle`

    Args:
        bundle: folder of the bundle.
        against: another bundle, to compare the exported heads on the same test images.
        data: the data set, as for `train`; absent: the one it was trained on.
        test_data: its test part, as for `train`.
        images: root of the paths in list files, as for `train`.
        json: print one JSON object with everything.
    """
    from models import bundle as bundles
    from training.measure import config_of, measure
    from training.tables import shown

    opened, *other = (bundles.read(folder) for folder in (bundle, against) if folder is not None)
    config, *others = (config_of(one, data=data, test_data=test_data, images=images) for one in (opened, *other))
    found = measure(opened, config, (other[0], others[0]) if other else None)
    if json:
        tell_json(found)
        return
    wide = screen if screen.is_terminal else Console(width=max(screen.width, 160))  # a file has no width of its own
    for part in shown(found):
        wide.print(part, highlight=False)


def export(run: Path, /, *, half: bool = False, json: bool = False) -> None:
    """Make the bundle of a run again from its checkpoint.

    Example: `breadcrumbs export runs/photos --half`

    Args:
        run: folder of the run.
        half: also write the backbone in half precision, for GPUs, if no group loses recall by it.
        json: print one JSON object: the bundle's folder, and what was measured.
    """
    from training.fit import export_checkpoint

    bundle = export_checkpoint(run, half=half)
    print_heads(str(bundle.folder), bundle.folder, bundle.manifest.metrics, as_json=json)


def snapshot(
    *,
    bundle: Path,
    out: Path,
    data: str | None = None,
    images: Path | None = None,
    epochs: int = 1,
    clean: bool = False,
    workers: int = 0,
    json: bool = False,
) -> None:
    """Look at images with a bundle's backbone, and write a snapshot of each look, to refit from.

    Example: `breadcrumbs snapshot --data new-photos/ --bundle runs/photos/bundle --epochs 4 --out looks`

    Args:
        bundle: folder of the bundle.
        out: folder for the snapshots; their epochs go on from the bundle's newest.
        data: the images, as for `train`, nothing held out; absent: those it was trained on.
        images: root of the paths in list files, as for `train`.
        epochs: looks, each under fresh augmentation as in the bundle's recipe.
        clean: look once, as the server would.
        workers: processes that decode and augment.
        json: print one JSON object: the files, and how many images each class has.
    """
    from models import bundle as bundles
    from training.look import look

    opened = bundles.read(bundle)
    made = look(opened, out, data=data, folder=images, epochs=epochs, clean=clean, workers=workers)
    if json:
        tell_json({"snapshots": [str(path) for path in made.paths], "classes": made.rows, "new": list(made.new)})
        return
    for path in made.paths:
        print(path)  # noqa: T201
    counts = f"{sum(made.rows.values())} images of {len(made.rows)} classes"
    new = ", ".join(f"{name} ({made.rows[name]})" for name in made.new)
    screen.print(f"{counts}; new: {new or 'none'}", highlight=False, markup=False)


def convert(
    source: Path,
    out: Path,
    /,
    *,
    bundle: Path | None = None,
    epoch: int | None = None,
    classes: tuple[str, ...] = (),
    json: bool = False,
) -> None:
    """Make a snapshot of features that came as `.npz`, Parquet or Arrow: check them and write safetensors.

    Example: `breadcrumbs convert features.npz march.safetensors --bundle runs/photos/bundle --epoch 95`

    Args:
        source: the file.
        out: the snapshot.
        bundle: whose backbone made the features and whose classes the labels are, where the file does not say.
        epoch: of the snapshot, where the file does not say.
        classes: names of the labels 0, 1, 2 …, where neither file nor bundle should say; once for each class.
        json: print one JSON object: the file, what is in it, and what was changed.
    """
    from models import bundle as bundles
    from models.convert import convert as converted
    from models.door import LIMIT
    from models.parts import Given

    opened = None if bundle is None else bundles.read(bundle)
    names = classes or (None if opened is None else opened.manifest.classes)
    given = Given(None if opened is None else opened.backbone_digest, epoch, names)
    with step(f"convert {source.name}"):
        made = converted(source, out, given, LIMIT)
    rows, count, when = len(made.snapshot.labels), len(made.snapshot.classes), made.snapshot.epoch
    if json:
        changes = list(made.changes)
        tell_json({"snapshot": str(out), "rows": rows, "classes": count, "epoch": when, "changes": changes})
        return
    for change in made.changes:
        print(change)  # noqa: T201
    screen.print(f"{out}: {rows} rows, {count} classes, epoch {when}", highlight=False, markup=False)


def print_heads(title: str, bundle: Path, metrics: dict[str, Any], *, as_json: bool) -> None:
    """Print what was measured of a bundle's heads: a table, or everything as one JSON object."""
    from training.tables import in_short

    if as_json:
        tell_json({"bundle": str(bundle), "metrics": metrics})
    else:
        screen.print(in_short(title, metrics))
