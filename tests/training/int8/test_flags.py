"""`--int8` of the commands that make bundles: each tries it, and says in the manifest what came of it."""

import shutil
from pathlib import Path

import pytest
from onnx_backbones import backbone, saved
from small_run import small_config

from breadcrumbs.commands.adopt import adopt
from breadcrumbs.commands.train import export, train
from breadcrumbs.models import bundle as bundles
from breadcrumbs.training.adopt.config import AdoptConfig
from breadcrumbs.training.adopt.opened import AdoptError


def check(out: Path) -> None:
    """Whether int8 is there or not, the manifest says it, and why."""
    made = bundles.read(out / "bundle")
    facts = made.manifest.metrics["int8"]
    assert made.has("int8") == (facts["refusal"] is None)
    assert facts["calibration"]["classes"] == 3
    if made.has("int8"):
        assert made.of("int8").backbone_digest != made.backbone_digest


def test_adopt_and_then_export(images: Path, tmp_path: Path) -> None:
    """`export` adds it to an adopted backbone, of which there is no checkpoint."""
    model, out = saved(backbone(), tmp_path), tmp_path / "out"
    config = AdoptConfig(data=str(images), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    adopt(str(model), out=out, cache=tmp_path / "cache", config=config, device="cpu", int8=True)
    check(out)
    adopt(str(model), out=out, cache=tmp_path / "cache", config=config, device="cpu")
    assert "int8" not in bundles.read(out / "bundle").manifest.metrics
    export(out, int8=True)
    check(out)


def test_features_have_no_backbone_to_bring_to_int8(tmp_path: Path) -> None:
    """The flag is refused before anything is read."""
    with pytest.raises(AdoptError, match="--int8 is not used"):
        adopt(features=tmp_path / "features.npz", int8=True)


@pytest.mark.slow
def test_train_and_export_of_a_run(run: Path, images: Path, tmp_path: Path) -> None:
    """From the run itself, and from its checkpoint."""
    train(recipe="demo", out=tmp_path / "trained", int8=True, config=small_config(images, epochs=1))
    check(tmp_path / "trained")
    (tmp_path / "run").mkdir()
    for name in ("checkpoint.pt", "log.jsonl"):
        shutil.copy(run / name, tmp_path / "run" / name)
    export(tmp_path / "run", int8=True)
    check(tmp_path / "run")
