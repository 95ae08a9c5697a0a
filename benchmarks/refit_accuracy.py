"""What a refit gains: target means and baselines, a drifted backbone, a new class.

    python benchmarks/refit_accuracy.py --images FOLDER [--seeds 5] [--runs runs/methods] [--out runs/refits]

`--runs` has the runs of `accuracy.py` for the first question; the others train one network a seed here. Every head
comes from the product's own `refit`. λ and the prior offset are chosen on a hold-out of half of the test images and
measured on the other half, then the halves change places.

1. Target means `newest`, `shrunk`, `none`, with the paper's n rows a class or with every row, against the baselines.
2. A drifted backbone: of the deployed backbone there is one look at a fifth of each class's images (two at least), of
   the backbone 30 epochs before a snapshot of the others. Its rows transferred, as they are, or left out.
3. A new class from 5 examples: the network is trained without one class, another one each seed, which a refit adds.
"""

import argparse
import logging
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.groups import groups
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.config import RefitSpec, TrainConfig, recipe
from breadcrumbs.training.data.dataset import Data, Split, load
from breadcrumbs.training.export import run_onnx
from breadcrumbs.training.metrics import Metrics, evaluate
from breadcrumbs.training.refit.refit import refit
from breadcrumbs.training.run.fit import fit
from breadcrumbs.training.run.package import images_of

COLUMNS = ("many", "medium", "few", "balanced")
EVERYTHING = 1_000_000  # rows a class offers: all it has
OLD = 30  # epochs that the old backbone of question 2 is behind
EXAMPLES = 5
SPEC = RefitSpec(activate="never")

Integers = NDArray[np.int64]
Found = dict[str, list[Metrics]]


def main() -> None:
    """Train what is not there, refit, print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=Path, default=Path("runs/methods"))
    parser.add_argument("--out", type=Path, default=Path("runs/refits"))
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    means: Found = {}
    drift: Found = {}
    new: Found = {}
    for seed in range(given.seeds):
        if (given.runs / f"breadcrumb-{seed}").exists():
            collect(means, target_means(given.runs / f"breadcrumb-{seed}"))
        left_out, bundle, data = without_a_class(given.out, given.images, seed)
        collect(drift, drifted(bundle, given.out / f"without-{left_out}-{seed}", data))
        collect(new, grown(bundle, left_out, data))
    for title, found, base in (
        ("target mean, rows", means, "newest, every row"),
        ("drifted backbone", drift, "old rows transferred"),
        ("new class", new, "before"),
    ):
        if found:
            table(title, found, base)


def collect(found: Found, one: dict[str, Metrics]) -> None:
    """Add one seed's metrics."""
    for name, metrics in one.items():
        found.setdefault(name, []).append(metrics)


def target_means(run: Path) -> dict[str, Metrics]:
    """Question 1, on a run of `accuracy.py`."""
    bundle = bundles.read(run / "bundle")
    config = TrainConfig.model_validate(bundle.manifest.recipe)
    test = look(bundle, load(config).test, config)
    uploads = [snapshots.read(path) for path in sorted((run / "snapshots").glob("*"))[-config.keep_snapshots :]]
    found: dict[str, Metrics] = {}
    for target, rows in ((None, "n rows"), (EVERYTHING, "every row")):
        for mean in ("newest", "shrunk", "none"):
            spec = SPEC.model_copy(update={"target": target, "target_mean": mean})
            heads = refitted(bundle, uploads, test, spec, baselines=not found)
            found |= {f"{mean}, {rows}" if name == "refit" else f"baseline {name}": m for name, m in heads.items()}
    return found


def without_a_class(out: Path, images: Path, seed: int) -> tuple[str, Bundle, Data]:
    """Train without one class; the data returned has it."""
    changed = {"images": images, "largest": 1000, "seed": seed, "keep_snapshots": OLD + 1}
    config = recipe("fashion-mnist-lt").model_copy(update=changed)
    data = load(config)
    label = len(data.classes) - 1 - seed % len(data.classes)
    name, folder = data.classes[label], out / f"without-{data.classes[label]}-{seed}"
    if (folder / "bundle").exists():
        return name, bundles.read(folder / "bundle"), data
    classes = (*data.classes[:label], *data.classes[label + 1 :])
    rest = Data(without(data.train, label), without(data.test, label), classes)
    return name, fit(config, folder, data=rest), data


def without(split: Split, label: int) -> Split:
    """A split without a class; later labels move down."""
    kept = split.take(np.flatnonzero(split.labels != label))
    return replace(kept, labels=kept.labels - (kept.labels > label))


def look(bundle: Bundle, split: Split, config: TrainConfig, classes: Sequence[str] | None = None) -> Snapshot:
    """A split under the deployed backbone."""
    features = run_onnx(bundle.backbone(), images_of(split, bundle.manifest.preprocess, config))
    names = tuple(classes or bundle.manifest.classes)
    return Snapshot(features, split.labels, names, bundle.backbone_digest, 10_000, ids=split.ids)


def refitted(
    bundle: Bundle, uploads: Sequence[Snapshot], test: Snapshot, spec: RefitSpec, *, baselines: bool = False
) -> dict[str, Metrics]:
    """The metrics of the refitted head, and of the baselines, each test row by the head chosen on the other half."""
    half = half_of(test.labels)
    logits: dict[str, Floats] = {}
    classes: tuple[str, ...] = ()
    for chosen_on in (half, ~half):
        made = refit(bundle, bundle.head(), uploads, test.take(np.flatnonzero(chosen_on)), spec)
        classes = made.head.classes
        for name, head in ({"refit": made.head} | (made.baselines if baselines else {})).items():
            own = logits.setdefault(name, np.zeros((len(test.labels), len(classes)), np.float32))
            own[~chosen_on] = head.logits(test.features[~chosen_on])
    labels = np.array([classes.index(test.classes[label]) for label in test.labels])
    known = dict(zip(bundle.manifest.classes, bundle.manifest.train_counts, strict=True))
    own_groups = groups([known.get(name, EXAMPLES) for name in classes], "A")
    return {name: evaluate(values, labels, own_groups) for name, values in logits.items()}


def half_of(labels: Integers) -> NDArray[np.bool_]:
    """A mask of half of each class, seeded."""
    rng = np.random.default_rng(0)
    mask = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label))
        mask[own[: len(own) // 2]] = True
    return mask


def drifted(bundle: Bundle, run: Path, data: Data) -> dict[str, Metrics]:
    """Question 2: one small look of the deployed backbone, and a whole snapshot of an old one."""
    config = TrainConfig.model_validate(bundle.manifest.recipe)
    label = next(i for i, name in enumerate(data.classes) if name not in bundle.manifest.classes)
    test = look(bundle, without(data.test, label), config)
    newest = bundle.snapshots()[0]
    small = newest.take(np.flatnonzero(fifth_of(newest.labels, config.seed)))
    old = snapshots.read(run / "snapshots" / f"epoch-{config.epochs - OLD:04d}.safetensors")
    assert old.ids is not None
    assert small.ids is not None
    old = old.take(np.flatnonzero(~np.isin(old.ids, small.ids)))  # other images: all else would be a copy
    spec = SPEC.model_copy(update={"use_bundle_snapshots": False, "target": EVERYTHING})
    found = {}
    for name, uploads, mean in (
        ("old rows transferred", [small, old], "newest"),
        ("old rows transferred, shrunk mean", [small, old], "shrunk"),
        ("old rows as they are", [small, old], "none"),
        ("no old rows", [small], "newest"),
        ("all images under the deployed backbone", [newest], "newest"),
    ):
        found[name] = refitted(bundle, uploads, test, spec.model_copy(update={"target_mean": mean}))["refit"]
    return found


def fifth_of(labels: Integers, seed: int) -> NDArray[np.bool_]:
    """A mask of a fifth of each class, two rows at least."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label))
        mask[own[: max(2, len(own) // 5)]] = True
    return mask


def grown(bundle: Bundle, left_out: str, data: Data) -> dict[str, Metrics]:
    """Question 3: the live head before, on the old classes, and the grown head, on the old classes and on all."""
    config = TrainConfig.model_validate(bundle.manifest.recipe)
    label = data.classes.index(left_out)
    rng = np.random.default_rng(config.seed)
    examples = rng.permutation(np.flatnonzero(data.train.labels == label))[:EXAMPLES]
    upload = look(bundle, data.train.take(examples), config, data.classes)
    test = look(bundle, data.test, config, data.classes)
    spec = SPEC.model_copy(update={"allow_new_classes": True, "target": EVERYTHING})
    heads = refitted(bundle, [upload], test, spec, baselines=True)
    before = bundle.head()
    own = np.flatnonzero(test.labels != label)
    labels = np.array([before.classes.index(data.classes[i]) for i in test.labels[own]])
    old_groups = groups(bundle.manifest.train_counts, "A")
    found = {"before, old classes": evaluate(before.logits(test.features[own]), labels, old_groups)}
    for name, metrics in heads.items():
        found[f"{name}, all classes"] = metrics
        old = tuple(recall for recall in metrics.recall[:-1])  # the new class comes last
        values = [recall for recall in old if recall is not None]
        new = metrics.recall[-1]
        found[f"{name}, old classes"] = replace(metrics, recall=old, balanced=float(np.mean(values)), few=None)
        found[f"{name}, the new class"] = replace(metrics, balanced=float(new or 0), many=None, medium=None, few=None)
    return found


def table(title: str, found: Found, base: str) -> None:
    """Print mean ± std of every row, and its paired difference from one of them ± the standard error."""
    seeds = max(len(metrics) for metrics in found.values())
    print(f"\n| {title} ({seeds} seeds) | many | medium | few | all | all, less “{base}” | few, the same |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    reference = found.get(base) or next(iter(found.values()))
    for name, metrics in found.items():
        cells = [spread([value for m in metrics if (value := getattr(m, column)) is not None]) for column in COLUMNS]
        cells += [difference(metrics, reference, column) for column in ("balanced", "few")]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def difference(metrics: Sequence[Metrics], reference: Sequence[Metrics], column: str) -> str:
    """Mean paired difference ± its standard error, in points."""
    pairs = [(getattr(m, column), getattr(r, column)) for m, r in zip(metrics, reference, strict=True)]
    change = [100 * (one - other) for one, other in pairs if one is not None and other is not None]
    if not change:
        return "–"
    error = statistics.stdev(change) / len(change) ** 0.5 if len(change) > 1 else 0.0
    return f"{statistics.mean(change):+.2f} ± {error:.2f}"


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation, in percent."""
    if not values:
        return "–"
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.mean(values):.1f} ± {100 * deviation:.1f}"


if __name__ == "__main__":
    main()
