"""`breadcrumbs migrate`, from files to files: what it reads, prints, leaves and refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from forked import command
from spaces import SIDE, Spaces
from tiny import png

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.migrate.files import run
from breadcrumbs.training.refit.rows import RefitError

LONG = "wörld’s " * 7 + "tree"
QUICK = ("--l2", "0.01", "--prior-offset", "0", "--members", "plain")
GIVEN = RefitSpec(l2=1e-2, prior_offset=0.0, members=("plain",))


@pytest.fixture
def spaces(tmp_path: Path) -> Spaces:
    """Bundles `old` and `better`, the second of other classes, and 20 images in `photos`."""
    made = Spaces()
    made.bundle(tmp_path / "old")
    made.bundle(tmp_path / "better", ("cat", LONG), side=1, stored=False)
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(20):
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        (tmp_path / "photos" / f"{number}.png").write_bytes(png(pixels))
    return made


@pytest.mark.slow
def test_the_command_writes_a_bundle_and_tells_what_was_kept(spaces: Spaces, tmp_path: Path) -> None:
    """As lines for people, and as JSON."""
    words = ("migrate", "--from", "old", "--to", "better", "--pairs", "photos", "--out")
    told = command(*words, "new", *QUICK, folder=tmp_path)
    as_json = command(*words, "again", *QUICK, "--json", folder=tmp_path)

    assert told.returncode == 0, told.stderr
    assert "map: procrustes, fitted to 20 pairs; variance explained out of fold: procrustes 100.0 %" in told.stdout
    assert "recall kept, on 48 rows (mapped hold-out), old head -> new head:\n  balanced: " in told.stdout
    assert "only the backbone of side-1 is used, since its classes are not the same" in told.stdout
    assert told.stdout.splitlines()[-1].startswith("The gate says ")
    assert bundles.read(tmp_path / "new" / "bundle").manifest.classes == spaces.classes
    done = json.loads(as_json.stdout.splitlines()[-1])
    assert (done["event"], done["bundle"], done["migration"]["pairs"]) == ("done", "again/bundle", 20)


@pytest.mark.slow
def test_a_mistake_is_one_sentence(spaces: Spaces, tmp_path: Path) -> None:
    """With status 2, and without a traceback."""
    (tmp_path / "empty").mkdir()
    cases = {
        ("old", "--pairs", "photos"): "nothing to do",
        ("better", "--pairs", "empty"): "no image found",
        ("better", "--pairs", "nowhere"): "No such file",
        ("better",): "no image under both backbones",
        ("better", "--pairs", "photos", "--pairs-from", "a", "b"): "--pairs, or two snapshots",
    }
    for words, said in cases.items():
        answer = command("migrate", "--from", "old", "--out", "new", "--to", *words, folder=tmp_path)
        assert answer.returncode == 2, words
        assert said in answer.stderr
        assert "Traceback" not in answer.stderr


def test_two_snapshots_are_pairs_as_well(spaces: Spaces, tmp_path: Path) -> None:
    """Made elsewhere, for instance by `breadcrumbs snapshot`."""
    pairs = spaces.pairs(bundles.read(tmp_path / "old"), 30)
    paths = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    for path, look in zip(paths, (pairs.old, pairs.new), strict=True):
        snapshots.write(path, look)
    report = run(tmp_path / "old", tmp_path / "better", paths, GIVEN, tmp_path / "new")

    assert report.migration is not None
    assert report.migration.pairs == 30


def test_a_bundle_of_the_same_classes_brings_its_own_rows(spaces: Spaces, tmp_path: Path) -> None:
    """Its images are others here, so all old rows are mapped, and its own are fitted beside them."""
    own = Spaces(seed=1)
    own.models = spaces.models
    own.bundle(tmp_path / "twin", side=0)
    twin = bundles.read(tmp_path / "twin")
    look = snapshots.Snapshot(
        own.rows, twin.snapshots()[0].labels, spaces.classes, spaces.to().digest, 4, dataset="5" * 64,
        ids=np.arange(len(own.rows)),
    )  # fmt: skip
    files = {"backbone.onnx": spaces.models[1], "head.onnx": (tmp_path / "twin" / "head.onnx").read_bytes()}
    files["snapshots/epoch-0004.safetensors"] = snapshots.to_bytes(look)
    bundles.write(tmp_path / "same", twin.manifest, files)

    report = run(tmp_path / "old", tmp_path / "same", tmp_path / "photos", GIVEN, tmp_path / "new")

    assert report.migration is not None
    assert (report.migration.seen, sum(report.migration.mapped.values())) == (51, 51)
    assert any("51 labelled rows of side-0 itself are used, too" in note for note in report.notes)


def test_a_bundle_that_is_read_is_not_replaced(spaces: Spaces, tmp_path: Path) -> None:
    """Whichever of the two."""
    spaces.bundle(tmp_path / "run" / "bundle")
    before = (tmp_path / "run" / "bundle" / "manifest.json").read_bytes()

    with pytest.raises(RefitError, match="would replace"):
        run(tmp_path / "run" / "bundle", tmp_path / "better", tmp_path / "photos", GIVEN, tmp_path / "run")
    with pytest.raises(RefitError, match="would replace"):
        run(tmp_path / "old", tmp_path / "run" / "bundle", tmp_path / "photos", GIVEN, tmp_path / "run")
    assert (tmp_path / "run" / "bundle" / "manifest.json").read_bytes() == before


def test_damaged_pairs_are_refused(spaces: Spaces, tmp_path: Path) -> None:
    """A file that is no snapshot."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"no snapshot")

    with pytest.raises(BreadcrumbsError):
        run(tmp_path / "old", tmp_path / "better", (path, path), GIVEN, tmp_path / "new")
