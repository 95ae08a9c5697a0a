"""Bundles: what is written comes back, what is damaged is named, what was there survives a failure."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tiny import CLASSES, COUNTS, SPACE, tiny_backbone, tiny_head, tiny_snapshot, write_bundle, write_bundle_of_features

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models.bundle import Bundle, BundleError, Manifest
from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.files import sha256
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot

FILES = ("backbone.onnx", "head.onnx", "snapshots/epoch-0001.safetensors")


@pytest.fixture
def copy(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """A bundle of this test's own, to damage."""
    return Path(shutil.copytree(tiny_bundle.folder, tmp_path / "copy"))


def files_of(bundle: Bundle) -> dict[str, bytes]:
    return {name: (bundle.folder / name).read_bytes() for name in bundle.manifest.files}


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a bundle's manifest as JSON."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_round_trip(tiny_bundle: Bundle) -> None:
    """A bundle reads back with its manifest, heads, backbone and digests."""
    found = bundles.read(tiny_bundle.folder)

    assert found.manifest == tiny_bundle.manifest
    assert found.manifest.classes == CLASSES
    assert found.manifest.train_counts == COUNTS
    assert set(found.manifest.files) == set(FILES)
    assert found.head().digest == tiny_head().digest
    assert found.joint_head() is None
    assert found.backbone() == tiny_backbone()
    assert found.backbone_digest == sha256(tiny_bundle.folder / "backbone.onnx")


def test_joint_head_and_snapshots_come_back(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The joint head is there where the bundle has one, and snapshots come the newest first, mapped."""
    older, newer = tiny_snapshot("c" * 64, 3), tiny_snapshot("c" * 64, 20)
    more = {
        "joint-head.onnx": heads.to_onnx(tiny_head(seed=9)),
        "snapshots/a-new.safetensors": snapshots.to_bytes(newer),
        "snapshots/z-old.safetensors": snapshots.to_bytes(older),
        "report/notes.txt": b"no snapshot",
    }

    bundle = bundles.write(tmp_path / "more", tiny_bundle.manifest, files_of(tiny_bundle) | more)
    joint = bundle.joint_head()

    assert joint is not None
    assert joint.digest == tiny_head(seed=9).digest
    assert [s.epoch for s in bundle.snapshots()] == [20, 3, 1]
    assert isinstance(bundle.snapshots()[0].features, np.memmap)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0, -1])
def test_a_flipped_bit_is_refused_by_name(copy: Path, name: str, place: int) -> None:
    """One bit of any file changed: refused, naming the file and both digests."""
    data = bytearray((copy / name).read_bytes())
    was = sha256(copy / name)
    data[place] ^= 1
    (copy / name).write_bytes(data)

    with pytest.raises(BundleError) as caught:
        bundles.read(copy)

    assert f"{name} is damaged: expected sha256 {was}, got {sha256(copy / name)}" in str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    """A file that the manifest lists and the folder lacks is named."""
    (copy / name).unlink()

    with pytest.raises(BundleError, match=f"cannot read {name} .No such file"):
        bundles.read(copy)


def test_no_bundle_at_all(tmp_path: Path) -> None:
    """A folder without a manifest is no bundle, and neither is a place where there is nothing."""
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BundleError, match=r"no bundle at .*: cannot read manifest\.json"):
            bundles.read(folder)


@pytest.mark.parametrize(
    "name",
    [
        "../backbone.onnx",
        "/etc/hostname",
        "snapshots/../../x",
        "snapshots/./x",
        "a/b/c",
        "..",
        ".hidden",
        "snapshots/",
        "report\\x",
        "",
        "x\n",
        "x\0y",
        "r" * 5_000 + "/../x",
    ],
)
def test_a_path_out_of_the_bundle_is_refused(copy: Path, name: str) -> None:
    """A manifest cannot name a file outside of its bundle; nothing there is looked at."""
    rewrite(copy, lambda manifest: manifest["files"].update({name: "0" * 64}))

    with pytest.raises(BundleError, match="which is not a path inside a bundle") as caught:
        bundles.read(copy)

    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(surprise=1), "surprise: Extra inputs are not permitted"),
        (lambda m: m["preprocess"].update(blur=1), "preprocess.blur: Extra inputs are not permitted"),
        (lambda m: m.pop("classes"), "classes: Field required"),
        (lambda m: m.pop("preprocess"), "preprocess: Field required"),
        (lambda m: m["preprocess"].pop("std"), "preprocess.std: Field required"),
        (lambda m: m.update(space="5" * 64), "preprocess and space are both given"),
        (lambda m: m.update(space="5" * 64, preprocess=None), "lists backbone.onnx and names another space"),
        (lambda m: m.update(space="oak", preprocess=None), "space: String should match pattern"),
        (
            lambda m: m.update(format="breadcrumbs.bundle/3"),
            "format: Input should be 'breadcrumbs.bundle/1' or 'breadcrumbs.bundle/2'",
        ),
        (lambda m: m.update(classes=["oak"]), "classes: Tuple should have at least 2 items"),
        (lambda m: m.update(train_counts=[1, 2]), "3 classes but 2 train_counts"),
        (lambda m: m.update(name="../x"), "name: String should match pattern"),
        (lambda m: m.update(feature_dim=0), "feature_dim: Input should be greater than 0"),
        (lambda m: m.update(groups="C"), "groups: Input should be 'A' or 'B'"),
        (lambda m: m["files"].pop("backbone.onnx"), "manifest.json lists no backbone.onnx"),
        (lambda m: m["files"].pop("head.onnx"), "manifest.json lists no head.onnx"),
        (lambda m: m.pop("files"), "manifest.json lists no backbone.onnx"),
    ],
)
def test_a_manifest_with_more_less_or_other_is_refused(
    copy: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    """Fields that are missing, unknown or impossible are named."""
    rewrite(copy, change)

    with pytest.raises(BundleError) as caught:
        bundles.read(copy)

    assert words in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_manifest_that_is_no_json_object_is_refused(copy: Path, text: bytes) -> None:
    """Whatever is in place of a manifest, the error names the file."""
    (copy / "manifest.json").write_bytes(text)

    with pytest.raises(BundleError, match=r"manifest\.json: "):
        bundles.read(copy)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (
            tiny_head(classes=CLASSES[::-1]),
            "head.onnx has 3 classes of 4 features; the manifest says 3 of 4, in its own",
        ),
        (tiny_head(classes=CLASSES[:2]), "head.onnx has 2 classes of 4 features; the manifest says 3 of 4"),
        (tiny_head(dim=5), "head.onnx has 3 classes of 5 features; the manifest says 3 of 4"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(
    tiny_bundle: Bundle, tmp_path: Path, head: heads.LinearHead, words: str
) -> None:
    """A head of other classes, another order of them or other features is refused when the bundle is written."""
    with pytest.raises(BundleError) as caught:
        bundles.write(tmp_path / "b", tiny_bundle.manifest, files_of(tiny_bundle) | {"head.onnx": heads.to_onnx(head)})

    assert words in str(caught.value)
    assert not (tmp_path / "b").exists()


def test_a_joint_head_that_does_not_fit_is_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The joint head, too, has the manifest's classes in its order."""
    joint = {"joint-head.onnx": heads.to_onnx(tiny_head(classes=CLASSES[::-1]))}
    bundle = bundles.write(tmp_path / "b", tiny_bundle.manifest, files_of(tiny_bundle) | joint)

    with pytest.raises(BundleError, match=r"joint-head\.onnx has 3 classes"):
        bundle.joint_head()


def test_a_backbone_that_names_other_files_is_refused(tmp_path: Path) -> None:
    """A backbone whose numbers lie in another file is not handed to the runtime."""
    model = onnx.load_model_from_string(tiny_backbone())
    model.graph.initializer[2].data_location = onnx.TensorProto.EXTERNAL
    bundle = write_bundle(tmp_path / "b", model.SerializeToString())

    with pytest.raises(FormatError, match="ONNX tensor 'projection' is kept in another file"):
        bundle.backbone()


def test_a_bundle_replaces_an_older_one_whole(tmp_path: Path) -> None:
    """The new bundle has no file of the old one, and no temporary folder stays beside it."""
    bundle = write_bundle(tmp_path / "b")
    files = files_of(bundle) | {"report/notes.txt": b"first"}
    bundles.write(tmp_path / "b", bundle.manifest, files)
    (tmp_path / ".b.old").mkdir()  # left behind by a crash
    (tmp_path / ".b.new").mkdir()
    (tmp_path / ".b.new" / "half").touch()

    replaced = bundles.write(tmp_path / "b", bundle.manifest, {n: files[n] for n in FILES[:2]})

    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    assert {p.name for p in (tmp_path / "b").iterdir()} == {"manifest.json", "backbone.onnx", "head.onnx"}
    assert bundles.read(tmp_path / "b").manifest == replaced.manifest


@pytest.mark.parametrize(
    "broken",
    [
        {"head.onnx": b"damaged"},
        {"head.onnx": heads.to_onnx(tiny_head(dim=7))},
        {"../escape": b"x"},
    ],
)
def test_a_failed_write_leaves_the_old_bundle(tmp_path: Path, broken: dict[str, bytes]) -> None:
    """When the parts do not fit, the old bundle stays as it was and nothing is written outside."""
    bundle = write_bundle(tmp_path / "in" / "b")

    with pytest.raises(FormatError):
        bundles.write(bundle.folder, bundle.manifest, files_of(bundle) | broken)

    assert bundles.read(bundle.folder).manifest == bundle.manifest
    assert [p.name for p in (tmp_path / "in").iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_a_missing_part_is_refused_in_writing(tmp_path: Path) -> None:
    """A bundle without a backbone is not written."""
    bundle = write_bundle(tmp_path / "b")

    with pytest.raises(BundleError, match=r"lists no backbone\.onnx"):
        bundles.write(tmp_path / "c", bundle.manifest, {"head.onnx": heads.to_onnx(tiny_head())})

    assert not (tmp_path / "c").exists()


def test_a_manifest_is_frozen_and_stamped() -> None:
    """A manifest cannot be changed once made, and says when that was."""
    manifest = Manifest.model_validate(
        {
            "name": "x", "architecture": "y", "feature_dim": 1, "classes": ("a", "b"), "train_counts": (1, 1),
            "preprocess": {"height": 8, "width": 8, "mean": (0, 0, 0), "std": (1, 1, 1)},
        }
    )  # fmt: skip

    assert manifest.created.endswith("+00:00")
    with pytest.raises(ValueError, match="frozen"):
        manifest.name = "other"  # type: ignore[misc]


# The hold-out


def with_holdout(bundle: Bundle, folder: Path, holdout: Snapshot) -> Bundle:
    """The bundle with a hold-out, whatever it is."""
    more = {"holdout.safetensors": snapshots.to_bytes(holdout)}
    return bundles.write(folder, bundle.manifest, files_of(bundle) | more)


def test_a_holdout_comes_back(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """It is a file of the bundle as any: listed with its digest, mapped; a bundle may also have none."""
    held = replace(tiny_snapshot(tiny_bundle.backbone_digest), dataset="d" * 64)

    found = with_holdout(tiny_bundle, tmp_path / "b", held)
    holdout = found.holdout()

    assert holdout is not None
    assert (holdout.dataset, holdout.classes, len(holdout.labels)) == ("d" * 64, CLASSES, 12)
    assert isinstance(holdout.features, np.memmap)
    assert found.manifest.files["holdout.safetensors"] == sha256(tmp_path / "b" / "holdout.safetensors")
    assert tiny_bundle.holdout() is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backbone": "e" * 64}, "made by backbone eeeeeeeeeeee, expected the deployed"),
        ({"features": np.ones((12, 3), np.float32)}, "features of 3 dimensions, expected 4"),
        ({"labels": np.arange(12) % 4 - 1}, "3 of 12 rows of the hold-out have no label, expected one each"),
        ({"classes": ("a", "b", "c")}, "no row of the hold-out is of one of the 3 classes, by name"),
        ({"classes": ("oak", "yew", "elm")}, "1 classes that the bundle has not, first 'yew'"),
    ],
)
def test_a_holdout_that_does_not_fit_is_refused(
    change: dict[str, Any], words: str, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    """A bundle whose heads could not be judged by it is not written, and the reason names the file."""
    held = replace(tiny_snapshot(tiny_bundle.backbone_digest), **change)

    with pytest.raises(FormatError, match=words) as caught:
        with_holdout(tiny_bundle, tmp_path / "b", held)

    assert str(caught.value).startswith("holdout.safetensors: ")
    assert not (tmp_path / "b").exists()


def test_a_bundle_of_the_first_format_opens(copy: Path) -> None:
    """It has no hold-out, and all else is as it was."""
    rewrite(copy, lambda manifest: manifest.update(format="breadcrumbs.bundle/1"))

    found = bundles.read(copy)

    assert found.manifest.format == "breadcrumbs.bundle/1"
    assert found.holdout() is None
    assert found.head().digest == tiny_head().digest


def test_a_bundle_without_a_backbone_names_its_space(tmp_path: Path) -> None:
    """It reads back whole; whoever wants images of it is told in one sentence."""
    write_bundle_of_features(tmp_path / "bundle")
    found = bundles.read(tmp_path / "bundle")

    assert (found.backbone_digest, found.manifest.preprocess) == (SPACE, None)
    assert found.head().digest == tiny_head().digest
    for wants in (lambda: found.preprocess, found.backbone, lambda: found.backbone_path("half"), found.check_backbone):
        with pytest.raises(BundleError, match="has no backbone and takes no images: it was made from features"):
            wants()


def test_a_holdout_of_another_space_is_refused(tmp_path: Path) -> None:
    """The space of a bundle without a backbone counts as a backbone's digest does."""
    bundle = write_bundle_of_features(tmp_path / "bundle")

    assert with_holdout(bundle, tmp_path / "own", tiny_snapshot(SPACE)).holdout() is not None
    with pytest.raises(FormatError, match="a hold-out made by backbone 666666666666"):
        with_holdout(bundle, tmp_path / "other", tiny_snapshot("6" * 64))


@pytest.mark.parametrize("name", [None, "classes", "feature_dim", "preprocess"])
def test_a_bundle_inside_fits_the_one_around_it(tiny_bundle: Bundle, tmp_path: Path, name: str | None) -> None:
    """`int8/` is a whole bundle of its own space; one that does not fit is refused, and names what differs."""
    change: dict[str, Any] = {
        "classes": {"classes": ("a", "b"), "train_counts": (1, 2)},
        "feature_dim": {"feature_dim": 5},
        "preprocess": {"preprocess": Preprocess(height=9, width=9, mean=(0, 0, 0), std=(1, 1, 1))},
    }
    manifest = tiny_bundle.manifest.model_copy(update=change.get(name or "", {}))
    head = tiny_head(1, manifest.classes, manifest.feature_dim)
    files = {"backbone.onnx": tiny_backbone(), "head.onnx": heads.to_onnx(head)}
    own = bundles.write(tmp_path / "own", manifest, files)
    whole = bundles.write(tmp_path / "whole", tiny_bundle.manifest, files_of(tiny_bundle), own)

    assert whole.has("int8")
    assert whole.of("full") is whole
    if name is None:
        assert whole.backbone_path("int8") == whole.folder / "int8" / "backbone.onnx"
    else:
        with pytest.raises(BundleError, match=f"its {name} differ from those of"):
            whole.of("int8")
