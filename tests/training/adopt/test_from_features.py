"""Features that were computed elsewhere become a bundle without a backbone, on which refits and servers work."""

import json
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from patience import PATIENCE
from pyarrow import parquet

from breadcrumbs.commands import train as commands
from breadcrumbs.commands.adopt import adopt
from breadcrumbs.commands.predict import predict
from breadcrumbs.models.bundle import Bundle, BundleError, read
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import MAPPED, Snapshot, SnapshotError
from breadcrumbs.training.adopt.config import AdoptConfig
from breadcrumbs.training.adopt.feature_files import FeatureFiles
from breadcrumbs.training.adopt.from_features import adopt_features
from breadcrumbs.training.adopt.opened import AdoptError
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.make_snapshots import make_snapshots
from breadcrumbs.training.measure import config_of
from breadcrumbs.training.metrics import evaluate
from breadcrumbs.training.refit.files import run as refit

pytestmark = pytest.mark.slow

CLASSES = ("elm", "oak", "yew", "Ünï-codé " + "n" * 51)
COUNTS = (30, 12, 6, 1)
DIM = 6
DINO = sha256(b"dino").hexdigest()
CENTRES = np.random.default_rng(5).normal(size=(len(CLASSES), DIM)) * 3


def rows(counts: tuple[int, ...] = COUNTS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, D) around the classes' centres, and names (N,)."""
    labels = np.repeat(np.arange(len(counts)), counts)
    noise = np.random.default_rng(seed).normal(size=(len(labels), DIM))
    return CENTRES[labels] + noise, np.array(CLASSES)[labels]


def write(path: Path, features: np.ndarray, names: np.ndarray, **more: Any) -> Path:
    """A file of features, in the format of its suffix."""
    if path.suffix == ".npz":
        np.savez(path, features=features, labels=names, **more)
    elif path.suffix == ".safetensors":
        labels = np.array([CLASSES.index(name) for name in names])
        made = Snapshot(features.astype(np.float32), labels, CLASSES, DINO, 7, **more)
        snapshots.write(path, made)
    else:
        table = pa.table({"feature": list(features), "label": list(names)})
        parquet.write_table(table.replace_schema_metadata(more), path)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of features, half a file held out."""
    folder = tmp_path_factory.mktemp("made")
    path = write(folder / "train.npz", *rows(), ids=np.arange(100, 100 + sum(COUNTS)))
    return adopt_features(FeatureFiles(path, space="dino"), AdoptConfig(holdout=0.5), folder / "run")


def test_the_bundle_is_whole_without_a_backbone(made: Bundle) -> None:
    """Its space is the name's digest; a class of one row keeps it for training; the other rows are in one part only."""
    manifest, held, (look,) = made.manifest, made.holdout(), made.snapshots()
    assert held is not None

    assert read(made.folder).manifest.files == manifest.files
    assert (made.backbone_digest, manifest.space, manifest.architecture, manifest.name) == (DINO, DINO, "dino", "train")
    assert (manifest.classes, manifest.train_counts, manifest.feature_dim) == (CLASSES, (15, 6, 3, 1), DIM)
    assert held.counts().tolist() == [15, 6, 3, 0]
    assert {look.backbone, held.backbone} == {DINO}
    assert not set(look.ids.tolist()) & set(held.ids.tolist())
    assert set(look.ids.tolist()) | set(held.ids.tolist()) == set(range(100, 149))
    assert "backbone.onnx" not in manifest.files
    assert not made.samples()


def test_the_metrics_are_of_the_head_on_the_rows_held_out(made: Bundle) -> None:
    """Computed again from the files of the bundle."""
    held = made.holdout()
    assert held is not None

    logits = made.head().logits(np.asarray(held.features, np.float32))

    found = evaluate(logits, held.labels, ["few"] * 4).as_dict()
    assert found["recall"] == pytest.approx(made.manifest.metrics["balanced"]["recall"])
    assert made.manifest.metrics["test_images"] == 24


def test_the_report_has_groups_and_tables_but_no_pictures_of_images(made: Bundle) -> None:
    """What may be wrong with the rows is in CSV files, by the rows' ids."""
    report = made.folder.parent / "report"
    page = (report / "index.html").read_text()

    assert "Recall by group" in page
    assert "CSV files beside this page" in page
    assert "Wrong images" not in page
    assert {path.name for path in report.glob("*.csv")} == {
        "suspects.csv", "duplicates.csv", "wrong.csv", "confusions.csv", "classes.csv",
    }  # fmt: skip


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".safetensors"])
@pytest.mark.parametrize("own", [True, False])
def test_every_format_gives_the_same_space(suffix: str, own: bool, tmp_path: Path) -> None:
    """Whether the file says its backbone itself, or the user names it; test rows may be of fewer classes."""
    if suffix == ".safetensors":
        more: dict[str, Any] = {}
    else:
        more = {"backbone": DINO, "epoch": "7"} if own else {}
    train = write(tmp_path / f"train{suffix}", *rows(), **more)
    test = write(tmp_path / f"test{suffix}", *rows((5, 5, 5), seed=1), **more)
    space = None if own else "dino"

    bundle = adopt_features(FeatureFiles(train, test, space), AdoptConfig(name="own"), tmp_path / "run")

    assert (bundle.backbone_digest, bundle.manifest.name) == (DINO, "own")
    assert bundle.manifest.train_counts == COUNTS
    assert bundle.manifest.metrics["test_images"] == 15
    assert bundle.snapshots()[0].epoch == (7 if own or suffix == ".safetensors" else 1)


def test_rows_without_a_label_are_left_out_and_told(tmp_path: Path) -> None:
    """In training and in test."""
    features, names = rows()
    path = write(tmp_path / "train.npz", np.tile(features, (2, 1)), np.concatenate([names, np.full(len(names), "")]))

    bundle = adopt_features(FeatureFiles(path, space="dino"), AdoptConfig(), tmp_path / "run")

    held = bundle.holdout()
    assert held is not None
    assert len(bundle.snapshots()[0].labels) + len(held.labels) == len(names)
    assert (
        "49 of 98 rows of train.npz have no label and are left out" in (tmp_path / "run/report/index.html").read_text()
    )


def test_a_refit_keeps_the_space(made: Bundle, tmp_path: Path) -> None:
    """A later file of that name is of the same space; the refitted bundle has no backbone either."""
    features, names = rows((8, 8, 8, 8), seed=3)
    later = write(tmp_path / "later.npz", features, names, backbone=DINO, epoch=2)

    report = refit(made.folder, None, [later], None, RefitSpec(), tmp_path / "refitted")

    again = read(tmp_path / "refitted" / "bundle")
    assert (again.backbone_digest, again.manifest.space, again.manifest.preprocess) == (DINO, DINO, None)
    assert [look.epoch for look in again.snapshots()] == [2, 1]
    assert report.snapshots[0].deployed_backbone


def test_whoever_wants_images_is_told_in_one_sentence(made: Bundle, tmp_path: Path) -> None:
    """`evaluate` and `snapshot`, before anything is looked for."""
    with pytest.raises(BundleError, match="takes no images"):
        config_of(made)
    with pytest.raises(BundleError, match="takes no images"):
        make_snapshots(made, tmp_path / "looks", data="nowhere")


def test_commands_for_images_refuse_it(made: Bundle, tmp_path: Path) -> None:
    """With the remedy."""
    (tmp_path / "x.png").touch()
    for command in (
        lambda: commands.evaluate(made.folder),
        lambda: commands.snapshot(bundle=made.folder, out=tmp_path / "x"),
        lambda: predict(tmp_path / "x.png", bundle=made.folder),
    ):
        with pytest.raises(BundleError, match="breadcrumbs adopt BACKBONE"):
            command()


BAD: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("train", {}, {"space": None}, "nothing says which backbone made the features; name it with --space"),
    ("train", {"backbone": DINO}, {"space": "clip"}, f"says itself that the backbone {DINO[:12]} made its features"),
    ("train", {}, {"space": " "}, "--space ' ' is empty"),
    ("train", {}, {"space": "a\nb"}, "--space 'a\\nb'"),
    (
        "train",
        {"labels": np.zeros(49, int), "classes": np.array(CLASSES)},
        {},
        "3 of 4 classes have no row: 'oak', 'yew'",
    ),
    ("train", {"labels": np.array(["oak"] * 49)}, {}, "has one class, 'oak'; expected at least two"),
    ("train", {"labels": np.array([""] * 49)}, {}, "no row has a label; expected labels to fit to"),
    ("train", {"labels": np.array([" oak", "elm"] + ["elm"] * 47)}, {}, "begins or ends with a space"),
    ("train", {"features": np.full((49, DIM), np.nan)}, {}, "not finite"),
    ("train", {"features": np.zeros((48, DIM))}, {}, "labels"),
    ("train", {"features": np.zeros((4, DIM)), "labels": np.array(list("abcd"))}, {}, "every class has one row"),
    ("test", {"labels": np.array(["ash"] * 49)}, {}, "1 classes that no training row has: 'ash'"),
    ("test", {"features": np.zeros((49, DIM + 1))}, {}, "features of 7 dimensions, expected 6"),
    ("test", {"backbone": "a" * 64}, {}, "says itself that the backbone aaaaaaaaaaaa"),
    ("test", {"labels": np.full(49, -1), "classes": np.array(CLASSES)}, {}, "no row has a label"),
]


@pytest.mark.parametrize(("file", "changed", "named", "words"), BAD, ids=[words[:40] for *_, words in BAD])
def test_what_does_not_fit_is_one_sentence(
    file: str, changed: dict[str, Any], named: dict[str, Any], words: str, tmp_path: Path
) -> None:
    """Whatever is wrong with which file; no run is left."""
    features, names = rows()
    whole: dict[str, Any] = {"features": features, "labels": names}
    np.savez(tmp_path / "train.npz", **(whole | changed if file == "train" else whole))
    if file == "test":
        np.savez(tmp_path / "test.npz", **(whole | changed))
    test = tmp_path / "test.npz" if file == "test" else None
    files = FeatureFiles(tmp_path / "train.npz", test, **({"space": "dino"} | named))

    with pytest.raises((AdoptError, SnapshotError), match=re.escape(words)) as raised:
        adopt_features(files, AdoptConfig(), tmp_path / "run")

    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_mapped_rows_are_refused(tmp_path: Path) -> None:
    """No backbone made them."""
    path = write(tmp_path / "mapped.safetensors", *rows(), lineage=MAPPED)

    with pytest.raises(AdoptError, match="mapped from another backbone"):
        adopt_features(FeatureFiles(path), AdoptConfig(), tmp_path / "run")


@pytest.mark.parametrize("data", [b"", b"PK\3\4junk", b"PAR1junk", b"\x80\4pickle", b"\x93NUMPY"])
def test_a_damaged_file_is_one_sentence(data: bytes, tmp_path: Path) -> None:
    """Read in a process of its own, whatever it does."""
    (tmp_path / "train.npz").write_bytes(data)

    with pytest.raises(SnapshotError, match=r"train\.npz"):
        adopt_features(FeatureFiles(tmp_path / "train.npz", space="x"), AdoptConfig(), tmp_path / "run")


X = Path("nowhere.npz")


@pytest.mark.parametrize(
    ("backbone", "given", "words"),
    [
        (None, {}, "name a backbone, for example resnet50, or a file of features with --features"),
        ("resnet18", {"features": X}, "the backbone resnet18 is not used"),
        (None, {"features": X, "cache": X}, "--cache is not used"),
        (None, {"space": "x"}, "go with --features"),
        ("resnet18", {"test_features": X}, "go with --features"),
        (None, {"features": X, "config": AdoptConfig(data="y", batch_size=3)}, "--batch-size, --data: for images only"),
    ],
)
def test_flags_that_do_not_go_together_are_told(
    backbone: str | None, given: dict[str, Any], words: str, tmp_path: Path
) -> None:
    """Before anything is read."""
    with pytest.raises(AdoptError, match=re.escape(words)):
        adopt(backbone, out=tmp_path / "run", **given)


def test_the_command_prints_the_bundle(tmp_path: Path) -> None:
    """As for images; a file that is not there is one sentence."""
    path = write(tmp_path / "train.npz", *rows())
    line = [sys.executable, "-m", "breadcrumbs", "adopt", "--space", "dino", "--out", str(tmp_path / "run"), "--json"]

    done, failed = (
        subprocess.run([*line, "--features", name], capture_output=True, text=True, timeout=PATIENCE, check=False)
        for name in (str(path), "nowhere.npz")
    )

    told = json.loads(done.stdout)
    assert read(Path(told["bundle"])).backbone_digest == DINO
    assert {"balanced", "test_images", "groups"} <= told["metrics"].keys()
    assert (failed.returncode, "nowhere.npz: No such file or directory" in failed.stdout) == (2, True)


@pytest.mark.parametrize("prior", ["training", "weights.json"])
def test_the_head_is_for_the_prior_that_is_meant(prior: str, tmp_path: Path) -> None:
    """A name, or a file of weights; the head and its report know it."""
    path = write(tmp_path / "train.npz", *rows())
    weights = dict(zip(CLASSES, (8.0, 4.0, 2.0, 2.0), strict=True))
    (tmp_path / "weights.json").write_text(json.dumps(weights))
    given = prior if prior == "training" else str(tmp_path / prior)

    adopt(None, features=path, space="dino", out=tmp_path / "run", deployment_prior=given)

    bundle = read(tmp_path / "run" / "bundle")
    shares = np.array(list(weights.values()) if prior != "training" else bundle.manifest.train_counts, float)
    assert bundle.head().log_prior == pytest.approx(np.log(shares / shares.sum()), abs=1e-5)
    told = json.loads((bundle.folder / "report" / "head.json").read_text())
    assert told["calibration"]["prior"] == ("training" if prior == "training" else "given")


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        ("bavaria", "'bavaria' is a prior in a server's store"),
        ("nowhere.json", "there is no nowhere.json"),
        ("few.json", "no weight for "),
        ("zero.json", "deployment_prior: all weights of the prior are 0"),
    ],
)
def test_a_prior_that_cannot_be_is_refused(prior: str, words: str, tmp_path: Path) -> None:
    """In one sentence, and no bundle is left."""
    path = write(tmp_path / "train.npz", *rows())
    (tmp_path / "few.json").write_text(json.dumps({CLASSES[0]: 1}))
    (tmp_path / "zero.json").write_text(json.dumps(dict.fromkeys(CLASSES, 0)))
    given = str(tmp_path / prior) if (tmp_path / prior).exists() else prior

    with pytest.raises((BreadcrumbsError, ValueError), match=words):
        adopt(None, features=path, space="dino", out=tmp_path / "run", deployment_prior=given)
    assert not (tmp_path / "run" / "bundle").exists()
