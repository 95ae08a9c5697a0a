"""A bundle is measured on rows of features from a file, with images or without a backbone."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from breadcrumbs.commands.train import evaluate as command
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.errors import BreadcrumbsError, FormatError
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import MAPPED, Snapshot
from breadcrumbs.training import feature_rows
from breadcrumbs.training.adopt.config import AdoptConfig
from breadcrumbs.training.adopt.feature_files import FeatureFiles
from breadcrumbs.training.adopt.from_features import adopt_features
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.data.split import DataError
from breadcrumbs.training.measure import evaluated_rows
from breadcrumbs.training.metrics import evaluate

CLASSES = ("elm", "oak", "Ünï-codé " + "n" * 51)
DIM = 5
CENTRES = 2 * np.random.default_rng(5).normal(size=(len(CLASSES), DIM))


def drawn(counts: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features f32 (N, D) around each class's centre, and labels (N,)."""
    labels = np.repeat(np.arange(len(CLASSES)), counts)
    noise = np.random.default_rng(seed).normal(size=(len(labels), DIM))
    return (CENTRES[labels] + noise).astype(np.float32), labels


def write(path: Path, features: np.ndarray, labels: np.ndarray, **more: object) -> Path:
    """Write rows as `.npz`."""
    np.savez(path, features=features, labels=labels, classes=np.array(CLASSES), **more)
    return path


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle without a backbone; nobody may change it."""
    folder = tmp_path_factory.mktemp("rows")
    train = write(folder / "train.npz", *drawn((25, 8, 3), 0))
    spec = RefitSpec(members=("plain",), l2=1e-2, prior_offset=0.5)
    return adopt_features(FeatureFiles(train, None, "dino"), AdoptConfig(), folder / "run", spec=spec)


def test_rows_of_a_file_are_measured(bundle: Bundle, tmp_path: Path) -> None:
    """Recall is that of the head on the labelled rows; rows without a label are left out and told."""
    features, labels = drawn((6, 5, 4), 1)
    labelled = np.where(np.arange(len(labels)) % 5 == 0, -1, labels)
    path = write(tmp_path / "test.npz", features, labelled)

    found = evaluated_rows(bundle, feature_rows.read(bundle, path)).found
    own = labelled >= 0
    expected = evaluate(bundle.head().logits(features[own]), labels[own], ["many", "few", "few"])

    assert found["test_images"] == int(own.sum())
    assert found["heads"]["balanced"]["recall"] == pytest.approx(list(expected.recall))
    assert any("have no label" in note for note in found["notes"])


def test_the_command_measures_rows(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also against another bundle of the space, with CSV files of the rows."""
    path = write(tmp_path / "test.npz", *drawn((6, 5, 4), 2))

    command(bundle.folder, against=bundle.folder, features=path, rows=tmp_path / "rows.csv", json=True)
    told = json.loads(capsys.readouterr().out)

    assert told["test_images"] == 15
    assert told["against"]["balanced"]["value"] == 0
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 16


@pytest.mark.parametrize("flag", ["data", "test_data", "images", "max_pixels", "html"])
def test_flags_of_images_are_refused(flag: str, bundle: Bundle, tmp_path: Path) -> None:
    """Beside a file of features, by their names."""
    path = write(tmp_path / "test.npz", *drawn((1, 1, 1), 2))
    value = tmp_path / "page" if flag == "html" else Path("x")

    with pytest.raises(BreadcrumbsError, match=f"--{flag.replace('_', '-')}.*images only"):
        command(bundle.folder, features=path, **{flag: value})  # type: ignore[arg-type]


def test_mapped_rows_are_told(bundle: Bundle, tmp_path: Path) -> None:
    """The backbone never saw their images."""
    features, labels = drawn((2, 2, 2), 3)
    rows = Snapshot(features, labels, CLASSES, bundle.backbone_digest, 1, lineage=MAPPED)
    path = tmp_path / "rows.safetensors"
    path.write_bytes(snapshots.to_bytes(rows))

    assert "too high" in feature_rows.read(bundle, path).notes[0]


def test_rows_of_one_class_and_one_row_are_enough(bundle: Bundle, tmp_path: Path) -> None:
    """Classes without a row are told."""
    features, labels = drawn((0, 1, 0), 3)

    found = evaluated_rows(bundle, feature_rows.read(bundle, write(tmp_path / "one.npz", features, labels))).found

    assert found["test_images"] == 1
    assert any("no test image of 2 of 3 classes" in note for note in found["notes"])


def test_rows_that_do_not_fit_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    """Of another backbone, another width, unknown classes, or without labels; in a sentence each."""
    features, labels = drawn((2, 2, 2), 3)
    other = tmp_path / "other.safetensors"
    other.write_bytes(snapshots.to_bytes(Snapshot(features, labels, CLASSES, sha256(b"x").hexdigest(), 1)))
    wide = write(tmp_path / "wide.npz", np.tile(features, 2), labels)
    bare = write(tmp_path / "bare.npz", features, np.full_like(labels, -1))
    strange = tmp_path / "strange.npz"
    np.savez(strange, features=features, labels=labels, classes=np.array(["elm", "oak", "ash"]))
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(bare.read_bytes()[:200])

    for path, why in (
        (other, "backbone"), (wide, "10 dimensions, expected 5"), (bare, "no row has a label"), (strange, "'ash'"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=why):
            feature_rows.read(bundle, path)
    with pytest.raises(FormatError):
        feature_rows.read(bundle, damaged)
