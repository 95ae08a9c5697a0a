"""How each further look is brought to the deployed backbone's rows, chosen by cross-validation.

Further looks of the deployed backbone and looks of other backbones are two questions. Each way is tried with one plain
head, and the one that is best on images left out is used. A way that leaves a class without rows is used only if every
way does. It knows nothing of the head that is fitted in the end.

Letters: C classes, I images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from breadcrumbs.models.printable import listed
from breadcrumbs.training.config import RefitDevice, RefitSpec
from breadcrumbs.training.pairs import pairs
from breadcrumbs.training.refit.material import Material
from breadcrumbs.training.refit.offset import likeliest_offset
from breadcrumbs.training.refit.pool import Pool, pooled
from breadcrumbs.training.refit.rows import Rows
from breadcrumbs.training.refit.transfer import Mode, modes_for, moved
from breadcrumbs.training.refit.validation import Hear, Validation, folds_of, sample_of

PENALTY = 1e-3  # of the plain head that the ways are tried with
KINDS = (True, False)
NAMES = {True: "further looks of the deployed backbone", False: "looks of other backbones"}

Modes = dict[bool, Mode]


@dataclass(frozen=True, eq=False)
class Looks:
    """How looks are moved: of the deployed backbone (True) and of others (False).

    Attributes:
        material: has them.
        modes: the way of each kind.
        spec: has the paper's cut and the seed.
        folds: bool (I,) each.
        tried: for the report, every way with what it gave.
        scale: of what the classes' names say; 0: nothing.
    """

    material: Material
    modes: Modes
    spec: RefitSpec
    folds: Sequence[Tensor]
    tried: list[dict[str, Any]] = field(default_factory=list)
    scale: float = 0.0

    @property
    def toward(self) -> Tensor | None:
        """W₀ (C, D), where the names of the classes let a head begin; None: at 0."""
        named = self.material.named
        return None if named is None or not self.scale else self.scale * named

    def pool(self, usable: Tensor) -> Pool:
        """The rows of some images (I,), moved by what these images show."""
        own = self.material
        moves = [moved(look, own.base, usable, self.modes[look.present], len(own.classes)) for look in own.crumbs]
        found = pooled(own.base, [m for m in moves if m is not None], usable, self.spec.target, self.spec.seed)
        return replace(found, toward=self.toward)

    def without_rows(self, pool: Pool) -> list[str]:
        """What a reader should know of classes that have no row in the pool of everything, a sentence each."""
        own = self.material
        have = torch.bincount(pool.labels, minlength=len(own.classes)) > 0
        labels = own.images.labels[own.fit]
        images = torch.bincount(labels[labels >= 0], minlength=len(own.classes)) > 0
        named = torch.zeros_like(have) if self.toward is None else self.toward.any(1)
        lost, by_name, ghosts = (
            [own.classes[c] for c in mask.nonzero().squeeze(1).tolist()]
            for mask in (images & ~have, ~images & ~have & named, ~images & ~have & ~named)
        )
        notes = []
        if lost:
            notes.append(f"rows of other backbones could not be moved, so these classes have none: {listed(lost)}")
        if by_name:
            notes.append(f"classes without any image, which are known by their names alone: {listed(by_name)}")
        if ghosts:
            notes.append(f"classes without any row, which are never predicted: {listed(ghosts)}")
        return notes

    def validation(self, max_memory: int, device: RefitDevice, hear: Hear) -> Validation:
        """Heads fitted without each fold; `hear` is told of the solver's passes."""
        own = self.material
        sample, share = sample_of(own.base, own.fit, len(own.classes))

        def pool(images: Tensor) -> Pool:
            return self.pool(images & sample)

        return Validation(own.base, own.fit, self.folds, pool, len(own.classes), max_memory, device, share, hear)


def chosen_looks(material: Material, spec: RefitSpec, device: RefitDevice, hear: Hear) -> Looks:
    """Choose how further looks are moved, or take what the spec says."""
    folds = folds_of(material.base, material.fit, len(material.classes), spec.seed)
    modes: Modes = {True: "leave out", False: "leave out"}
    tried = []
    for kind in KINDS:
        own = [look for look in material.crumbs if look.present == kind]
        options = _options(own, material.base)
        if spec.transfer != "auto":
            modes[kind] = spec.transfer
        elif len(options) > 1:
            found = {mode: _try(Looks(material, modes | {kind: mode}, spec, folds), device, hear) for mode in options}
            modes[kind], told = _best(found, material, spec.min_rows)
            tried.append({"looks": NAMES[kind], "chosen": modes[kind], "ways": told})
    return Looks(material, modes, spec, folds, tried)


def _options(looks: Sequence[Rows], base: Rows) -> list[Mode]:
    return list(dict.fromkeys(mode for look in looks for mode in modes_for(look, base)))


@dataclass(frozen=True, eq=False)
class _Tried:
    """What a way gave: the classes with rows, the score, and logits (N, C) and labels (N,) of the scored rows."""

    classes: int
    score: float
    logits: Tensor
    labels: Tensor


def _try(looks: Looks, device: RefitDevice, hear: Hear) -> _Tried:
    pool = looks.pool(looks.material.fit)
    count = len(looks.material.classes)
    have = int((torch.bincount(pool.labels) > 0).sum())
    scored = any(fold.any() for fold in looks.folds)
    if not scored or not len(pool):
        return _Tried(have, 0.0, torch.zeros(0, count), torch.zeros(0, dtype=torch.int64))
    log_prior = pool.log_prior(count)
    validation = looks.validation(looks.spec.max_memory, device, hear)
    logits, _ = validation.logits("plain", PENALTY)
    t, score = likeliest_offset(logits, validation.labels, log_prior, None)
    return _Tried(have, score, logits - t * log_prior, validation.labels)


def _best(found: dict[Mode, _Tried], material: Material, rows: int) -> tuple[Mode, dict[str, dict[str, Any]]]:
    """Return the way with the best score, of equals the simplest; and what is told of each way.

    Fewer scored rows than `rows` do not tell the ways apart. Then it is a map, which is learned of pairs, or nothing.
    """
    if max(len(one.labels) for one in found.values()) < rows:
        return "map" if "map" in found and found["map"].classes else "leave out", {}
    most = max(one.classes for one in found.values())
    able = [mode for mode, one in found.items() if one.classes == most]
    best = max(able, key=lambda mode: found[mode].score)  # of equals max takes the first, the simplest
    without = found["leave out"]
    told: dict[str, dict[str, Any]] = {}
    for mode, one in found.items():
        both = pairs(without.logits.numpy(), one.logits.numpy(), one.labels.numpy())
        change = both.difference(material.groups)["balanced"]
        told[mode] = {"balanced": one.score, "classes": one.classes, "change": vars(change)}
    return best, told
