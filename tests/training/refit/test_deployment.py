"""The deployment prior of a refit: what it is, what is refused, and what becomes of it in a whole refit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from worlds import World

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.head import softmax
from breadcrumbs.models.prior import Prior
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.refit.deployment import log_deployment
from breadcrumbs.training.refit.edits import with_past
from breadcrumbs.training.refit.refit import Candidate, refit
from breadcrumbs.training.refit.rows import RefitError

WORLD = World()
NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle of the world; nobody may change it."""
    return WORLD.bundle(tmp_path_factory.mktemp("world") / "bundle")


def made(bundle: Bundle, **settings: Any) -> Candidate:
    """A refit that chooses only the offset of one plain member."""
    return refit(bundle, bundle.head(), (), None, RefitSpec(members=("plain",), l2=1e-2, **settings))


@given(st.dictionaries(NAMES, st.floats(1e-3, 1e3), min_size=1, max_size=20))
def test_weights_become_shares(weights: dict[str, float]) -> None:
    """Of the classes in their order, whatever else has a weight."""
    classes = list(weights)[: max(1, len(weights) // 2)]

    found = log_deployment(RefitSpec(deployment_prior=weights), classes, torch.zeros(len(classes)))

    total = sum(weights[name] for name in classes)
    assert found is not None
    assert found.exp().tolist() == pytest.approx([weights[name] / total for name in classes], rel=1e-4)


def test_old_names_count_for_what_they_became() -> None:
    """Weights of classes that were merged are added, so that a prior outlives an edit."""
    spec = RefitSpec(deployment_prior={"oak": 1, "holm oak": 2, "elm": 1}, classes={"holm oak": "oak"})

    found = log_deployment(spec, ["oak", "elm"], torch.zeros(2))

    assert found is not None
    assert found.exp().tolist() == pytest.approx([0.75, 0.25])


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        (
            {"oak": 1.0, "elms": 1.0},
            "no weight for elm; expected one above 0 for each of 2 classes; did you mean 'elms'",
        ),
        ({"oak": 1.0, "elm": 0.0}, "no weight for elm"),
        ("bavaria", "'bavaria' is a prior in a server's store"),
    ],
)
def test_a_prior_that_cannot_be_is_refused_in_a_sentence(prior: Any, words: str) -> None:
    """A class without weight, and a name where there is no store."""
    with pytest.raises(RefitError, match=words):
        log_deployment(RefitSpec(deployment_prior=prior), ["oak", "elm"], torch.zeros(2))


@pytest.mark.parametrize("weights", [{}, {"oak": -1.0}, {"oak": float("nan")}, {"oak": 0.0}, {"a\nb": 1.0}, "No Name"])
def test_settings_that_are_no_prior_are_refused_at_once(weights: Any) -> None:
    """Before any job is made."""
    with pytest.raises(ValidationError):
        RefitSpec(deployment_prior=weights)


def test_a_missing_class_is_told_before_anything_is_fitted(bundle: Bundle) -> None:
    """No stage but the first is told."""
    heard: list[dict[str, object]] = []
    spec = RefitSpec(deployment_prior={"class 0": 1.0})

    with pytest.raises(RefitError, match="no weight for class 1, class 2"):
        refit(bundle, bundle.head(), (), None, spec, heard.append)

    assert [one.get("stage") for one in heard] == ["read"]


def test_a_head_without_a_prior_of_its_own_answers_as_before(bundle: Bundle) -> None:
    """Nothing but a scale is changed: the answers are those of the same refit at T = 1, and the probabilities hold."""
    candidate = made(bundle)
    report = candidate.complete().report

    assert candidate.head.log_prior is None
    assert report.calibration is not None
    assert report.calibration.prior == "uniform"
    assert report.calibration.fitted_rows > 100
    assert report.calibration.groups["all"].rows == report.rows
    plain = report.baselines["plain"]  # one member with its offset, at T = 1
    assert plain.balanced == report.candidate.balanced
    assert plain.recall == report.candidate.recall
    json.dumps(report.model_dump(mode="json"), allow_nan=False)


@pytest.mark.parametrize("prior", ["training", {f"class {c}": float(1 + c) for c in range(6)}])
def test_a_deployment_prior_is_added_after_the_temperature(bundle: Bundle, prior: Any) -> None:
    """The head says softmax(z / T + log π), knows π, and a request's prior takes its place."""
    uniform, own = made(bundle).head, made(bundle, deployment_prior=prior)
    features = WORLD.draw(WORLD.each(3), 9)
    counts = np.array(WORLD.counts if prior == "training" else list(prior.values()))

    found = own.head.logits(features)

    assert own.head.log_prior is not None
    assert np.exp(own.head.log_prior) == pytest.approx(counts / counts.sum(), rel=1e-3)
    assert np.allclose(found, uniform.logits(features) + own.head.log_prior, atol=1e-3)
    asked = Prior({f"class {c}": float(6 - c) for c in range(6)})
    first, second = (softmax(head.logits(features) + asked.log(head)) for head in (uniform, own.head))
    assert first == pytest.approx(second, abs=1e-4)


def test_nothing_to_choose_leaves_the_temperature_at_one(bundle: Bundle) -> None:
    """No head is fitted without a fold then, so there is no row to fit it to."""
    report = made(bundle, prior_offset=1.0).complete().report

    assert report.calibration is not None
    assert (report.calibration.temperature.value, report.calibration.fitted_rows) == (1.0, 0)
    assert report.calibration.groups["all"].change.nll.value == pytest.approx(0, abs=1e-6)


def test_a_head_is_never_made_surer(bundle: Bundle) -> None:
    """A strong penalty leaves it too unsure, and the rows say so; a backbone may have been trained on those rows."""
    spec = RefitSpec(members=("plain",), l2=10.0)
    report = refit(bundle, bundle.head(), (), None, spec).complete().report

    assert report.calibration is not None
    assert report.calibration.temperature.value == 1
    assert report.calibration.temperature.low < 1


@pytest.mark.parametrize("past", [None, "training", {"oak": 1.0, "elm": 2.0}])
def test_the_live_heads_prior_stays_unless_another_is_given(past: Any) -> None:
    """So refits that start by themselves do not take it back."""
    kept = with_past(RefitSpec(), {} if past is None else {"deployment_prior": past}, ["oak", "elm"])
    given_one = with_past(RefitSpec(deployment_prior="uniform"), {"deployment_prior": past}, ["oak", "elm"])

    assert kept.deployment_prior == past
    assert given_one.deployment_prior == "uniform"


@pytest.mark.slow
def test_probabilities_of_new_images_are_no_worse_on_average(tmp_path: Path) -> None:
    """Over worlds of all kinds, on images that nobody has seen: the log loss with T less that of T = 1."""
    changes = []
    for seed in range(6):
        world = World(counts=(120, 60, 30, 15, 8, 4), dim=(6, 40)[seed % 2], seed=seed, apart=0.4 + 0.2 * (seed % 3))
        report = made(world.bundle(tmp_path / str(seed))).complete().report
        assert report.calibration is not None
        changes.append(report.calibration.groups["all"].change.nll.value)

    assert np.mean(changes) < 0.005
