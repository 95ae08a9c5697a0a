"""The way of a taxonomy: checked by adopt, kept by the bundle, through refits, to evaluate's flags."""

import re
from pathlib import Path

import numpy as np
import pytest

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.taxonomy import TaxonomyError
from breadcrumbs.training.adopt.config import AdoptConfig
from breadcrumbs.training.adopt.feature_files import FeatureFiles
from breadcrumbs.training.adopt.from_features import adopt_features
from breadcrumbs.training.config import RefitSpec, TrainConfig
from breadcrumbs.training.data import dataset
from breadcrumbs.training.data.dataset import DataError
from breadcrumbs.training.inspect.evaluation import Outputs
from breadcrumbs.training.refit.files import run as refit

CLASSES = ("elm", "oak", "yew", "Ünï-codé " + "n" * 51)
TREE = "class,kind,all\n" + "".join(f"{name},kind {place // 2},tree\n" for place, name in enumerate(CLASSES))


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of features: thirty rows of each class but the last, which has one."""
    path = tmp_path_factory.mktemp("features") / "train.npz"
    labels = np.append(np.repeat(np.arange(3), 30), 3)
    drawn = np.random.default_rng(1)
    values = drawn.normal(size=(len(labels), 4)) + drawn.normal(size=(4, 4))[labels] * 3
    np.savez(path, features=values.astype(np.float32), labels=np.array(CLASSES)[labels])
    return path


def adopted(features: Path, taxonomy: Path, out: Path) -> Bundle:
    return adopt_features(FeatureFiles(features, space="dino"), AdoptConfig(taxonomy=taxonomy), out)


@pytest.mark.slow
def test_a_taxonomy_goes_into_the_bundle_and_through_a_refit(features: Path, tmp_path: Path) -> None:
    """The same bytes; a class that a refit renames keeps its place under the new name."""
    (tmp_path / "tree.csv").write_text(TREE, "utf-8")
    made = adopted(features, tmp_path / "tree.csv", tmp_path / "run")
    assert (made.folder / "taxonomy.csv").read_text("utf-8") == TREE

    spec = RefitSpec(classes={"oak": "holm oak", "yew": None})
    refit(made.folder, None, [], None, spec, tmp_path / "refit")

    found = bundles.read(tmp_path / "refit" / "bundle")
    assert found.taxonomy is not None
    assert [node.name for node in found.taxonomy.lineage("holm oak")] == ["holm oak", "kind 0", "tree"]
    assert found.manifest.classes == ("elm", "holm oak", CLASSES[3])
    assert set(found.taxonomy.lineages) == set(found.manifest.classes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TREE.replace("oak,", "oka,"), "class 'oak' of 4 has no place: no row begins with it; did you mean 'oka'?"),
        ("child,parent\nelm,oak\noak,elm\n", "the rows go in a circle: 'elm' in 'oak' in 'elm'"),
        ("", "expected a header and a row"),
    ],
)
def test_a_taxonomy_that_does_not_fit_leaves_nothing(features: Path, tmp_path: Path, text: str, words: str) -> None:
    """One sentence, before a head is fitted."""
    (tmp_path / "tree.csv").write_text(text, "utf-8")

    with pytest.raises(TaxonomyError, match=re.escape(words)):
        adopted(features, tmp_path / "tree.csv", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_not_there_is_named(features: Path, tmp_path: Path) -> None:
    """By adopt, and by what loads images for train."""
    with pytest.raises(DataError, match=r"--taxonomy .*: cannot be read"):
        adopted(features, tmp_path / "none.csv", tmp_path / "run")
    with pytest.raises(DataError, match=r"--taxonomy .*: cannot be read"):
        dataset.load(TrainConfig(taxonomy=tmp_path))


def test_train_gets_it_with_its_images(tmp_path: Path) -> None:
    """Checked against the data's classes."""
    names = dataset.load(TrainConfig()).classes
    path = tmp_path / "tree.csv"
    path.write_text("class,all\n" + "".join(f"{name},all\n" for name in names))

    assert dataset.load(TrainConfig(taxonomy=path)).taxonomy == path.read_bytes()
    path.write_text("class,all\nbag,all\n")
    with pytest.raises(TaxonomyError, match="has no place"):
        dataset.load(TrainConfig(taxonomy=path))


def test_a_damaged_taxonomy_is_no_bundle(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """It is refused when written, and nothing is left."""
    files = {name: (tiny_bundle.folder / name).read_bytes() for name in tiny_bundle.manifest.files}

    with pytest.raises(TaxonomyError):
        bundles.write(tmp_path / "bundle", tiny_bundle.manifest, files | {"taxonomy.csv": b"\xff"})
    assert list(tmp_path.iterdir()) == []


def test_coverage_of_a_bundle_without_a_taxonomy_is_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Before anything is computed."""
    with pytest.raises(BreadcrumbsError, match="has no taxonomy, so there are no ranks"):
        Outputs(coverage=tmp_path / "a.csv").check_bundle(tiny_bundle)
    Outputs().check_bundle(tiny_bundle)
