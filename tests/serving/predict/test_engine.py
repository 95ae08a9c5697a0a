"""The engine on the CPU, against numpy."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny import CLASSES, SIDE, expected_features, picture, tiny_backbone, tiny_head

from breadcrumbs.models import head as heads
from breadcrumbs.models.head import LinearHead
from breadcrumbs.serving.predict import engine as engines
from breadcrumbs.serving.predict.devices import EngineError, TensorRT
from breadcrumbs.serving.predict.engine import BoundHead, Engine, Row, Scores
from breadcrumbs.serving.refusals import BadRequest


def engine(head: LinearHead | None = None) -> Engine:
    return Engine(tiny_backbone, head or tiny_head(), 1, (SIDE, SIDE), "cpu", 1)


def rows(count: int, head: BoundHead | None = None) -> list[Row]:
    return [Row(picture(seed), head) for seed in range(count)]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_features_and_logits_are_those_of_numpy(count: int) -> None:
    """Any batch size gives what the formulas give."""
    features = expected_features(np.stack([picture(seed) for seed in range(count)]))

    scores = engine().compute(rows(count))

    np.testing.assert_allclose(np.stack([s.feature for s in scores]), features, atol=1e-5)
    np.testing.assert_allclose(np.stack([s.logits for s in scores]), tiny_head().logits(features), atol=1e-5)


@pytest.mark.parametrize("width", [4, 64, 2048])
@pytest.mark.parametrize("count", [1, 3])
def test_given_features_are_kept_whatever_memory_is_used_after_the_batch(count: int, width: int) -> None:
    """What an answer is remembered by is the feature that came, also after others were computed."""
    one = Engine(None, tiny_head(1, CLASSES, width), 1, None, "cpu", 1)
    given = np.random.default_rng(5).normal(size=(count, width)).astype(np.float32)

    scores = one.compute([Row(feature=feature) for feature in given])
    taken = [np.full((count, width), 7, np.float32) for _ in range(20)]

    assert len(taken) == 20
    np.testing.assert_array_equal(np.stack([s.feature for s in scores]), given)


def test_company_takes_the_session_of_all_threads_from_a_lone_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a moment; then a lone image has all threads again."""
    one = Engine(tiny_backbone, tiny_head(), 1, (SIDE, SIDE), "cpu", 2)
    inner, wide = one._run, []
    monkeypatch.setattr(one, "_run", lambda session, *rest: wide.append(session is one._wide) or inner(session, *rest))

    one.compute(rows(1))
    one.compute(rows(2))
    one._making.join()
    monkeypatch.setattr(engines, "CALM", 3600)  # the moment lasts
    one.compute(rows(1))
    monkeypatch.setattr(engines, "CALM", -1)  # and is over
    one.compute(rows(1))

    assert wide == [True, True, False, True]  # the second while that of one thread was being made


def test_a_swap_takes_effect_with_the_next_batch_also_with_more_classes() -> None:
    """No session is made: the new head's arrays are bound instead."""
    one, grown = engine(), tiny_head(9, (*CLASSES, "yew", "ash"))

    one.swap(one.bind(2, grown))
    (scores,) = one.compute(rows(1))

    assert scores.head.version == 2
    np.testing.assert_allclose(scores.logits, grown.logits(scores.feature), atol=1e-5)


def test_a_batch_of_several_heads_gives_every_row_its_own() -> None:
    """Rows that name a head get it; the others all get the live one."""
    one, other = engine(), tiny_head(5)
    bound = one.bind(7, other)

    scores = one.compute([Row(picture(0)), Row(picture(1), bound), Row(picture(2))])

    assert [s.head.version for s in scores] == [1, 7, 1]
    for s, head in zip(scores, [tiny_head(), other, tiny_head()], strict=True):
        np.testing.assert_allclose(s.logits, head.logits(s.feature), atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 30])
def test_each_head_of_a_batch_computes_its_own_rows(count: int) -> None:
    """Rows of many heads with different classes, in any order, by images and by features."""
    one = engine()
    known = [tiny_head(seed, tuple(f"class {place}" for place in range(1 + seed))) for seed in range(count)]
    order = np.random.default_rng(count).permutation(3 * count) % count
    bound = [one.bind(100 + place, head) for place, head in enumerate(known)]
    given = [Row(picture(place), bound[head]) for place, head in enumerate(order)]
    given += [Row(feature=feature, head=bound[0]) for feature in features(3)]

    scores = one.compute(given)

    for s, head in zip(scores, [known[place] for place in order] + [known[0]] * 3, strict=True):
        assert s.head.head is head
        np.testing.assert_allclose(s.logits, head.logits(s.feature), atol=1e-5)


def features(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 4)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("backbone", [True, False])
def test_given_features_go_straight_to_the_head(count: int, backbone: bool) -> None:
    """With a backbone beside them and without one: the features come back as they are, the logits are numpy's."""
    given = features(count)
    one = engine() if backbone else Engine(None, tiny_head(), 1, None, "cpu", 1)
    one.warm_up(4)

    scores = one.compute([Row(feature=feature) for feature in given])

    np.testing.assert_array_equal(np.stack([s.feature for s in scores]), given)
    np.testing.assert_allclose(np.stack([s.logits for s in scores]), tiny_head().logits(given), atol=1e-5)


@pytest.mark.parametrize("order", ["pf", "fp", "pfpf", "ffp", "fpp", "pffp"])
def test_a_batch_of_pixels_and_features_keeps_its_order(order: str) -> None:
    """Every row gets its own feature and logits, each by the head that it names."""
    one, given = engine(), features(len(order))
    other = one.bind(7, tiny_head(5))
    batch = [
        Row(picture(place), other if place % 2 else None) if kind == "p" else Row(feature=given[place])
        for place, kind in enumerate(order)
    ]
    expected = [
        expected_features(picture(place)[None])[0] if kind == "p" else given[place] for place, kind in enumerate(order)
    ]

    scores = one.compute(batch)

    np.testing.assert_allclose(np.stack([s.feature for s in scores]), np.stack(expected), atol=1e-5)
    for row, s, feature in zip(batch, scores, expected, strict=True):
        head = tiny_head(5) if row.head else tiny_head()
        np.testing.assert_allclose(s.logits, head.logits(feature[None])[0], atol=1e-5)


def test_a_feature_that_is_too_large_fails_alone() -> None:
    """It is finite and its logits are not: it is refused, and the rows beside it are answered."""
    rows_of = [Row(picture(0)), Row(feature=np.full(4, 3e38, np.float32)), Row(feature=features(1)[0])]
    big = LinearHead(np.full((3, 4), 10, np.float32), np.zeros(3, np.float32), CLASSES)

    first, refused, last = engine(big).compute(rows_of)

    assert isinstance(refused, BadRequest)
    assert "logits are not finite" in str(refused)
    np.testing.assert_allclose(first.logits, big.logits(first.feature), rtol=1e-5)
    np.testing.assert_allclose(last.logits, big.logits(last.feature), rtol=1e-5, atol=1e-4)


def test_swapping_while_batches_run_never_mixes_heads() -> None:
    """Within a batch one head answers, and the logits are that head's."""
    one = engine()
    known = {version: tiny_head(version) for version in range(1, 5)}
    bound = [one.bind(version, head) for version, head in known.items()]
    one.swap(bound[0])
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            for head in bound:
                one.swap(head)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        batches = [one.compute(rows(4)) for _ in range(300)]
    finally:
        over.set()
        thread.join()

    for scores in batches:
        assert len({s.head.version for s in scores}) == 1
        head = known[scores[0].head.version]
        np.testing.assert_allclose(scores[0].logits, head.logits(scores[0].feature), atol=1e-5)


def test_a_swap_in_the_middle_of_a_batch_waits_for_the_next() -> None:
    """The live head is looked at once a batch, however the swap falls."""
    one = engine()
    bound = one.bind(2, tiny_head(2))

    class Swapping(list[Row]):
        """Rows between which the head is swapped."""

        def __iter__(self) -> Iterator[Row]:
            for row in super().__iter__():
                yield row
                one.swap(bound)

    scores = one.compute(Swapping(rows(3)))

    assert [s.head.version for s in scores] == [1, 1, 1]
    assert [s.head.version for s in one.compute(rows(2))] == [2, 2]


def test_a_head_of_another_dimension_is_refused() -> None:
    """The message has both dimensions."""
    with pytest.raises(EngineError, match="head 3 takes features of 9 dimensions; the backbone has 4"):
        engine().bind(3, tiny_head(1, CLASSES, 9))


def test_a_backbone_that_does_not_fit_its_head_fails_the_warm_up() -> None:
    """A wrong bundle is found at start, not at the first request."""
    one = engine(tiny_head(1, CLASSES, 9))

    with pytest.raises(EngineError, match="ONNX Runtime failed on a batch of 1"):
        one.warm_up(4)


def test_what_is_no_model_is_refused() -> None:
    """The error is ours, not ONNX Runtime's."""
    with pytest.raises(EngineError, match="cannot load the model"):
        Engine(lambda: b"nothing", tiny_head(), 1, (SIDE, SIDE), "cpu", 1)


def test_a_value_that_is_not_finite_is_an_error() -> None:
    """An overflow never leaves as a probability."""
    huge = LinearHead(np.full((3, 4), 3e38, np.float32), np.zeros(3, np.float32), CLASSES)

    with pytest.raises(EngineError, match="not finite"):
        engine(huge).compute([Row(np.full((SIDE, SIDE, 3), 255, np.uint8))])


def test_the_engine_and_head_onnx_give_the_same() -> None:
    """What a client downloads computes what the server computes."""
    import onnxruntime

    (scores,) = engine().compute(rows(1))
    session = onnxruntime.InferenceSession(heads.to_onnx(tiny_head()), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"feature": scores.feature[None]})

    np.testing.assert_allclose(scores.logits, logits[0], atol=1e-6)


def test_tensorrt_is_told_every_batch_size_and_where_to_keep_its_engines(tmp_path: Path) -> None:
    """One engine serves batches of 1 to the largest; without a folder nothing is kept."""
    options = TensorRT((224, 224, 3), 32, tmp_path).options()

    assert options["trt_profile_min_shapes"] == "image:1x224x224x3"
    assert options["trt_profile_max_shapes"] == "image:32x224x224x3"
    assert options["trt_engine_cache_path"] == str(tmp_path)
    assert "trt_engine_cache_path" not in TensorRT((8, 8, 3), 1).options()


@pytest.mark.parametrize("rows", [1, 7, 40])
def test_a_features_scores_keep_their_feature(rows: int) -> None:
    """What was answered long ago still has the feature that came, whatever was computed since."""
    engine = Engine(None, tiny_head(), 1, None, "cpu", 1)
    given = [np.random.default_rng(seed).normal(size=(rows, 4)).astype(np.float32) for seed in range(20)]
    answers = [engine.compute([Row(feature=one) for one in some]) for some in given]

    for some, scores in zip(given, answers, strict=True):
        kept = [one.feature for one in scores if isinstance(one, Scores)]
        np.testing.assert_array_equal(np.stack(kept), some)


def test_logits_beside_the_batches_are_the_heads() -> None:
    """As numpy computes them; features of another width are refused."""
    engine = Engine(None, tiny_head(), 1, None, "cpu", 1)
    other = tiny_head(5)
    rows = np.random.default_rng(2).normal(size=(9, 4)).astype(np.float32)

    np.testing.assert_allclose(engine.logits(rows, engine.bind(2, other)), other.logits(rows), rtol=1e-5)
    with pytest.raises(EngineError):
        engine.logits(rows[:, :2], engine.live)
