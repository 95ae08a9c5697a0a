"""The pixels by the configuration of timm or transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from breadcrumbs.training.adopt import transform
from breadcrumbs.training.adopt.config import BackboneConfig
from breadcrumbs.training.adopt.image_input import ImageInput
from breadcrumbs.training.adopt.opened import AdoptError
from breadcrumbs.training.adopt.pixel_config import _parsed, find

HALF = [0.5, 0.5, 0.5]
CLIP = {
    "crop_size": {"height": 224, "width": 224}, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True,
    "do_rescale": True, "do_resize": True, "image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28],
    "resample": 3, "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 224},
}  # fmt: skip


def free(side: int | None = None) -> ImageInput:
    """A float input, of any size unless one is given."""
    return ImageInput("x", "float32", True, False, side, side, "'x' float32 (N, 3, ?, ?)")


def settled(
    folder: Path, config: Any, wish: BackboneConfig | None = None, *, name: str = "config.json", side: int | None = None
):
    """The transform by a configuration beside a graph."""
    (folder / name).write_text(json.dumps(config))
    return transform.settle(folder / "backbone.onnx", wish or BackboneConfig(), free(side), None)[0]


@pytest.mark.parametrize("wrapped", [True, False])
def test_timm(wrapped: bool, tmp_path: Path) -> None:
    """`pretrained_cfg` says size, crop, interpolation, mean and deviation."""
    values = {"input_size": [3, 288, 288], "crop_pct": 0.95, "interpolation": "bicubic", "mean": HALF, "std": HALF}
    found = settled(tmp_path, {"architecture": "x", "pretrained_cfg": values} if wrapped else values)

    assert (found.height, found.width, found.resize) == (288, 288, 303)
    assert (found.interpolation, found.mean, found.std) == ("bicubic", tuple(HALF), tuple(HALF))
    assert found.source == "config.json (timm)"


@pytest.mark.parametrize(
    ("changes", "size", "resize"),
    [
        ({}, 224, 224),
        ({"size": {"shortest_edge": 256}}, 224, 256),
        ({"size": 256}, 224, 256),
        ({"size": {"shortest_edge": 232}, "crop_size": 224}, 224, 232),
        ({"size": {"height": 384, "width": 384}, "do_center_crop": False}, 384, None),
        ({"size": {"height": 384, "width": 384}, "crop_size": 384}, 384, None),
        ({"size": 384, "crop_size": None}, 384, None),
        ({"size": {"shortest_edge": 224}, "crop_size": None, "crop_pct": 0.875}, 224, 256),
        ({"size": {"shortest_edge": 384}, "crop_size": None, "crop_pct": 0.875}, 384, None),
        ({"size": {"shortest_edge": 200}, "do_center_crop": False}, 200, 200),
        ({"do_resize": False}, 224, None),
    ],
)
def test_sizes_of_transformers(changes: dict[str, Any], size: int, resize: int | None, tmp_path: Path) -> None:
    """Every way of saying a size gives the input's size and the length of the shorter side."""
    found = settled(tmp_path, {**CLIP, **changes}, name="preprocessor_config.json")

    assert (found.height, found.width, found.resize, found.interpolation) == (size, size, resize, "bicubic")


@given(
    mean=st.tuples(*[st.floats(0, 1)] * 3),
    std=st.tuples(*[st.floats(0.1, 1)] * 3),
    factor=st.sampled_from([None, 1 / 255, 1.0, 1 / 127.5]),
    normalise=st.booleans(),
    shift=st.booleans(),
    value=st.integers(0, 255),
)
def test_colours_of_transformers(
    mean: tuple[float, ...], std: tuple[float, ...], factor: float | None, normalise: bool, shift: bool, value: int
) -> None:
    """A pixel becomes what transformers makes of it, rescaled or not, shifted by one or not, normalised or not."""
    config = {"image_mean": mean, "image_std": std, "do_normalize": normalise, "do_rescale": factor is not None}
    found = _parsed({**config, "rescale_factor": factor or 0.5, "rescale_offset": shift}, "x")
    scaled = value * (factor or 1) - (shift and factor is not None)
    theirs = (scaled - mean[0]) / std[0] if normalise else scaled

    assert found is not None
    ours = (value / 255 - found.pixels.mean[0]) / found.pixels.std[0]
    assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-4)


def test_flags_overrule_the_configuration(tmp_path: Path) -> None:
    """Each flag on its own; the others stay the configuration's."""
    wish = BackboneConfig(size=96, mean=(0.1, 0.2, 0.3), interpolation="lanczos", crop="squash")
    found = settled(tmp_path, CLIP, wish, name="preprocessor_config.json")

    assert (found.height, found.resize, found.interpolation) == (96, None, "lanczos")
    assert found.mean == (0.1, 0.2, 0.3)
    assert found.std == pytest.approx(CLIP["image_std"])
    assert found.source is not None
    assert "--crop" in found.source


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("folder", [".", "onnx"])
def test_where_a_configuration_lies(name: str, folder: str, tmp_path: Path) -> None:
    """Beside the graph, or above a folder named `onnx`; another program's `config.json` is passed over."""
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    (tmp_path / name).write_text(json.dumps(CLIP))

    found = find(tmp_path / folder / "backbone.onnx", None)

    assert found is not None
    assert name in found.pixels.source
    assert find(tmp_path / "other" / "backbone.onnx", None) is None


def test_where_flags_say_all_they_are_the_source(tmp_path: Path) -> None:
    """No other source is named then."""
    wish = BackboneConfig(mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic", crop=0.875)

    assert transform.settle(tmp_path / "x", wish, free(), None)[0].source == "--mean, --std, --interpolation, --crop"


def test_without_a_configuration_the_usual_values_are_assumed(tmp_path: Path) -> None:
    """ImageNet's, with warnings that say so."""
    found, notes = transform.settle(tmp_path / "x.onnx", BackboneConfig(), free(), None)

    assert (found.height, found.resize, found.mean[0]) == (224, 256, 0.485)
    assert sum(note.startswith("WARNING") for note in notes) == 2


BAD: list[Any] = [
    {"input_size": [1, 28, 28], "mean": HALF},
    {"mean": [0.5]},
    {"mean": HALF, "std": [0, 1, 1]},
    {"mean": HALF, "interpolation": "magic"},
    {"mean": HALF, "crop_pct": -1},
    {"mean": HALF, "input_size": [3, 0, 5]},
    {"mean": HALF, "input_size": [3, 10**9, 5]},
    {"mean": [float("nan"), 0, 0]},
    {"pretrained_cfg": {"mean": "red\n\x1b"}},
    {**CLIP, "image_mean": None},
    {**CLIP, "image_mean": [0.5]},
    {**CLIP, "resample": 9},
    {**CLIP, "size": {"longest_edge": 7}, "crop_size": None},
    {**CLIP, "size": {"height": 256, "width": 256}},
    {**CLIP, "rescale_factor": 0},
    {**CLIP, "image_std": [1e-300, 1, 1]},
    {"mean": HALF, "crop_pct": 0.001},
    {**CLIP, "size": "large"},
]


@pytest.mark.parametrize("config", BAD, ids=range(len(BAD)))
def test_a_configuration_that_cannot_be(config: Any, tmp_path: Path) -> None:
    """One sentence that names the file and says what to do."""
    with pytest.raises(AdoptError, match="--") as error:
        settled(tmp_path, config)

    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)
    assert "config.json" in str(error.value) or "crop of 0.001" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b"3", b"{}", None])
def test_a_named_configuration_must_be_one(content: bytes | None, tmp_path: Path) -> None:
    """Whatever else the file holds, or if it is missing."""
    path = tmp_path / "pixels.json"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(AdoptError, match="--preprocessing") as error:
        find(tmp_path / "backbone.onnx", path)
    assert "\n" not in str(error.value)


def test_a_size_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """A configuration for another size is another backbone's, unless --size says the graph's own."""
    with pytest.raises(AdoptError, match=r"say --size 32.*--preprocessing"):
        settled(tmp_path, CLIP, side=32)

    assert settled(tmp_path, CLIP, BackboneConfig(size=32), side=32).height == 32


@pytest.mark.parametrize(
    "values",
    [
        {"size": 0}, {"size": 5000}, {"crop": 0}, {"crop": 1.5}, {"std": (0.0, 1.0, 1.0)},
        {"mean": (float("inf"), 0.0, 0.0)}, {"crop": float("nan")},
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be(values: dict[str, Any]) -> None:
    """The setting is named, as for every command."""
    with pytest.raises(ValidationError) as error:
        BackboneConfig(**values)

    assert error.value.errors()[0]["loc"][0] == next(iter(values))
