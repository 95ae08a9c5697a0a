"""A refit from files to files: what is read, and what is left in a folder.

    head.safetensors, head.onnx   the new head
    known.safetensors             by what it tells how well a feature is known, where there are rows enough
    judged.json                   what decides whether it goes live; the event `judged` follows it
    report.json, report.html      what is known of it, for programs and for people
    bundle/                       the same backbone with the new head, ready to be served

It knows nothing of how a head is made (`training.refit.refit`) or of HTTP; the server's child process ends here too.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models import known, taxonomy
from breadcrumbs.models import refit_report as reports
from breadcrumbs.models.bundle import Bundle, Lineage
from breadcrumbs.models.files import sha256, write_whole
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.refit_report import RefitReport
from breadcrumbs.models.snapshots import examples as labelled
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.convert import open_safely
from breadcrumbs.models.snapshots.snapshot import UNLABELLED, Snapshot
from breadcrumbs.training.config import RefitDevice, RefitSpec
from breadcrumbs.training.refit.completion import Refit, Tell
from breadcrumbs.training.refit.edits import Names, edited, with_past
from breadcrumbs.training.refit.holdout import Source
from breadcrumbs.training.refit.named import named_rows
from breadcrumbs.training.refit.refit import Candidate, refit
from breadcrumbs.training.report import refit_page
from breadcrumbs.training.run.holdout import drawn
from breadcrumbs.training.run.snapshots import path_of


def run(
    bundle: Path,
    head: Path | None,
    uploads: Sequence[Path],
    holdout: Path | None,
    spec: RefitSpec,
    out: Path,
    tell: Tell = lambda _: None,
    *,
    new_bundle: bool = True,
    device: RefitDevice = "cpu",
    gate_holdout: Path | None = None,
    examples: Sequence[Path] = (),
) -> RefitReport:
    """Refit from files, and leave head, report, page and, with `new_bundle`, a bundle in `out`. Returns the report.

    The head and `judged.json` are there before the rest is made; `tell` hears `judged` then. If there is a
    `gate_holdout`, it is judged on that instead of on `holdout`. `examples` are snapshots of rows that people labelled:
    one in five of the verified ones is judged on and never fitted.

    Raises:
        FormatError: a file is damaged, or is none of examples of the deployed backbone.
        EditError: the classes cannot be edited as the spec says.
        RefitError: as `refit`.
    """
    holdout = gate_holdout or holdout
    opened = bundles.read(bundle)
    live = opened.head() if head is None else heads.read(head)
    edited(live.classes, spec.classes)
    if opened.manifest.lineage is not None:
        spec = with_past(spec, opened.manifest.lineage.spec, live.classes)
    looks = [open_safely(path) for path in (*uploads, *examples)]
    for path, found in zip(examples, looks[len(uploads) :], strict=True):
        labelled.check(found, path.name, opened.backbone_digest, opened.manifest.feature_dim)
    held = None if holdout is None else open_safely(holdout)
    source: Source = "snapshot" if gate_holdout is None else "pinned"
    candidate = refit(opened, live, looks, held, spec, tell, device, source)
    write_candidate(out, candidate)
    tell({"event": "judged"})
    made = candidate.complete()
    told = write_report(out, made.report)
    if new_bundle:
        lineage = Lineage(
            parent=sha256(opened.folder / "manifest.json"),
            live=live.digest,
            snapshots=tuple(sha256(path) for path in (*uploads, *examples)),
            holdout=None if holdout is None else sha256(holdout),
            spec=spec.model_dump(mode="json"),
        )
        repack(out / "bundle", opened, made, looks, lineage, told)
    return made.report


def write_candidate(out: Path, candidate: Candidate) -> None:
    """Write the new head, and what decides whether it goes live."""
    write_whole(out / "head.safetensors", heads.to_bytes(candidate.head))
    write_whole(out / "head.onnx", heads.to_onnx(candidate.head))
    if candidate.known is not None:
        write_whole(out / known.FILE, known.to_bytes(candidate.known, candidate.head.digest))
    write_whole(out / "judged.json", reports.to_bytes(candidate.judged))


def write_report(out: Path, report: RefitReport) -> dict[str, bytes]:
    """Write the report for programs and for people; return the bytes of both, by name."""
    told = {"report.json": reports.to_bytes(report), "report.html": refit_page.build(report)}
    for name, data in told.items():
        write_whole(out / name, data)
    return told


def repack(
    folder: Path, parent: Bundle, made: Refit, uploads: Sequence[Snapshot], lineage: Lineage, told: dict[str, bytes]
) -> Bundle:
    """Write a bundle of the parent's backbone and the new head.

    Its snapshots are the parent's and the uploads, so that the next refit stands on all of them; its hold-out is the
    parent's, and the new images that were set aside. The joint head is kept where it still has all the classes; the
    parent's report, of another head, is not.

    Args:
        folder: where it will be.
        parent: the bundle that was refitted.
        made: the new head, and what is known of it.
        uploads: what it was fitted to besides the parent's snapshots.
        lineage: where it comes from.
        told: the files of its report.

    Raises:
        BundleError: the parts do not fit together.
    """
    report = made.report
    kept = [name for name in parent.manifest.files if name.startswith("snapshots/")]
    if made.head.classes == parent.manifest.classes and "joint-head.onnx" in parent.manifest.files:
        kept.append("joint-head.onnx")
    kept += [name for name in ("backbone.onnx", "backbone-half.onnx") if name in parent.manifest.files]
    files = {name: (parent.folder / name).read_bytes() for name in kept}
    became = {**report.spec.get("aliases", {}), **report.spec.get("classes", {})}
    files |= _samples(parent, became, made.head.classes)
    files |= _holdout(parent, became, made)
    files |= _named(parent, became, made.head)
    if bundles.TAXONOMY in parent.manifest.files:
        files[bundles.TAXONOMY] = taxonomy.renamed((parent.folder / bundles.TAXONOMY).read_bytes(), became)
    files["head.onnx"] = heads.to_onnx(made.head)
    if made.known is not None:
        files[bundles.KNOWN] = known.to_bytes(made.known, made.head.digest)
    for upload in uploads:
        add_snapshot(files, upload)
    files |= {f"report/{name}": data for name, data in told.items()}
    manifest = parent.manifest.model_copy(
        update={
            "format": bundles.FORMAT,
            "classes": made.head.classes,
            "train_counts": tuple(report.classes.train_images),
            "metrics": {
                "balanced": report.candidate.model_dump(mode="json"),
                "groups": report.holdout.groups,
                "held_out_rows": report.rows,
            },
            "created": bundles.now(),
            "lineage": lineage,
        }
    )
    return bundles.write(folder, manifest, files)


def _samples(parent: Bundle, names: Names, classes: Sequence[str]) -> dict[str, bytes]:
    """Return the parent's sample images, named by the index of their class as it is called now."""
    index = {name: place for place, name in enumerate(classes)}
    found: dict[str, bytes] = {}
    for sample, old in parent.samples().items():
        known = parent.manifest.classes[old]
        place = index.get(names.get(known, known) or "")
        if place is not None:
            number = sum(name.startswith(f"samples/{place}-") for name in found)
            found[f"samples/{place}-{number}.png"] = (parent.folder / "samples" / sample).read_bytes()
    return found


def _named(parent: Bundle, became: Names, head: LinearHead) -> dict[str, bytes]:
    """What the classes' names say, for the classes as they are now; a new class has no words yet."""
    rows = named_rows(parent.named_head(), became, head.classes)
    if rows is None:
        return {}
    return {bundles.NAMED: heads.to_onnx(LinearHead(rows.numpy(), np.zeros_like(head.bias), head.classes))}


def _holdout(parent: Bundle, became: Names, made: Refit) -> dict[str, bytes]:
    """The parent's hold-out, with classes as they are called now, and the new images that were set aside.

    Where a class has more rows than a hold-out keeps, the draw is from both. Images are known by their features then.
    """
    own, rows = parent.holdout(), made.judged
    names = () if own is None else tuple(became.get(name, name) for name in own.classes)
    if own is not None and not rows.new and names == own.classes:
        return {bundles.HOLDOUT: (parent.folder / bundles.HOLDOUT).read_bytes()}
    classes = made.head.classes
    index = {name: place for place, name in enumerate(classes)}
    features = [rows.features[len(rows.labels) - rows.new :]]
    labels = [rows.labels[len(rows.labels) - rows.new :]]
    if own is not None:
        place = np.array([index.get(name or "", UNLABELLED) for name in names], np.int64)[own.labels]
        features.append(np.asarray(own.features[place >= 0], np.float32))
        labels.append(place[place >= 0])
    if not sum(map(len, labels)):
        return {}
    epoch = max((snapshot.epoch for snapshot in parent.snapshots()), default=0)
    lineage = "" if own is None else own.lineage
    both = Snapshot(
        np.concatenate(features), np.concatenate(labels), classes, parent.backbone_digest, epoch, lineage=lineage
    )
    return {bundles.HOLDOUT: snapshots.to_bytes(drawn(both))}


def add_snapshot(files: dict[str, bytes], snapshot: Snapshot) -> None:
    """Put a snapshot among a bundle's files, unless it is there; two of one epoch are numbered."""
    data = snapshots.to_bytes(snapshot)
    if data in files.values():
        return
    plain = path_of(Path("snapshots"), snapshot.epoch)
    name, number = str(plain), 1
    while name in files:
        number += 1
        name = str(plain.with_stem(f"{plain.stem}-{number}"))
    files[name] = data
