"""The recipes: each is a whole configuration that a file can hold, and says what is missing."""

from pathlib import Path

import pytest

from training import data as datasets
from training.config import EMBEDDED, RECIPES, STANDARD, ConfigError, TrainConfig, recipe
from training.data import DataError


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
