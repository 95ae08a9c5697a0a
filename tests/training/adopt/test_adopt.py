"""A backbone that is there already becomes a bundle, on which every other command works as on a trained one."""

import ast
import logging
import re
import shutil
from collections import Counter
from inspect import signature
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from PIL import Image
from small_backbone import NAME, SIDE, WIDTH, write_folder
from small_run import CLASSES, COUNTS

from breadcrumbs.commands.adopt import adopt as command
from breadcrumbs.models.bundle import Bundle, read
from breadcrumbs.models.head import parse_onnx, softmax
from breadcrumbs.models.refit_report import RefitReport
from breadcrumbs.training.adopt import onnx_graph
from breadcrumbs.training.adopt.adopt import adopt
from breadcrumbs.training.adopt.config import AdoptConfig, BackboneConfig
from breadcrumbs.training.adopt.feature_files import FeatureFiles
from breadcrumbs.training.adopt.from_features import adopt_features
from breadcrumbs.training.adopt.opened import AdoptError
from breadcrumbs.training.adopt.source import open_source
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.data.dataset import DataError, load
from breadcrumbs.training.make_snapshots import make_snapshots
from breadcrumbs.training.measure import config_of, measure
from breadcrumbs.training.metrics import evaluate
from breadcrumbs.training.refit.files import run as refit
from breadcrumbs.training.refit.rows import RefitError

pytestmark = pytest.mark.slow


def test_the_bundle_is_whole(adopted: Bundle) -> None:
    """Classes, counts, newest look last, a hold-out, samples, and the metrics of the head in it."""
    manifest = adopted.manifest
    assert (manifest.classes, manifest.train_counts, manifest.feature_dim) == (CLASSES, COUNTS, WIDTH)
    assert [look.epoch for look in adopted.snapshots()] == [2, 1]
    assert all(look.dataset == adopted.snapshots()[0].dataset != "" for look in adopted.snapshots())
    held = adopted.holdout()
    assert held is not None
    assert len(held.labels) == 24
    assert len(adopted.samples()) == 3
    assert adopted.joint_head() is not None
    assert {"balanced", "joint"} <= manifest.metrics.keys()


def test_features_are_those_of_the_network(adopted: Bundle, folder_of_timm: Path, images: Path) -> None:
    """Of timm's network with its own normalisation, on images as the server gives them to it."""
    network = timm.create_model(f"local-dir:{folder_of_timm}", pretrained=True, num_classes=0).eval()
    preprocess = adopted.manifest.preprocess
    split = load(config_of(adopted)).train
    pixels = np.stack([split.fitted(row, preprocess) for row in range(len(split))]).astype(np.float32) / 255
    normal = (pixels - np.array(preprocess.mean, np.float32)) / np.array(preprocess.std, np.float32)

    with torch.no_grad():
        expected = network(torch.from_numpy(normal.astype(np.float32)).permute(0, 3, 1, 2)).numpy()

    assert np.allclose(adopted.snapshots()[0].features, expected, atol=1e-4 * abs(expected).max())


def test_the_metrics_are_of_the_served_graph_and_head(adopted: Bundle) -> None:
    """Computed again from the files of the bundle."""
    test = load(config_of(adopted)).test
    session = onnxruntime.InferenceSession(adopted.backbone())
    pixels = np.stack([test.fitted(row, adopted.manifest.preprocess) for row in range(len(test))])
    (features,) = session.run(None, {"image": pixels})

    found = evaluate(adopted.head().logits(features), test.labels, ["medium", "few", "few"])

    assert found.as_dict()["balanced"] == pytest.approx(adopted.manifest.metrics["balanced"]["balanced"])


def test_a_file_of_weights_gives_the_same_bundle(
    adopted: Bundle, weights: Path, images: Path, tmp_path: Path, cache: Path
) -> None:
    """The same backbone and head as from the folder that has the same weights."""
    other = adopt(str(weights), AdoptConfig(data=str(images), size=SIDE, looks=1, architecture=NAME), tmp_path, cache)

    assert other.backbone_digest == adopted.backbone_digest
    assert np.allclose(other.head().weight, adopted.head().weight, atol=1e-5)


def test_a_damaged_graph_is_exported_again(folder_of_timm: Path, tmp_path: Path) -> None:
    """A whole one is read again; another size, or other weights, are another graph."""
    name, config = f"local-dir:{folder_of_timm}", BackboneConfig(size=SIDE)
    first = open_source(name, config, exports=tmp_path).opened.model
    (kept,) = tmp_path.iterdir()
    time = kept.stat().st_mtime_ns

    assert open_source(name, config, exports=tmp_path).opened.model == first
    assert kept.stat().st_mtime_ns == time
    kept.write_bytes(first[: len(first) // 2])
    assert open_source(name, config, exports=tmp_path).opened.model == first
    assert kept.read_bytes() == first
    open_source(name, BackboneConfig(size=2 * SIDE), exports=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_nothing_is_computed_twice(
    images: Path, folder_of_timm: Path, tmp_path: Path, cache: Path, adopted: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    """A second run finds all features, those of a look included; another look or another image is computed."""
    shutil.copytree(images, tmp_path / "images")
    shutil.copy(tmp_path / "images/test/red/00.png", tmp_path / "images/train/red/99.png")
    name = f"local-dir:{folder_of_timm}"

    def computed(**more: object) -> int:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            made = adopt(
                name, AdoptConfig.model_validate({"data": str(images), "size": SIDE} | more), tmp_path / "out", cache
            )
        told = re.search(r"the graph: (\d+) nodes of (\d+) kinds of operators, \d+\.\d MB, \d+\.\d ms", caplog.text)
        kinds = Counter(node.op_type for node in parse_onnx(made.backbone()).graph.node)
        assert told is not None
        assert (int(told[1]), int(told[2])) == (kinds.total(), len(kinds))
        found = re.search(r"features: (\d+) computed", caplog.text)
        assert found is not None
        return int(found[1])

    assert computed(looks=1) == 0
    assert computed(looks=1, data=str(tmp_path / "images")) == 1  # in train its clean feature is known, the look is not
    assert computed(crop="squash", interpolation="bilinear") == sum(COUNTS) + 24


def test_the_other_commands_work_on_it(adopted: Bundle, tmp_path: Path) -> None:
    """`evaluate`, `snapshot` and `refit`, with nothing said besides the bundle."""
    measured = measure(adopted, config_of(adopted))
    looks = make_snapshots(adopted, tmp_path / "looks")
    report = refit(adopted.folder, None, looks.paths, None, RefitSpec(), tmp_path / "refitted")

    found = measured["heads"]["balanced"]["metrics"]["macro_f1"]["value"]
    assert found == pytest.approx(adopted.manifest.metrics["balanced"]["macro_f1"])
    assert report.holdout.source == "bundle"
    assert read(tmp_path / "refitted" / "bundle").backbone_digest == adopted.backbone_digest


def test_the_report_has_no_pictures_of_epochs(adopted: Bundle) -> None:
    """Nothing was trained; how the head was chosen is beside it."""
    page = (adopted.folder / "report/index.html").read_text()
    how = RefitReport.model_validate_json((adopted.folder / "report/head.json").read_text())

    assert "Recall by group" in page
    assert "Epoch by epoch" not in page
    assert {part.member for part in how.members} == {"plain", "balanced"}


@pytest.mark.parametrize(
    ("backbone", "settings", "words"),
    [
        ("weights.pth", {}, "--architecture"),
        ("weights.safetensors", {"architecture": NAME}, "there is no file"),
        ("resnet18", {"architecture": NAME}, "--architecture is for a file of weights"),
        ("resnet18", {"output": "tokens"}, "--output: for an ONNX file only"),
        ("resnet18", {"pool": "cls", "preprocessing": "config.json"}, "--pool, --preprocessing: for an ONNX file only"),
        ("backbone.onnx", {"architecture": NAME}, "leave it out"),
        ("backbone.onnx", {}, "backbone.onnx"),
        ("resnet8", {}, "no pretrained weights"),
        ("resnet1000", {}, "no backbone 'resnet1000'"),
        ("org/name", {}, "hf-hub:org/name"),
        ("local-dir:nowhere", {}, "config.json"),
    ],
)
def test_what_is_no_backbone_is_one_sentence_before_images_are_read(
    backbone: str, settings: dict[str, str], words: str, images: Path, tmp_path: Path
) -> None:
    """Whatever is wrong with it; the folder of the run is not made."""
    (images / "train").stat()
    given = AdoptConfig.model_validate({"data": str(images), "size": SIDE} | settings)

    with pytest.raises(Exception, match=re.escape(words)) as raised:
        adopt(backbone, given, tmp_path / "out", tmp_path / "cache")

    assert "\n" not in str(raised.value)
    assert "--weights" not in str(raised.value)  # a flag of `train` alone
    assert not (tmp_path / "out").exists()


def test_data_that_is_not_there_is_told_first(tmp_path: Path) -> None:
    """Before weights are downloaded."""
    with pytest.raises(DataError, match="no data at nowhere"):
        adopt("resnet18", AdoptConfig(data="nowhere"), tmp_path / "out", tmp_path / "cache")


def test_a_prior_that_the_classes_cannot_have_is_told_before_features(
    images: Path, folder_of_timm: Path, tmp_path: Path
) -> None:
    """Which class has no weight."""
    spec = RefitSpec(deployment_prior={CLASSES[0]: 1.0})

    with pytest.raises(RefitError, match=f"no weight for {CLASSES[1]}"):
        adopt(
            f"local-dir:{folder_of_timm}", AdoptConfig(data=str(images), size=SIDE), tmp_path / "out",
            tmp_path / "cache", spec=spec,
        )  # fmt: skip
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_a_training_run_is_not_replaced(tmp_path: Path, images: Path) -> None:
    """Its folder holds work of hours."""
    (tmp_path / "checkpoint.pt").touch()

    with pytest.raises(AdoptError, match="choose another folder"):
        adopt("resnet18", AdoptConfig(data=str(images)), tmp_path, tmp_path / "cache")


def test_every_flag_that_a_message_names_is_one_of_the_command() -> None:
    """Of all sentences of the package: a remedy that cannot be typed is none."""
    flags = {f"--{name.replace('_', '-')}" for name in (*AdoptConfig.model_fields, *signature(command).parameters)}
    texts = [
        (path.name, node.value)
        for path in Path(onnx_graph.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    named = {(name, flag) for name, text in texts for flag in re.findall(r"--[a-z]+(?:-[a-z]+)*", text)}

    assert len(named) > 10
    assert {one for one in named if one[1] not in flags} == set()


def test_the_joint_head_is_plain(adopted: Bundle) -> None:
    """Without an offset the mean probability of a class is its share of the images, as its bias has no penalty."""
    joint, clean = adopted.joint_head(), adopted.snapshots()[0]
    assert joint is not None

    mean = softmax(joint.logits(np.asarray(clean.features, np.float32))).mean(0)

    assert mean == pytest.approx(np.array(COUNTS) / sum(COUNTS), abs=0.03)


def test_network_graph_and_features_give_one_head(images: Path, tmp_path: Path, cache: Path) -> None:
    """The same backbone as weights, as an ONNX file, and as features that were computed elsewhere."""
    plain = AdoptConfig(data=str(images), size=SIDE, interpolation="bicubic", crop=0.95)
    network = adopt(f"local-dir:{write_folder(tmp_path / 'timm')}", plain, tmp_path / "a", cache)
    (tmp_path / "own.onnx").write_bytes(network.backbone())
    graph = adopt(str(tmp_path / "own.onnx"), plain, tmp_path / "b", cache)
    clean, test = network.snapshots()[0], network.holdout()
    assert test is not None
    for name, look in (("train", clean), ("test", test)):
        names = np.array(look.classes)
        np.savez(tmp_path / f"{name}.npz", features=look.features, labels=look.labels, classes=names, ids=look.ids)
    files = FeatureFiles(tmp_path / "train.npz", tmp_path / "test.npz", "own")
    elsewhere = adopt_features(files, AdoptConfig(), tmp_path / "c")

    for other in (graph, elsewhere):
        assert np.allclose(other.snapshots()[0].features, clean.features, atol=1e-4 * abs(clean.features).max())
        assert np.allclose(other.head().weight, network.head().weight, atol=1e-4 * abs(network.head().weight).max())


@pytest.mark.parametrize(
    ("names", "counts"),
    [
        (("models", "test"), (3, 2)),
        (("x" * 60, "=1+1", "Ölweide", "日本", " a".strip()), (9, 1, 2, 1, 4)),
        (tuple(f"class {number}" for number in range(60)), (2,) * 59 + (1,)),
    ],
)
def test_folders_as_users_have_them(
    names: tuple[str, ...], counts: tuple[int, ...], folder_of_timm: Path, cache: Path, tmp_path: Path
) -> None:
    """Two classes and sixty, of one image and of nine, of any name, in a folder that is called as a package is."""
    rng = np.random.default_rng(0)
    for name, count in zip(names, counts, strict=True):
        (tmp_path / "models" / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (9, 1 + 40 * (number % 2), 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "models" / name / f"{number}.png")
    given = AdoptConfig(data=str(tmp_path / "models"), size=SIDE)

    made = adopt(f"local-dir:{folder_of_timm}", given, tmp_path / "out", cache)

    assert made.manifest.classes == tuple(sorted(names))
    held = made.holdout()
    assert held is not None
    assert len(held.labels) + sum(made.manifest.train_counts) == sum(counts)
    assert min(made.manifest.train_counts) >= 1
    assert read(made.folder).head().classes == made.manifest.classes
