"""Answers of a head beside the right ones, compared with loops that are obvious."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from breadcrumbs.models.arrays import Floats
from breadcrumbs.training.inspect import mistakes
from breadcrumbs.training.inspect.class_table import class_table
from breadcrumbs.training.inspect.mistakes import answers, matrix_rows

Drawn = tuple[Floats, mistakes.Integers]


@st.composite
def drawn(draw: st.DrawFn) -> Drawn:
    """Logits of few values, so that ties occur, and labels."""
    rows, classes = draw(st.integers(0, 40)), draw(st.integers(2, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.integers(-3, 4, (rows, classes)).astype(np.float32) * draw(st.sampled_from([0.5, 5, 300]))
    return logits, rng.integers(0, classes, rows)


@given(drawn())
def test_answers_are_those_of_a_loop(given: Drawn) -> None:
    """Predicted class, both probabilities and the own class's place, where ties keep the order of classes."""
    logits, labels = given

    found = answers(logits, labels)

    for row, (values, label) in enumerate(zip(logits.astype(np.float64), labels, strict=True)):
        probability = np.exp(values - values.max()) / np.exp(values - values.max()).sum()
        order = sorted(range(len(values)), key=lambda c, v=values: (-v[c], c))
        assert found.predicted[row] == order[0]
        assert found.rank[row] == order.index(label) + 1
        assert found.given_probability[row] == pytest.approx(probability[label])
        assert found.predicted_probability[row] == pytest.approx(probability.max())
        assert (found.rank[row] == 1) == found.right[row]


@given(drawn())
def test_the_worst_mistake_comes_first(given: Drawn) -> None:
    """Every wrong row once, no right one, the least probable own class first."""
    found = answers(*given)

    order = found.worst_first()

    assert sorted(order) == np.flatnonzero(~found.right).tolist()
    assert (np.diff(found.given_probability[order]) >= 0).all()


@given(drawn())
def test_confusions_are_counted(given: Drawn) -> None:
    """The matrix has every row once, and the pairs of classes are what is off its diagonal."""
    logits, labels = given
    classes = logits.shape[1]
    counts = np.zeros((classes, classes), int)
    for label, predicted in zip(labels, logits.argmax(1), strict=True):
        counts[label, predicted] += 1
    found = answers(logits, labels)

    pairs = found.confused(classes)

    assert [list(row) for row in matrix_rows(found, classes)] == counts.tolist()
    assert {(one.true, one.predicted): one.rows for one in pairs} == {
        (a, b): counts[a, b] for a, b in np.argwhere(counts) if a != b
    }
    assert [one.rows for one in pairs] == sorted((one.rows for one in pairs), reverse=True)


def test_rows_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand classes do not change an answer, however many rows are read together."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(7, 1000)).astype(np.float32), rng.integers(0, 1000, 7)
    whole = answers(logits, labels)
    monkeypatch.setattr(mistakes, "AT_ONCE", 2000)

    parts = answers(logits, labels)

    assert parts.rank.tolist() == whole.rank.tolist()
    assert parts.given_probability.tolist() == whole.given_probability.tolist()


@given(drawn())
def test_recall_and_precision_of_each_class(given: Drawn) -> None:
    """As they are defined, inside their intervals; None where nothing is tested or predicted."""
    logits, labels = given
    predicted = logits.argmax(1)
    names = [f"class {c}" for c in range(logits.shape[1])]

    for c, row in enumerate(class_table(answers(logits, labels), names, np.arange(len(names)))):
        own, said = labels == c, predicted == c
        assert (row.name, row.train_images, row.test_images) == (names[c], c, own.sum())
        for share, rows in ((row.recall, own), (row.precision, said)):
            assert (share is None) == (not rows.any())
            if share is not None:
                assert share.value == pytest.approx((own & said).sum() / rows.sum())
                assert 0 <= share.low <= share.value <= share.high <= 1
                assert share.low < share.high
