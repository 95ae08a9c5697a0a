"""A bundle measured: the embedded one, and copies of it with something changed."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.training.comparison import in_common
from breadcrumbs.training.data.dataset import DataError, load
from breadcrumbs.training.measure import _cross_fitted, _features, _half, _Rows, config_of, measure
from breadcrumbs.training.refit.offset import Labelled
from breadcrumbs.training.terminal.tables import shown

pytestmark = pytest.mark.slow

DEMO = Path(__file__).parents[2] / "models" / "demo"
HEADS = ["balanced", "joint", "joint_logit_adjusted", "tau_normalised", "nearest_class_mean"]
CHOSEN = ["balanced_chosen", "joint_logit_adjusted_chosen", "tau_normalised_chosen", "nearest_class_mean_chosen"]
Change = Callable[[bundles.Manifest, dict[str, bytes]], bundles.Manifest]


def changed(folder: Path, change: Change) -> Bundle:
    """A copy of the embedded bundle with its manifest or files changed."""
    original = bundles.read(DEMO)
    files = {name: (DEMO / name).read_bytes() for name in original.manifest.files}
    manifest = change(original.manifest, files)
    return bundles.write(folder, manifest, files)


@pytest.fixture(scope="module")
def demo() -> Bundle:
    """The embedded bundle."""
    return bundles.read(DEMO)


@pytest.fixture(scope="module")
def joint_only(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle that exports its joint head and has no snapshot, as `--method plain` might."""

    def change(manifest: bundles.Manifest, files: dict[str, bytes]) -> bundles.Manifest:
        files["head.onnx"] = files["joint-head.onnx"]
        for name in [name for name in files if name.startswith("snapshots/")]:
            del files[name]
        return manifest

    return changed(tmp_path_factory.mktemp("bundles") / "plain", change)


@pytest.fixture(scope="module")
def found(demo: Bundle, joint_only: Bundle) -> dict[str, Any]:
    """The embedded bundle measured, against the one that exports the joint head."""
    return measure(demo, config_of(demo), (joint_only, config_of(joint_only)))


def printed(found: dict[str, Any], width: int = 160) -> str:
    console = Console(width=width, file=StringIO())
    for part in shown(found):
        console.print(part, highlight=False)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_what_the_manifest_says_is_found_again(demo: Bundle, found: dict[str, Any]) -> None:
    """The heads of the bundle measure as they did when it was made, and every value lies where its metric may."""
    assert list(found["heads"]) == HEADS + CHOSEN
    assert found["exported"] == "balanced"
    for name in ("balanced", "joint"):
        told, own = demo.manifest.metrics[name], found["heads"][name]
        assert own["metrics"]["all"]["value"] == pytest.approx(told["all"])
        assert own["metrics"]["ece"]["value"] == pytest.approx(told["ece"], abs=1e-6)
        assert own["groups"]["A"]["few"]["value"] == pytest.approx(told["few"])
        assert own["recall"] == pytest.approx(told["recall"])
    assert found["heads"]["joint"]["worst_class"] == "shirt"
    for head in found["heads"].values():
        assert set(head["metrics"]) == {"all", "balanced", "harmonic", "worst", "macro_f1", "ece"}
        assert set(head["groups"]) == {"A", "B"}
        assert all(0 <= v["low"] <= v["high"] <= 1 for v in head["metrics"].values())
    json.dumps(found, allow_nan=False)


def test_an_offset_is_chosen_on_one_half_and_measured_on_the_other(found: dict[str, Any]) -> None:
    """Two choices a head, τ only where there is one, and the joint head gains by them."""
    heads_found = found["heads"]

    assert all(heads_found[name]["chosen"] is None for name in HEADS)
    for name in CHOSEN:
        assert len(heads_found[name]["chosen"]) == 2
        assert all((c["tau"] is not None) == name.startswith("tau") for c in heads_found[name]["chosen"])
    balanced = {name: heads_found[name]["metrics"]["balanced"]["value"] for name in heads_found}
    assert balanced["joint_logit_adjusted_chosen"] > balanced["joint"] + 0.05


def test_no_row_is_measured_by_a_head_chosen_on_it() -> None:
    """Each row's logits are those of the head that was chosen on the other rows."""
    rng = np.random.default_rng(0)
    features = np.arange(40, dtype=np.float32)[:, None]
    labels = rng.integers(0, 3, 40)
    seen: list[set[float]] = []

    def choose(held: Labelled) -> tuple[LinearHead, float, float | None]:
        seen.append(set(held.features[:, 0].tolist()))
        bias = np.full(3, len(seen), np.float32)
        return LinearHead(np.zeros((3, 1), np.float32), bias, ("a", "b", "c")), float(len(seen)), None

    half = _half(labels, 0)
    logits, both = _cross_fitted(choose, _Rows(features, labels, half), 3)

    assert seen[0] | seen[1] == set(range(40))
    assert all(row not in seen[int(own[0]) - 1] for row, own in enumerate(logits))
    assert [choice["prior_offset"] for choice in both] == [1, 2]


def test_halves_have_as_many_of_each_class() -> None:
    """By at most one row; classes of one row are shared out; the seed decides."""
    labels = np.repeat(np.arange(8), [9, 8, 1, 1, 1, 1, 2, 0])

    half = _half(labels, 0)

    sizes = np.bincount(labels[half], minlength=8), np.bincount(labels[~half], minlength=8)
    assert np.abs(sizes[0] - sizes[1]).max() <= 1
    assert sizes[0][2:6].sum() == sizes[1][2:6].sum() == 2
    assert (half == _half(labels, 0)).all()
    assert (half != _half(labels, 1)).any()


def test_an_exported_joint_head_has_its_own_name(joint_only: Bundle) -> None:
    """Such a bundle has no balanced head and, without a snapshot, no class means; the rest is as ever."""
    alone = measure(joint_only, config_of(joint_only))

    assert alone["exported"] == "joint"
    assert list(alone["heads"]) == ["joint", "joint_logit_adjusted", "tau_normalised", *CHOSEN[1:3]]
    assert "against" not in alone


def test_a_bundle_without_a_joint_head_is_measured(tmp_path: Path) -> None:
    """What would be made from the joint head is left out."""

    def change(manifest: bundles.Manifest, files: dict[str, bytes]) -> bundles.Manifest:
        del files["joint-head.onnx"]
        return manifest

    bundle = changed(tmp_path / "bundle", change)

    assert list(measure(bundle, config_of(bundle))["heads"]) == [
        "balanced", "nearest_class_mean", "balanced_chosen", "nearest_class_mean_chosen",
    ]  # fmt: skip


def test_the_difference_is_paired(found: dict[str, Any]) -> None:
    """Candidate less other, as the two heads measure apart, in an interval narrower than theirs together."""
    own, other = (found["heads"][name] for name in ("balanced", "joint"))  # the other bundle exports this joint head
    difference = found["against"]["balanced"]

    assert difference["value"] == pytest.approx(
        own["metrics"]["balanced"]["value"] - other["metrics"]["balanced"]["value"]
    )
    for convention in ("A", "B"):
        few = found["against"]["groups"][convention]["few"]
        apart = (one["groups"][convention]["few"]["value"] for one in (own, other))
        assert few["value"] == pytest.approx(next(apart) - next(apart))
    assert 0 < difference["low"] < difference["value"] < difference["high"]
    widths = sum(v["high"] - v["low"] for v in (one["metrics"]["balanced"] for one in (own, other)))
    assert difference["high"] - difference["low"] < widths


def test_bundles_of_other_classes_are_not_compared(demo: Bundle, tmp_path: Path) -> None:
    """The error names the bundle and the first class that differs."""

    def change(manifest: bundles.Manifest, files: dict[str, bytes]) -> bundles.Manifest:
        classes = ("vest", *manifest.classes[1:])
        for name in ("head.onnx", "joint-head.onnx"):
            files[name] = heads.to_onnx(replace(heads.from_onnx(files[name]), classes=classes))
        del files["holdout.safetensors"]
        return manifest.model_copy(update={"classes": classes})

    other = changed(tmp_path / "other", change)

    with pytest.raises(DataError, match=r"other has other classes.*in one only: 't-shirt', 'vest'"):
        measure(demo, config_of(demo), (other, config_of(other)))


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The embedded bundle as a refit leaves it that has added two classes, with rows of one of them and of none."""

    def change(manifest: bundles.Manifest, files: dict[str, bytes]) -> bundles.Manifest:
        head = heads.from_onnx(files["head.onnx"])
        classes = (*manifest.classes, "hat", "scarf")
        weight = np.concatenate([head.weight, head.weight[:1], head.weight[:1]])
        bias = np.concatenate([head.bias, head.bias[:1] - 100, head.bias[:1] - 100])  # never predicted
        files["head.onnx"] = heads.to_onnx(LinearHead(weight, bias, classes))
        del files["joint-head.onnx"]
        newest = snapshots.read(DEMO / "snapshots" / "epoch-0037.safetensors")
        few = replace(newest.take(np.arange(6)), classes=classes, labels=np.int64([10, 10, 10, -1, -1, -1]))
        added = replace(few, epoch=50, weight=None, bias=None)
        files["snapshots/epoch-0050.safetensors"] = snapshots.to_bytes(added)
        return manifest.model_copy(update={"classes": classes, "train_counts": (*manifest.train_counts, 3, 2)})

    return changed(tmp_path_factory.mktemp("bundles") / "grown", change)


def test_a_bundle_that_has_grown_is_measured_on_the_old_test_set(
    grown: Bundle, demo: Bundle, found: dict[str, Any]
) -> None:
    """Classes without test images have no recall and are told; the others are measured as before they came."""
    measured = measure(grown, config_of(grown), (demo, config_of(demo)))
    recall = measured["heads"]["balanced"]["recall"]
    means, before = (one["heads"]["nearest_class_mean"]["recall"] for one in (measured, found))

    assert recall[:10] == found["heads"]["balanced"]["recall"]
    assert recall[10:] == [None, None]
    assert measured["classes"]["test_images"] == [200] * 10 + [0, 0]
    assert measured["notes"][-1] == ("no test image of 2 of 12 classes, whose recall is not measured: 'hat', 'scarf'")
    assert measured["against"]["balanced"]["value"] == 0
    assert np.mean(means[:10]) > np.mean(before) - 0.1  # the newest snapshot alone has no mean of the old classes
    assert "scarf" in printed(measured)


def test_a_bundle_is_compared_with_one_that_has_grown(grown: Bundle, demo: Bundle) -> None:
    """Either way round, on the classes that both have."""
    forth = measure(demo, config_of(demo), (grown, config_of(grown)))

    assert forth["against"]["balanced"]["value"] == 0


def test_in_common_a_class_that_is_not_known_is_never_predicted(grown: Bundle, demo: Bundle) -> None:
    """Rows of classes that only one knows are left out, and its other answers are where the other bundle's are."""
    labels = np.int64([0, 10, 9, 11])
    own = np.arange(48, dtype=np.float32).reshape(4, 12)

    other, same, kept = in_common(own[:, :10], own, labels, demo, grown)

    assert kept.tolist() == [0, 9]
    assert same.tolist() == own[[0, 2]].tolist()
    assert other[:, :10].tolist() == own[[0, 2], :10].tolist()
    assert (other[:, 10:] == -np.inf).all()


@pytest.mark.parametrize("seed", range(3))
def test_classes_are_matched_by_name(seed: int, demo: Bundle, found: dict[str, Any], tmp_path: Path) -> None:
    """A bundle with its classes in another order has the same recalls, by name."""
    order = np.random.default_rng(seed).permutation(10)

    def change(manifest: bundles.Manifest, files: dict[str, bytes]) -> bundles.Manifest:
        classes = tuple(manifest.classes[c] for c in order)
        for name in ("head.onnx", "joint-head.onnx"):
            head = heads.from_onnx(files[name])
            files[name] = heads.to_onnx(LinearHead(head.weight[order], head.bias[order], classes))
        counts = tuple(manifest.train_counts[c] for c in order)
        return manifest.model_copy(update={"classes": classes, "train_counts": counts})

    measured = measure(changed(tmp_path / "turned", change), config_of(demo))

    assert measured["heads"]["balanced"]["recall"] == [found["heads"]["balanced"]["recall"][c] for c in order]


def test_bundles_of_other_test_images_are_not_compared(run: Path, images: Path, tmp_path: Path) -> None:
    """A copy of the same images elsewhere is another set, until both are told of one."""
    bundle = bundles.read(run / "bundle")
    moved = shutil.copytree(images, tmp_path / "moved")
    config = config_of(bundle)

    with pytest.raises(DataError, match=r"test images of .* are others.*--data and --test-data"):
        measure(bundle, config, (bundle, config_of(bundle, data=str(moved))))
    same = config_of(bundle, data=str(moved))
    assert measure(bundle, same, (bundle, same))["against"]["balanced"]["value"] == 0


def test_the_same_images_by_another_name_are_compared(run: Path, images: Path, tmp_path: Path) -> None:
    """A link to the same files is the same set of images."""
    bundle = bundles.read(run / "bundle")
    (tmp_path / "link").symlink_to(images)

    found = measure(bundle, config_of(bundle), (bundle, config_of(bundle, data=str(tmp_path / "link"))))

    assert found["against"]["balanced"]["value"] == 0


def test_data_of_other_classes_are_refused(demo: Bundle, images: Path) -> None:
    """Images of three colours do not measure a bundle of ten kinds of clothes."""
    with pytest.raises(DataError, match="the data has 3 classes that are not among the 10 of the bundle: '"):
        measure(demo, config_of(demo, data=str(images)))


def test_a_recipe_of_another_version_finds_its_images(demo: Bundle) -> None:
    """Fields that this version does not know are passed over; what is given goes before what the recipe says."""
    recipe = {**demo.manifest.recipe, "gone": 1, "epochs": "many"}
    bundle = Bundle(demo.folder, demo.manifest.model_copy(update={"recipe": recipe}))

    assert config_of(bundle).data == "fashion-mnist-lt"
    assert config_of(bundle, data="elsewhere", test_data=None).data == "elsewhere"


def test_heads_without_training_are_those_made_by_hand(demo: Bundle, found: dict[str, Any]) -> None:
    """Logit adjustment by the training counts, and the nearest mean of the newest snapshot, on the test features."""
    config = config_of(demo)
    test, counts, newest = load(config).test, np.array(demo.manifest.train_counts), demo.snapshots()[0]
    features = _features(demo, test, config)
    joint = demo.joint_head()
    assert joint is not None
    adjusted = joint.logits(features) - np.log(counts / counts.sum())
    means = np.stack([newest.features[newest.labels == c].mean(0) for c in range(10)])
    near = np.stack([-((features - mean) ** 2).sum(1) for mean in means], 1)

    for name, logits in (("joint_logit_adjusted", adjusted), ("nearest_class_mean", near)):
        right = logits.argmax(1) == test.labels
        assert found["heads"][name]["metrics"]["all"]["value"] == pytest.approx(right.mean(), abs=1e-3)


def test_the_tables_show_what_was_found(found: dict[str, Any]) -> None:
    """Every head, both conventions, every class with its recall, the choices and the verdict in words."""
    text = printed(found)

    own = found["heads"]["balanced"]["metrics"]["balanced"]
    assert "81.2" in text
    assert f"{100 * own['low']:.1f}–{100 * own['high']:.1f}" in text
    assert "few A = B" in text
    assert all(name in text for name in found["classes"]["names"])
    assert "balanced chosen: t " in text
    assert "better, the interval excludes zero" in text


def test_conventions_that_differ_have_columns_of_their_own(found: dict[str, Any]) -> None:
    """Where A and B do not group alike each has its own three columns, and its own differences."""
    groups = found["classes"]["groups"]
    other = {**groups, "B": ["medium", *groups["B"][1:]]}
    text = printed({**found, "classes": {**found["classes"], "groups": other}})

    assert all(f"{name} {convention}" in text for name in ("many", "medium", "few") for convention in "AB")
    assert "many A: " in text
    assert "many B: " in text


def test_a_narrow_screen_loses_nothing(found: dict[str, Any]) -> None:
    """Cells are folded, not cut."""
    assert "…" not in printed(found, 80).partition("less")[0]


def test_of_many_classes_the_worst_are_shown(found: dict[str, Any]) -> None:
    """Beyond fifty classes the table holds the twenty of the lowest recall, and says so."""
    names = [f"class-{c:02d}" for c in range(60)]
    recall = [c / 60 for c in range(60)]
    heads_found = {n: {**h, "recall": recall} for n, h in found["heads"].items()}
    numbers = [1] * 60
    classes = {"names": names, "train_images": numbers, "test_images": numbers, "groups": {"A": ["few"] * 60}}

    text = printed({**found, "heads": heads_found, "classes": classes} | {"against": found["against"]})

    assert "the 20 worst of 60 classes" in text
    assert "class-19" in text
    assert "class-20" not in text
