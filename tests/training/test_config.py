"""The recipes: each is a whole configuration that a file can hold, and says what is missing."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from breadcrumbs.training.config import EMBEDDED, NAME, STANDARD, ConfigError, TrainConfig
from breadcrumbs.training.data import dataset as datasets
from breadcrumbs.training.data.dataset import DataError
from breadcrumbs.training.recipes import RECIPES, recipe, recipe_for


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_its_file(name: str) -> None:
    """A recipe is valid, and what its JSON says is the same recipe."""
    found = recipe(name)

    assert TrainConfig.model_validate(found.model_dump()) == found
    assert TrainConfig.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("name", [name for name, found in RECIPES.items() if found.data != EMBEDDED])
def test_a_recipe_without_its_data_says_so(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that do not come with the project are asked for in one sentence, before anything starts."""
    monkeypatch.chdir(tmp_path)
    found = recipe(name)

    with pytest.raises(DataError) as caught:
        datasets.load(found)

    told = str(caught.value)
    assert told.startswith(f"{found.data} needs --images" if found.data in STANDARD else f"no data at {found.data}; ")


def test_the_papers_recipe_is_its_release() -> None:
    """ResNet-10, 224 pixels, 200 epochs of 512 images, both heads at 0.2: the one setting that was published."""
    found = recipe("imagenet-lt-r10")

    assert (found.architecture, found.size, found.epochs, found.batch_size) == ("resnet10", 224, 200, 512)
    assert (found.learning_rate, found.balanced_learning_rate, found.momentum) == (0.2, 0.2, 0.9)
    assert (found.weight_decay, found.method, found.augmentation) == (5e-4, "breadcrumb", "resized-crop")


def test_an_unknown_recipe_is_named_with_those_there_are() -> None:
    """The error holds the name that was given and every name there is."""
    with pytest.raises(ConfigError) as caught:
        recipe("imagenet")

    assert str(caught.value) == f"no recipe 'imagenet'; there are: {', '.join(RECIPES)}"


def test_a_flag_takes_back_what_a_recipe_sets() -> None:
    """`none`, as a flag gives it, makes an optional field absent; a field that is not optional refuses it."""
    base = RECIPES["cifar100-lt"].model_dump()

    assert base["imbalance"] == 100
    assert TrainConfig.model_validate(base | {"imbalance": "none"}).imbalance is None
    with pytest.raises(ValueError, match="epochs"):
        TrainConfig.model_validate(base | {"epochs": "none"})


@pytest.mark.parametrize("data", ["photos", "photos/", "list.txt", "s3://bucket/train-{0..3}.tar", "models"])
def test_images_of_ones_own_are_finetuned(data: str) -> None:
    """A folder, a list or shards mean pretrained weights at their size; the sets known by name keep `demo`."""
    assert recipe_for(data) == "finetune"
    assert {recipe_for(name) for name in (None, EMBEDDED, *STANDARD)} == {"demo"}


@given(st.text(max_size=200))
@settings(deadline=None)
def test_every_model_has_a_name_that_a_bundle_may_have(data: str) -> None:
    """Whatever the data is called, in any alphabet and at any length, the model's name is a valid one."""
    assert re.fullmatch(NAME, TrainConfig(data=data).model_name)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("photos/", "photos"),
        ("/data/my birds", "my-birds"),
        ("train.txt", "train"),
        ("C:\\data\\birds", "birds"),
        ("models", "models"),
        ("图片", "breadcrumbs"),
        ("fashion-mnist-lt", "fashion-mnist-lt"),
        ("x" * 100, "x" * 64),
    ],
)
def test_a_model_is_called_as_its_data_or_as_it_is_told(data: str, name: str) -> None:
    """Without `--name` it is the data's last part, as far as a name may have it."""
    assert TrainConfig(data=data).model_name == name
    assert TrainConfig(data=data, name="my-model").model_name == "my-model"


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "x" * 65, "ä", "a\n"])
def test_a_name_that_cannot_be_is_refused_before_training(name: str) -> None:
    """A name has up to 64 letters, digits, dots, dashes and underscores."""
    with pytest.raises(ValidationError, match="name"):
        TrainConfig(name=name)


@pytest.mark.parametrize(
    "change",
    [
        {"std": (0, 1, 1)},
        {"mean": (0.5, 0.5)},
        {"crop": 0},
        {"crop": 1.5},
        {"crop": "pad"},
        {"interpolation": "random"},
    ],
)
def test_pixels_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    """The four flags of pixels are checked before training; `none` takes a value back."""
    with pytest.raises(ValidationError):
        TrainConfig(**change)
    assert getattr(TrainConfig(**dict.fromkeys(change, "none")), next(iter(change))) is None
