"""A refit as a whole, on worlds whose truth is known: what comes out, what cannot happen, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from worlds import TRAINING, World

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import UNLABELLED, Snapshot
from breadcrumbs.training import folds
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.refit import validation
from breadcrumbs.training.refit.refit import Candidate, refit
from breadcrumbs.training.refit.rows import RefitError

WORLD = World()
QUICK = RefitSpec(members=("plain",), l2=1e-2, prior_offset=1.0)
"""Nothing to choose."""
GROW = RefitSpec(allow_new_classes=True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle of the world; nobody may change it."""
    return WORLD.bundle(tmp_path_factory.mktemp("world") / "bundle")


def made(bundle: Bundle, *uploads: Snapshot, spec: RefitSpec = QUICK, holdout: Snapshot | None = None) -> Candidate:
    """A refit of the bundle's live head."""
    return refit(bundle, bundle.head(), uploads, holdout, spec)


@pytest.mark.slow
def test_a_refit_gives_a_head_and_a_whole_report(bundle: Bundle) -> None:
    """Members, solver, comparison, gate and baselines are in the report; events tell the stages in order."""
    heard: list[dict[str, object]] = []
    upload = WORLD.rows(bundle, WORLD.each(5), 5)

    candidate = refit(bundle, bundle.head(), [upload], None, RefitSpec(), heard.append)
    heard.append({"event": "live"})
    done = candidate.complete()

    report = done.report.model_dump(mode="json")
    assert report["solver"]["converged"]
    assert sum(report["pool"]["rows"]) == sum(WORLD.counts) + 5 * 6 - 6  # a fifth of the new ones is judged on
    assert report["rows"] == 40 * 6 + 6
    assert report["class_rows"] == [40 + 1] * 6
    assert report["holdout"]["source"] == "bundle"
    assert [part["member"] for part in report["members"]] == ["plain", "balanced"]
    assert sum(part["share"] for part in report["members"]) == 1
    assert set(report["baselines"]) == {"plain", "balanced"}
    assert report["candidate"]["balanced"] > report["live"]["balanced"]
    assert report["gate"]["answer"] in ("yes", "no")
    assert [e["stage"] for e in heard if e["event"] == "stage"] == [
        "read", "transfer", "choose", "solve", "judge", "baselines", "certificate", "report",
    ]  # fmt: skip
    order = [e.get("stage", e["event"]) for e in heard]
    assert "progress" in order[order.index("choose") : order.index("solve")]  # which takes longest
    assert "progress" in order[order.index("solve") : order.index("judge")]
    assert order.index("judge") < order.index("live") < order.index("baselines")
    json.dumps(report, allow_nan=False)


def test_the_same_inputs_give_the_same_head(bundle: Bundle) -> None:
    """A refit is decided by its inputs and its seed."""
    one, two = (made(bundle).head for _ in range(2))

    assert one.digest == two.digest


def test_the_offset_is_minus_t_log_prior(bundle: Bundle) -> None:
    """Two refits that differ in t differ in the bias by −t·log π, π of the fitted images, and in nothing else."""
    prior = np.array(WORLD.counts) / sum(WORLD.counts)

    plain, moved = (made(bundle, spec=QUICK.model_copy(update={"prior_offset": t})).head for t in (0.0, 0.7))

    assert np.array_equal(plain.weight, moved.weight)
    assert np.allclose(moved.bias - plain.bias, -0.7 * np.log(prior), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_a_few_photos_of_a_new_class_harm_no_other(bundle: Bundle, count: int) -> None:
    """The new class is measured on images left out, apart from the others; nothing is chosen on the judged rows."""
    labels = np.full(count, len(WORLD.counts))

    candidate = made(bundle, WORLD.rows(bundle, labels, 7), spec=GROW.model_copy(update={"min_examples": 1}))

    before = WORLD.recalls(bundle.head()).mean()
    assert WORLD.recalls(candidate.head).mean() > before - 0.01
    new = candidate.judged.new_classes[0]
    assert (new.name, new.images, new.rows) == ("new 0", count, 0 if count == 1 else count)
    if count > 1:
        assert new.recall.low < new.recall.high
    assert candidate.judged.rows == 40 * 6


def test_a_new_class_of_one_photo_is_left_out_and_told(bundle: Bundle) -> None:
    """Unless the spec says that one is enough; other new classes come in."""
    labels = np.array([6, 7, 7, 7])

    candidate = made(bundle, WORLD.rows(bundle, labels, 7), spec=QUICK.model_copy(update={"allow_new_classes": True}))

    assert candidate.head.classes == (*WORLD.classes, "new 1")
    assert any("new 0" in note for note in candidate.judged.notes)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 5])
def test_new_rows_of_the_deployed_backbone_stay_where_they_are(bundle: Bundle, count: int) -> None:
    """And so do the old ones: a few new rows a class never move the class."""
    candidate = made(bundle, WORLD.rows(bundle, WORLD.each(count), 11), spec=RefitSpec())

    without = made(bundle, spec=RefitSpec())
    assert WORLD.recalls(candidate.head).mean() > WORLD.recalls(without.head).mean() - 0.01
    assert candidate.judged.gate.answer == "yes"


@pytest.mark.slow
def test_rows_that_the_live_head_got_wrong_harm_nothing(bundle: Bundle) -> None:
    """Two corrections fed back."""
    live = bundle.head()
    draw = WORLD.draw(WORLD.each(200), 33)
    wrong = np.flatnonzero(live.logits(draw).argmax(1) != WORLD.each(200))[:2]
    upload = replace(WORLD.rows(bundle, WORLD.each(200)[wrong], 0), features=draw[wrong])

    candidate = made(bundle, upload, spec=RefitSpec())

    assert WORLD.recalls(candidate.head).mean() > WORLD.recalls(live).mean() - 0.005


def test_a_class_without_a_judged_row_is_not_measured(bundle: Bundle) -> None:
    """One far row can take a class away, and a hold-out without the class does not see it: the gate says so."""
    far = WORLD.rows(bundle, [3], 0)
    far = replace(far, features=far.features + 60)
    test = np.repeat([0, 1, 2, 4, 5], 30)
    holdout = WORLD.rows(bundle, test, 8)

    judged = made(bundle, far, holdout=holdout).judged

    assert judged.gate.answer == "not measured"
    assert any("class 3" in reason for reason in judged.gate.reasons)
    assert any("class 3 moved by" in note and "on 1 row" in note for note in judged.notes)


def test_the_same_file_as_snapshot_and_holdout_is_refused(bundle: Bundle) -> None:
    """Nothing of it could be fitted."""
    upload = WORLD.rows(bundle, WORLD.each(5), 4)

    with pytest.raises(RefitError, match=r"every row of the snapshot of epoch 99 is in the hold-out too"):
        made(bundle, upload, holdout=upload)


def test_an_unlabelled_row_may_be_in_the_holdout_too(bundle: Bundle) -> None:
    """Pairs for a map may have a picture that the hold-out has as well: it is judged on, and the others map."""
    holdout = WORLD.rows(bundle, WORLD.each(20), 8)
    pairs = WORLD.rows(bundle, WORLD.each(5), 4)
    pairs = replace(pairs, labels=np.full_like(pairs.labels, UNLABELLED))
    pairs.features[3] = holdout.features[7]

    judged = made(bundle, pairs, holdout=holdout).judged

    assert judged.rows == len(holdout.labels)


def test_ids_from_0_take_nothing_away(bundle: Bundle) -> None:
    """Unrelated images with the training set's ids; with its data set's name they are the same images."""
    count = sum(WORLD.counts)
    labels = np.repeat(np.arange(6), WORLD.counts)
    other = WORLD.rows(bundle, labels, 6, ids=np.arange(count), dataset="9" * 64)
    same = WORLD.rows(bundle, labels, 6, ids=np.arange(count), dataset=TRAINING)

    apart, together = (made(bundle, own).complete().report.pool for own in (other, same))

    assert sum(apart.rows) == 2 * count - sum(int(0.2 * n) for n in WORLD.counts)
    assert sum(together.rows) == 2 * count
    assert sum(together.moved) == count


def test_a_holdout_never_empties_a_class(bundle: Bundle) -> None:
    """An image that alone is left of its class is fitted, and not judged."""
    one = WORLD.rows(bundle, [6], 3)
    test = WORLD.rows(bundle, WORLD.each(5), 8)
    holdout = replace(
        test,
        features=np.concatenate([test.features, one.features]), labels=np.append(test.labels, 6),
    )  # fmt: skip
    more = WORLD.rows(bundle, WORLD.each(1), 9)
    both = replace(more, features=np.concatenate([more.features, one.features]), labels=np.append(more.labels, 6))
    spec = QUICK.model_copy(update={"allow_new_classes": True, "min_examples": 1})

    candidate = made(bundle, both, spec=spec, holdout=holdout)

    assert candidate.head.classes[-1] == "new 0"
    assert (candidate.head.logits(one.features).argmax(1) == 6).all()
    assert candidate.judged.rows == 30


def test_without_a_holdout_a_share_of_the_images_is_judged(tmp_path: Path) -> None:
    """In every look at them: none of their rows is fitted."""
    bundle = WORLD.bundle(tmp_path / "b", holdout=0)

    report = made(bundle).complete().report

    assert report.holdout.source == "split"
    assert report.rows == sum(max(1, round(0.2 * n)) for n in WORLD.counts)
    assert sum(report.pool.rows) == sum(WORLD.counts) - report.rows


@pytest.mark.slow
def test_permuted_labels_do_not_pass_the_gate(bundle: Bundle) -> None:
    """An upload whose class numbers are moved on by one loses to the live head."""
    upload = WORLD.rows(bundle, WORLD.each(30), 5)
    moved = replace(upload, labels=(upload.labels + 1) % 6)

    judged = made(bundle, moved, spec=RefitSpec(use_bundle_snapshots=False)).judged

    assert judged.gate.answer == "no"
    assert judged.candidate_metrics.balanced < 0.9
    assert any("σ" in note for note in judged.notes) or judged.gate.reasons


@pytest.mark.slow
def test_older_epochs_of_a_run_are_brought_in_by_what_helps(run: Path) -> None:
    """A training run's own snapshots are looks of other backbones; each way is in the report with its interval."""
    bundle = bundles.read(run / "bundle")
    uploads = [snapshots.read(path) for path in sorted((run / "snapshots").glob("*"))]

    report = made(bundle, *uploads, spec=RefitSpec(l2=1e-2)).complete().report

    assert [one.looks for one in report.transfer] == ["looks of other backbones"]
    assert {"leave out", "none", "emanate", "map"} <= set(report.transfer[0].ways)
    assert report.transfer[0].ways["leave out"].change.value == 0
    assert report.certificate is not None
    assert {"joint", "joint_logit_adjusted", "tau_normalised"} <= set(report.baselines)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.ones((30, 7), np.float32)}, "7 dimensions"),
        ({"backbone": "0" * 64}, "not made with the deployed backbone"),
    ],
)
def test_a_holdout_that_does_not_fit_is_refused(bundle: Bundle, change: dict[str, object], message: str) -> None:
    """A hold-out of another dimension or backbone cannot compare heads."""
    with pytest.raises(RefitError, match=message):
        made(bundle, holdout=replace(WORLD.rows(bundle, WORLD.each(5), 0), **change))


def test_new_classes_need_to_be_allowed(bundle: Bundle) -> None:
    """A new name may be a typing mistake."""
    with pytest.raises(RefitError, match="new 0; set allow_new_classes"):
        made(bundle, WORLD.rows(bundle, [6, 6, 6], 0))


def test_nothing_to_refit_from_is_refused(bundle: Bundle) -> None:
    """Without uploads and without the bundle's own snapshots there is nothing to do."""
    with pytest.raises(RefitError, match="no snapshot"):
        made(bundle, spec=QUICK.model_copy(update={"use_bundle_snapshots": False}))


def test_a_new_class_of_another_backbone_alone_is_left_out(bundle: Bundle) -> None:
    """Nothing says where its rows would be now."""
    foreign = Snapshot(WORLD.draw([6] * 9, 0), np.zeros(9, np.int64), ("violet",), "1" * 64, 1)

    candidate = made(bundle, foreign, spec=QUICK.model_copy(update={"allow_new_classes": True}))

    assert candidate.head.classes == WORLD.classes
    assert any("violet" in note for note in candidate.judged.notes)
    assert candidate.head.digest == made(bundle).head.digest


def test_a_holdout_that_leaves_nothing_to_judge_on_is_refused(bundle: Bundle) -> None:
    """All images of every class are in it, so all of them are fitted."""
    own = replace(bundle.snapshots()[0], epoch=11)

    with pytest.raises(RefitError, match="no row is left to judge a head on"):
        made(bundle, holdout=own)


def test_classes_are_renamed_merged_and_removed_in_one_mapping(bundle: Bundle) -> None:
    """What is asked for is no loss: rows of a merged class are right as the class that it is in now."""
    edit = {"class 4": "class 5", "class 3": None, "class 1": "elm"}
    before = made(bundle)

    candidate = made(bundle, spec=QUICK.model_copy(update={"classes": edit}))
    report = candidate.complete().report

    assert candidate.head.classes == ("class 0", "elm", "class 2", "class 5")
    assert report.classes.new == []
    assert report.classes.train_images == [200, 120, 70, 25 + 15]
    assert candidate.judged.rows == before.judged.rows - 40
    assert report.live.recall[3] > 0.5
    assert candidate.judged.gate.answer != "no" or "beyond chance" in candidate.judged.gate.reasons[0]


@pytest.mark.slow
@pytest.mark.parametrize("pairs", [0, 200])
def test_rows_of_another_backbone_come_over_by_unlabelled_pairs(tmp_path: Path, pairs: int) -> None:
    """The deployed backbone has seen no labelled image: a map fitted to the pairs is all there is, and is enough."""
    bundle = WORLD.bundle(tmp_path / "b")
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(24, 24)))[0].astype(np.float32)
    rows = bundle.snapshots()[0]
    both = WORLD.draw(np.arange(pairs) % 6, 50)
    old = Snapshot(
        np.concatenate([rows.features, both]) @ turn, np.append(rows.labels, np.full(pairs, -1)), WORLD.classes,
        "5" * 64, 3, ids=np.arange(len(rows.labels) + pairs), dataset="6" * 64,
    )  # fmt: skip
    here = Snapshot(
        np.concatenate([both, WORLD.draw([0], 51)]), np.full(pairs + 1, -1), WORLD.classes, bundle.backbone_digest, 4,
        ids=np.append(len(rows.labels) + np.arange(pairs), 10**6), dataset="6" * 64,
    )  # fmt: skip
    spec = RefitSpec(use_bundle_snapshots=False)

    if not pairs:
        with pytest.raises(RefitError, match="no row that can be fitted"):
            made(bundle, old, here, spec=spec)
        return
    candidate = made(bundle, old, here, spec=spec)

    assert WORLD.recalls(candidate.head).mean() > WORLD.recalls(made(bundle).head).mean() - 0.03
    assert candidate.complete().report.transfer[0].chosen == "map"


@pytest.mark.parametrize("source", ["pinned", "bundle"])
def test_a_hold_out_of_the_operator_may_have_other_classes_besides(bundle: Bundle, source: str) -> None:
    """A start accepts it, so each refit does too; the rows of those classes are not judged. A request's is refused."""
    holdout = WORLD.rows(bundle, [*WORLD.each(10), 6, 6], 8)

    candidate = refit(bundle, bundle.head(), [], holdout, QUICK, source=source)  # type: ignore[arg-type]

    assert candidate.judged.rows == 60
    assert candidate.judged.holdout == ("pinned" if source == "pinned" else "bundle")
    with pytest.raises(RefitError, match=r"neither the live head nor the snapshots have: new 0"):
        made(bundle, holdout=holdout)


@pytest.mark.parametrize(("rows", "ways"), [(250, {1, 10}), (500, {1})])
def test_many_rows_are_chosen_by_and_solved_for_quickly(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, rows: int, ways: set[int]
) -> None:
    """Where one fold must do, one member, no weak λ and no proof are left, and the head is about as good.

    It is solved by way of a stronger penalty where the rows that it was chosen on are few.
    """
    thorough = made(bundle, WORLD.rows(bundle, WORLD.each(5), 5), spec=RefitSpec())
    monkeypatch.setattr(folds, "FOLDS", ())
    monkeypatch.setattr(validation, "THOROUGH", 0)
    monkeypatch.setattr(validation, "SAMPLE", rows * 8 * 6)  # fewer than there are

    quick = made(bundle, WORLD.rows(bundle, WORLD.each(5), 5), spec=RefitSpec())
    report = quick.complete().report

    (part,) = report.members
    assert part.member == "plain"
    assert part.penalty is not None
    assert part.penalty >= 1e-4 / 1.5
    assert {step.l2 for step in report.solver.trace} == {part.penalty * way for way in ways}
    assert quick.judged.candidate_metrics.balanced > thorough.judged.candidate_metrics.balanced - 0.05


def test_a_few_labelled_pairs_do_not_choose_the_way(bundle: Bundle) -> None:
    """Old rows of another backbone are mapped by pairs, also where two pairs happen to be labelled images."""
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(WORLD.dim, WORLD.dim)))[0].astype(np.float32)
    labels = np.repeat(np.arange(6), WORLD.counts)
    old = WORLD.rows(bundle, labels, 6)
    pairs = WORLD.rows(bundle, WORLD.each(20), 7, ids=np.arange(120), dataset="9" * 64)
    pairs.features[[3, 4]] = old.features[[0, 1]]
    pairs = replace(pairs, labels=np.full_like(pairs.labels, UNLABELLED))
    before = [replace(own, features=own.features @ turn, backbone="a" * 64) for own in (old, pairs)]
    spec = RefitSpec(members=("plain",), l2=1e-2, prior_offset=1.0, use_bundle_snapshots=False)

    head = made(bundle, *before, pairs, spec=spec).head

    assert WORLD.recalls(head).mean() > WORLD.recalls(bundle.head()).mean()
