"""What a refit leaves on disk: head, report, page, and a bundle that can be served and refitted again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.files import sha256
from breadcrumbs.models.refit_report import Judged, RefitReport
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.refit import files
from breadcrumbs.training.refit.files import run as refit

pytestmark = pytest.mark.slow
SPEC = RefitSpec(l2=1e-2, allow_new_classes=True)


@pytest.fixture(scope="module")
def grown(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a refit left that added a class, from the run's snapshots and an upload."""
    folder = tmp_path_factory.mktemp("grown")
    newest = bundles.read(run / "bundle").snapshots()[0]
    features = np.random.default_rng(0).normal(4, 0.1, (8, newest.feature_dim)).astype(np.float32)
    violet = Snapshot(features, np.zeros(8, np.int64), ("violet",), newest.backbone, newest.epoch)
    snapshots.write(folder / "violet.safetensors", violet)
    uploads = [folder / "violet.safetensors", *sorted((run / "snapshots").glob("*"))]
    refit(run / "bundle", None, uploads, None, SPEC, folder / "out")
    return folder / "out"


def answers(bundle: Bundle, images: np.ndarray) -> np.ndarray:
    """Logits by ONNX Runtime alone, from the bundle's two files."""
    backbone = onnxruntime.InferenceSession(bundle.backbone(), providers=["CPUExecutionProvider"])
    head = onnxruntime.InferenceSession((bundle.folder / "head.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    return np.asarray(head.run(None, {"feature": backbone.run(None, {"image": images})[0]})[0])


def test_head_report_and_page_are_left(run: Path, tmp_path: Path) -> None:
    """The head in both forms, a report that its schema accepts, and no bundle where none is wanted."""
    uploads = sorted((run / "snapshots").glob("*"))
    there: list[set[str]] = []

    def hear(event: dict[str, Any]) -> None:
        if event["event"] == "judged":
            there.append({path.name for path in tmp_path.iterdir()})

    report = refit(run / "bundle", None, uploads, None, RefitSpec(), tmp_path, hear, new_bundle=False)

    written = heads.read(tmp_path / "head.safetensors")
    assert heads.from_onnx((tmp_path / "head.onnx").read_bytes()).digest == written.digest == report.origin.candidate
    assert RefitReport.model_validate_json((tmp_path / "report.json").read_bytes()) == report
    assert report.certificate is not None
    assert (tmp_path / "report.html").read_bytes().startswith(b"<!DOCTYPE html>")
    assert there == [{"head.safetensors", "head.onnx", "known.safetensors", "judged.json"}]
    judged = Judged.model_validate_json((tmp_path / "judged.json").read_bytes())
    assert (judged.gate, judged.candidate_metrics, judged.rows) == (report.gate, report.candidate, report.rows)
    assert (judged.candidate, judged.live) == (report.origin.candidate, report.origin.live)
    assert {path.name for path in tmp_path.iterdir()} == there[0] | {"report.json", "report.html"}


def test_the_report_has_what_its_pictures_need(grown: Path) -> None:
    """Intervals of both heads, the solver's trace, every class, the new one too."""
    report = RefitReport.model_validate_json((grown / "report.json").read_bytes())

    for head in ("live", "candidate"):
        assert {"all", "balanced", "few", "ece"} <= set(report.intervals[head])
    assert report.solver is not None
    assert report.solver.trace[0].iteration <= 1
    assert report.solver.gap_bound <= 1e-3 * report.solver.objective
    assert {step.l2 for step in report.solver.trace} == {1e-2}
    assert report.classes.names[3] == "violet"
    assert len(report.change) == len(report.candidate.recall) == report.classes.count == 4
    lost = [c for c in report.change if c is not None and c.value < 0]
    assert [r.change for r in report.regressions] == sorted(lost, key=lambda c: (c.high, c.value))


def test_the_new_bundle_answers_with_the_new_head(run: Path, grown: Path) -> None:
    """By ONNX Runtime as by numpy, with the grown list of classes, on the same backbone."""
    old, new = bundles.read(run / "bundle"), bundles.read(grown / "bundle")
    size = new.manifest.preprocess.height
    images = np.random.default_rng(1).integers(0, 256, (5, size, size, 3), dtype=np.uint8)

    logits = answers(new, images)

    assert new.manifest.classes == (*old.manifest.classes, "violet")
    assert new.manifest.train_counts == (*old.manifest.train_counts, 8)
    assert new.backbone_digest == old.backbone_digest
    assert new.head().digest == heads.read(grown / "head.safetensors").digest
    assert logits.shape == (5, 4)
    assert np.allclose(logits[:, :3].shape, answers(old, images).shape)
    features = onnxruntime.InferenceSession(new.backbone(), providers=["CPUExecutionProvider"]).run(
        None, {"image": images}
    )[0]
    assert np.allclose(logits, new.head().logits(features), atol=1e-4)


def test_the_new_bundle_says_where_it_comes_from(run: Path, grown: Path) -> None:
    """Parent, live head, snapshots and settings; its metrics are the new head's; its report is the refit's."""
    old, new = bundles.read(run / "bundle"), bundles.read(grown / "bundle")
    report = RefitReport.model_validate_json((grown / "report.json").read_bytes())

    lineage = new.manifest.lineage
    assert lineage is not None
    assert lineage.parent == sha256(old.folder / "manifest.json")
    assert lineage.live == old.head().digest
    assert lineage.snapshots[0] == sha256(grown.parent / "violet.safetensors")
    assert lineage.spec == SPEC.model_dump(mode="json")
    assert new.manifest.metrics["balanced"] == report.candidate.model_dump(mode="json")
    assert (new.folder / "report/report.json").read_bytes() == (grown / "report.json").read_bytes()
    assert {name for name in new.manifest.files if name.startswith("report/")} == {
        "report/report.html", "report/report.json",
    }  # fmt: skip


def test_the_joint_head_stays_while_the_classes_do(run: Path, grown: Path, tmp_path: Path) -> None:
    """A joint head without a class of the bundle would not fit it, so a grown bundle has none."""
    refit(run / "bundle", None, [], None, SPEC, tmp_path)

    same = bundles.read(tmp_path / "bundle").joint_head()
    assert same is not None
    assert bundles.read(grown / "bundle").joint_head() is None


def test_the_new_bundle_keeps_every_look_and_can_be_refitted_again(run: Path, grown: Path, tmp_path: Path) -> None:
    """The parent's snapshots and the uploads are in it, each once; two of one epoch stand side by side."""
    old, new = bundles.read(run / "bundle"), bundles.read(grown / "bundle")

    report = refit(new.folder, None, [], None, SPEC, tmp_path)

    names = [name for name in new.manifest.files if name.startswith("snapshots/")]
    digests = [new.manifest.files[name] for name in names]
    assert len(set(digests)) == len(digests)
    assert {old.manifest.files[n] for n in old.manifest.files if n.startswith("snapshots/")} <= set(digests)
    assert any(name.endswith("-2.safetensors") for name in names)
    assert report.classes.names[3] == "violet"
    assert report.classes.new == []


def test_a_refit_with_a_holdout_names_it(run: Path, tmp_path: Path) -> None:
    """In the lineage, by its digest."""
    own = bundles.read(run / "bundle").holdout()
    assert own is not None
    snapshots.write(tmp_path / "held.safetensors", replace(own, features=own.features + np.float32(0.01), ids=None))

    refit(run / "bundle", None, [], tmp_path / "held.safetensors", SPEC, tmp_path / "out")

    lineage = json.loads((tmp_path / "out/bundle/manifest.json").read_text())["lineage"]
    assert lineage["holdout"] == sha256(tmp_path / "held.safetensors")


def test_the_new_bundle_keeps_the_hold_out(run: Path, grown: Path) -> None:
    """Training leaves one, of test images of its own data set; a bundle with more classes has the very same."""
    old, new = bundles.read(run / "bundle"), bundles.read(grown / "bundle")
    held, newest = new.holdout(), old.snapshots()[0]

    assert new.manifest.files["holdout.safetensors"] == old.manifest.files["holdout.safetensors"]
    assert new.manifest.format == "breadcrumbs.bundle/2"
    assert held is not None
    assert held.classes == old.manifest.classes != new.manifest.classes
    assert (held.backbone, held.epoch) == (newest.backbone, newest.epoch)
    assert len(held.dataset) == len(newest.dataset) == 64
    assert (held.counts() > 0).all()


def test_the_pinned_hold_out_goes_before_the_named_one(run: Path, tmp_path: Path) -> None:
    """Both may be given; the lineage says which one judged."""
    held = run / "bundle" / "holdout.safetensors"
    other = tmp_path / "other.safetensors"
    snapshots.write(other, replace(bundles.read(run / "bundle").snapshots()[0], ids=None))

    report = refit(run / "bundle", None, [], other, SPEC, tmp_path / "out", gate_holdout=held)

    lineage = json.loads((tmp_path / "out/bundle/manifest.json").read_text())["lineage"]
    assert lineage["holdout"] == sha256(held)
    assert report.rows == len(snapshots.read(held).labels)


def test_samples_follow_the_edit_of_their_class(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """They are named by the index of their class in the new head; those of a removed class are left out."""
    manifest = tiny_bundle.manifest
    kept = {name: (tiny_bundle.folder / name).read_bytes() for name in manifest.files}
    samples = {f"samples/{index}-{n}.png": bytes([index, n]) for index in range(3) for n in (0, 3)}
    parent = bundles.write(tmp_path / "bundle", manifest, kept | samples)
    oak, elm, wollemia = manifest.classes

    found = files._samples(parent, {oak: wollemia, elm: None}, (wollemia, "yew"))

    assert sorted(found) == [f"samples/0-{n}.png" for n in range(4)]
    assert sorted(found.values()) == sorted(samples[f"samples/{index}-{n}.png"] for index in (0, 2) for n in (0, 3))


def test_new_images_that_were_set_aside_join_the_hold_out(run: Path, tmp_path: Path) -> None:
    """And the classes of all of it are called as they are now; the next refit does not fit them either."""
    parent = bundles.read(run / "bundle")
    blue, green, red = parent.manifest.classes
    rng = np.random.default_rng(3)
    features = rng.normal(size=(20, parent.manifest.feature_dim)).astype(np.float32)
    upload = Snapshot(features, np.zeros(20, np.int64), (blue,), parent.backbone_digest, 50)
    snapshots.write(tmp_path / "new.safetensors", upload)
    spec = RefitSpec(
        members=("plain",), l2=1e-2, prior_offset=0, transfer="leave out", classes={green: "lime", red: None}
    )

    refit(run / "bundle", None, [tmp_path / "new.safetensors"], None, spec, tmp_path / "out")
    made = bundles.read(tmp_path / "out/bundle")
    held, before = made.holdout(), parent.holdout()

    assert held is not None
    assert before is not None
    assert held.classes == made.manifest.classes == (blue, "lime")
    assert held.counts().tolist() == [before.counts()[0] + 4, before.counts()[1]]
    assert sum(row.tobytes() in {own.tobytes() for own in features} for row in held.features) == 4
    again = refit(made.folder, None, [], None, spec.model_copy(update={"classes": {}}), tmp_path / "again")
    assert again.pool.rows[0] == 30 + 16
