"""What a refit stands on: classes, images, the rows that may be fitted, and the rows that both heads are judged on.

Nothing is fitted to a judged row, or chosen by it. It knows nothing of how a head is fitted.

Letters: N judged rows, D feature dimensions, C classes, I images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.groups import Group, groups
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.printable import listed
from breadcrumbs.models.snapshots.examples import are_examples
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.emanate import class_means
from breadcrumbs.training.refit.edits import EditedClasses, Names, edited
from breadcrumbs.training.refit.holdout import HeldOut, Source, set_aside, split, with_examples
from breadcrumbs.training.refit.images import Images, identified
from breadcrumbs.training.refit.named import named_rows
from breadcrumbs.training.refit.rows import OTHER, RefitError, Rows
from breadcrumbs.training.refit.transfer import PAIRS

MOVED = 20  # classes that are told
FAR = 3.0  # a mean that moved by more than so many times its sampling error is told


@dataclass(frozen=True, eq=False)
class Material:
    """What a refit stands on.

    Attributes:
        classes: C names, those of the live head first.
        known: how many the live head has, after the edit.
        later: of each class (C,), whether it came after the bundle.
        edit: what becomes of the live head's classes.
        images: of all snapshots.
        base: the deployed backbone's rows, one for each image that it has seen.
        crumbs: the other looks.
        fit: bool (I,), the images that anything may be learned of: those that are not judged on.
        counts: training images of each class, int64 (C,).
        groups: of each class (C,).
        judged: what both heads are judged on.
        notes: what a reader should know, a sentence each.
        named: what the classes' names say, f32 (C, D), 0 where nothing is known; None: of no class.
    """

    classes: tuple[str, ...]
    known: int
    later: tuple[bool, ...]
    edit: EditedClasses
    images: Images
    base: Rows
    crumbs: tuple[Rows, ...]
    fit: Tensor
    counts: NDArray[np.int64]
    groups: tuple[Group, ...]
    judged: HeldOut
    notes: tuple[str, ...]
    named: Tensor | None = None

    def apart(self, min_rows: int) -> tuple[int, ...]:
        """Return the known classes that came after the bundle and have fewer judged rows than that."""
        rows = np.bincount(self.judged.labels, minlength=len(self.classes))
        return tuple(c for c in range(self.known) if self.later[c] and rows[c] < min_rows)


def read(
    bundle: Bundle, live: LinearHead, uploads: Sequence[Snapshot], holdout: Snapshot | None, source: Source,
    spec: RefitSpec, *, elsewhere: bool = False,
) -> Material:  # fmt: skip
    """Bring snapshots together.

    Args:
        bundle: the deployed backbone, and its own snapshots.
        live: the head to be replaced.
        uploads: the newest last.
        holdout: rows that nothing may be fitted to; None means a share of the images is set aside.
        source: whose the hold-out is.
        spec: which snapshots and classes are used.
        elsewhere: the live head is one of another backbone's features.

    Raises:
        EditError: the classes cannot be edited so.
        RefitError: the snapshots do not fit the bundle, each other or the hold-out.
    """
    edit = edited(live.classes, spec.classes)
    stored = bundle.snapshots() if spec.use_bundle_snapshots else []
    if not (stored or uploads):
        raise RefitError("there is no snapshot to refit from: name one, or set use_bundle_snapshots")
    digest = bundle.backbone_digest
    dimensions = bundle.manifest.feature_dim if elsewhere else live.feature_dim
    for snapshot in (*uploads, *([] if holdout is None else [holdout])):
        _check(snapshot, dimensions, digest)
    if holdout is not None and holdout.backbone != digest:
        raise RefitError("the hold-out was not made with the deployed backbone, so no head can be compared on it")
    became = {**spec.aliases, **spec.classes}
    names = _names(edit.names, (*stored, *uploads), became, grow=spec.allow_new_classes)
    own = {name: c for c, name in enumerate(names)}
    place = {**own, **{name: OTHER if new is None else own.get(new, OTHER) for name, new in became.items()}}
    if holdout is not None and source == "snapshot":  # a pinned or carried one may have other classes besides
        _check_holdout(holdout, place)
    images = identified(stored, uploads, holdout, place, digest)
    images, classes, notes = _without_rare(images, names, len(edit.names), spec.min_examples)
    if not any(look.present and len(look) for look in images.looks):
        raise RefitError("no snapshot was made with the deployed backbone, and the bundle carries none")
    base = images.base()
    counts = _counts(bundle, classes, became, images.labels[images.seen])
    if images.aside is None:
        fit, judged = split(base, images, len(classes), spec)
    else:
        fit, judged = set_aside(base, images, images.aside, len(edit.names), len(classes), source, spec)
    fit, judged = with_examples(base, images, len(classes), fit, judged, judge=not elsewhere)
    if not len(judged.labels):
        raise RefitError(
            "no row is left to judge a head on: the hold-out has none of the classes, or all images of them; "
            "name another hold-out"
        )
    if images.disputed:
        notes.append(f"{images.disputed} images are of two classes in different rows; the newest row's class holds")
    notes += _moved(base, images, fit, classes)
    class_groups = groups(counts.tolist(), bundle.manifest.groups)
    later = _later(bundle, classes, became, len(edit.names))
    return Material(
        classes, len(edit.names), later, edit, images, base, images.crumbs(), fit, counts, class_groups, judged,
        tuple(notes), named_rows(bundle.named_head(), became, classes),
    )  # fmt: skip


def _check(snapshot: Snapshot, feature_dim: int, digest: str) -> None:
    if snapshot.backbone == digest and snapshot.feature_dim != feature_dim:
        raise RefitError(
            f"snapshot of epoch {snapshot.epoch} has features of {snapshot.feature_dim} dimensions; "
            f"the deployed backbone gives {feature_dim}"
        )


def _names(live: Sequence[str], snapshots: Sequence[Snapshot], became: Names, *, grow: bool) -> tuple[str, ...]:
    """The live head's classes in their order, then new ones that have rows, in order of appearance.

    A class that a person gave an example of may always be added; any other, if `grow`.
    """
    known, found = set(live), dict.fromkeys(live)
    given = {became.get(name, name) for one in snapshots if are_examples(one) for name in one.classes}
    for snapshot in snapshots:
        for old, count in zip(snapshot.classes, snapshot.counts(), strict=True):
            name = became.get(old, old)
            if count and name is not None:
                found[name] = None
    new = [name for name in found if name not in known and name not in given]
    if new and not grow:
        raise RefitError(f"classes unknown to the live head: {listed(new)}; set allow_new_classes to add them")
    return tuple(found)


def _without_rare(
    images: Images, names: tuple[str, ...], known: int, least: int
) -> tuple[Images, tuple[str, ...], list[str]]:
    """Leave out the new classes that have fewer than `least` images that can be used.

    Rows of another backbone can be if enough images are in both (`training.refit.transfer`).
    """
    able = images.reachable(PAIRS) & (images.labels >= 0)
    count = torch.bincount(images.labels[able], minlength=len(names))
    rare = (count < least) & (torch.arange(len(names)) >= known)
    if not rare.any():
        return images, names, []
    place = torch.cat([torch.where(rare, OTHER, (~rare).cumsum(0) - 1), torch.tensor([OTHER])])  # −1 stays −1
    gone = [name for name, out in zip(names, rare.tolist(), strict=True) if out]
    kept = tuple(name for name, out in zip(names, rare.tolist(), strict=True) if not out)
    note = f"new classes of fewer than {least} images that can be used are left out: {listed(gone)}; see min_examples"
    return images.renamed(place), kept, [note]


def _counts(bundle: Bundle, classes: Sequence[str], became: Names, labels: Tensor) -> NDArray[np.int64]:
    """Training images of each class (C,): the distinct images of all rows, or what the bundle knows if that is more."""
    known: dict[str | None, int] = {}
    for name, count in zip(bundle.manifest.classes, bundle.manifest.train_counts, strict=True):
        known[became.get(name, name)] = known.get(became.get(name, name), 0) + count
    seen = torch.bincount(labels[labels >= 0], minlength=len(classes)).numpy()
    least = np.array([known.get(name, 1) or 1 for name in classes], np.int64)
    return np.where(seen > least, seen, least)


def _later(bundle: Bundle, classes: Sequence[str], became: Names, known: int) -> tuple[bool, ...]:
    """Whether each class (C,) is new to the live head, or none of the bundle's, as those are called now."""
    own = {became.get(name, name) for name in bundle.manifest.classes}
    return tuple(c >= known or name not in own for c, name in enumerate(classes))


def _check_holdout(holdout: Snapshot, place: Mapping[str, int]) -> None:
    counts = zip(holdout.classes, holdout.counts(), strict=True)
    unknown = [name for name, count in counts if count and name not in place]
    if unknown:
        raise RefitError(
            f"the hold-out has rows of classes that neither the live head nor the snapshots have: {listed(unknown)}"
        )


def _moved(base: Rows, images: Images, fit: Tensor, classes: Sequence[str]) -> list[str]:
    """Tell the classes whose new images have a mean that sampling error does not explain.

    The new images' mean m of n rows and the stored ones' m' of N' differ, if both are of one class, by about
    s √(1/n + 1/N'), with s² the class's mean squared distance from its mean.
    """
    mine = base.take(fit[base.images] & (base.labels >= 0))
    new = ~images.stored[mine.images]
    if not new.any() or new.all():
        return []
    old, fresh = mine.take(~new), mine.take(new)
    have = torch.isin(old.labels, fresh.labels)
    old = old.take(have)
    if not len(old):
        return []
    z = old.features
    before, count = class_means(z, old.labels, len(classes))
    after, fresh_count = class_means(fresh.features, fresh.labels, len(classes))
    spread = torch.zeros(len(classes)).index_add_(0, old.labels, (z - before[old.labels]).square().sum(1))
    spread = spread / (count - 1).clamp(min=1)  # s² (C,)
    error = spread * (1 / fresh_count.clamp(min=1) + 1 / count.clamp(min=1))
    ratio = ((after - before).square().sum(1) / error.clamp(min=1e-30)).sqrt()
    far = ((count > 1) & (fresh_count > 0) & (ratio > FAR)).nonzero().squeeze(1).tolist()
    worst = sorted(far, key=lambda c: -float(ratio[c]))[:MOVED]
    return [f"class {classes[c]} moved by {float(ratio[c]):.0f} σ on {_rows(int(fresh_count[c]))}" for c in worst]


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"
