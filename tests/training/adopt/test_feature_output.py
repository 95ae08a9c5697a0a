"""Which output has the features, and what makes one row per image of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from breadcrumbs.training.adopt.config import BackboneConfig
from breadcrumbs.training.adopt.feature_output import choose
from breadcrumbs.training.adopt.opened import AdoptError


def zeros(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Outputs of zeros by name, for three images."""
    return {name: np.zeros((3, *shape), np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("outputs", "name"),
    [
        (zeros(last_hidden_state=(197, 8), pooler_output=(8,)), "pooler_output"),
        (zeros(last_hidden_state=(197, 8), anything=(8,)), "anything"),
        (zeros(logits=(1000,), features=(8, 7, 7)), "features"),
        (zeros(logits=(1000,), image_embeds=(8,), features=(8,)), "image_embeds"),
        ({**zeros(a=(8,)), "kinds": np.zeros((3, 1), np.int64)}, "a"),
    ],
)
def test_the_likely_output_is_chosen_and_told(outputs: dict[str, np.ndarray], name: str) -> None:
    """A usual name wins, then the only one with a row for each image."""
    found = choose(outputs, 3, BackboneConfig(), channels_first=True)

    assert found.name == name
    assert any("--output picks another" in note for note in found.notes)


@pytest.mark.parametrize("name", ["pooler_output", "last_hidden_state"])
def test_a_named_output_is_taken(name: str) -> None:
    """Whatever the other outputs are called."""
    outputs = zeros(last_hidden_state=(197, 8), pooler_output=(8,))

    assert choose(outputs, 3, BackboneConfig(output=name), channels_first=True).name == name


@pytest.mark.parametrize(
    "outputs",
    [
        zeros(a=(8,), b=(8,)),
        zeros(a=(9, 8), b=(9, 8)),
        {"kinds": np.zeros((3, 1), np.int64)},
        {"a": np.zeros((1, 8), np.float32)},
        {"a": np.zeros(8, np.float32)},
        zeros(a=(2, 2, 2, 2)),
        zeros(a=(0,)),
        {},
    ],
)
def test_no_choice_lists_the_outputs(outputs: dict[str, np.ndarray]) -> None:
    """Where none fits or several do, the sentence has every name and its shape."""
    with pytest.raises(AdoptError, match=r"--output|export the backbone") as error:
        choose(outputs, 3, BackboneConfig(), channels_first=True)

    assert all(f"'{name}'" in str(error.value) for name in outputs)


@given(side=st.integers(1, 30), registers=st.integers(0, 5), pool=st.sampled_from(["cls", "mean", None]))
def test_tokens(side: int, registers: int, pool: str | None) -> None:
    """The first token is taken if it is the one beside a square, or if it was asked for; else the mean."""
    tokens = np.random.default_rng(0).normal(size=(3, side * side + registers, 4)).astype(np.float32)
    beside = tokens.shape[1] - 1
    first = pool == "cls" or (pool is None and round(beside**0.5) ** 2 == beside)

    found = choose({"output": tokens}, 3, BackboneConfig(pool=pool), channels_first=True)

    assert np.allclose(found.pooled(tokens), tokens[:, 0] if first else tokens.mean(1), atol=1e-6)
    assert found.feature_dim == 4


@given(
    dim=st.sampled_from([1, 2, 7, 768, 2048]),
    side=st.integers(1, 9),
    planes=st.booleans(),
    channels_first=st.booleans(),
)
def test_square_maps(dim: int, side: int, planes: bool, channels_first: bool) -> None:
    """The two equal dimensions are the positions, however the input lies; if all are equal, maps lie as it does."""
    maps = np.random.default_rng(0).normal(size=(3, dim, side, side) if planes else (3, side, side, dim))
    maps = maps.astype(np.float32)
    as_planes = planes if dim != side else channels_first

    found = choose({"output": maps}, 3, BackboneConfig(), channels_first=channels_first)

    assert found.feature_dim == dim
    assert np.allclose(found.pooled(maps), maps.mean((2, 3) if as_planes else (1, 2)), atol=1e-5)


@given(
    dim=st.sampled_from([10, 768, 2048]),
    sides=st.lists(st.integers(1, 9), min_size=2, max_size=2, unique=True),
    channels_first=st.booleans(),
)
def test_other_maps_lie_as_the_input(dim: int, sides: list[int], channels_first: bool) -> None:
    """Where no two dimensions are equal, nothing else tells."""
    maps = np.zeros((3, dim, *sides) if channels_first else (3, *sides, dim), np.float32)

    assert choose({"output": maps}, 3, BackboneConfig(), channels_first=channels_first).feature_dim == dim


@pytest.mark.parametrize("name", ["logits", "output", "my_logits"])
def test_logits_are_doubted(name: str) -> None:
    """A thousand numbers, or a name that says so, may be a classifier's."""
    notes = choose(zeros(**{name: (1000,)}), 3, BackboneConfig(), channels_first=True).notes

    assert any(note.startswith("WARNING") and "logits" in note for note in notes)
    assert not any(
        "WARNING" in note for note in choose(zeros(f=(768,)), 3, BackboneConfig(), channels_first=True).notes
    )
