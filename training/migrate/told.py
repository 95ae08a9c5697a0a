"""What a migration tells of itself, as `models.refit_report` says it: the map, and what it kept, by group.

It knows nothing of how the report is shown.

Letters: N rows, C classes.
"""

from collections.abc import Sequence

import numpy as np

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.groups import GROUPS, Group, groups
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.refit_report import Fit, Kept, Migration
from breadcrumbs.training.metrics import evaluate
from breadcrumbs.training.migrate.division import Division
from breadcrumbs.training.migrate.held import Held
from breadcrumbs.training.migrate.map import Map


def migration(old: Bundle, line: Map, division: Division, gate: Held, kept: Held, head: LinearHead) -> Migration:
    """Return the migration's part of a refit's report.

    Args:
        old: the bundle whose rows moved.
        line: the map that moved them.
        division: what each row was used for.
        gate: what both heads were judged on.
        kept: what tells how much was kept.
        head: the new one.
    """
    class_groups = groups(old.manifest.train_counts, old.manifest.groups)
    return Migration(
        backbone=old.backbone_digest,
        pairs=line.pairs,
        judged_pairs=len(gate.rows.labels) if gate.what == "labelled pairs" else 0,
        map=line.family,
        families=line.families,
        explained=line.explained,
        curve=[Fit(pairs=point.pairs, explained=point.explained) for point in line.curve],
        further_hundred=line.further,
        forecast=line.forecast,
        mapped=_by_group(division, class_groups),
        seen=sum(len(look.labels) for look in division.seen),
        kept_on=kept.what,
        kept_rows=len(kept.rows.labels),
        kept=_kept(kept, head, class_groups),
    )


def _by_group(division: Division, class_groups: Sequence[Group]) -> dict[str, int]:
    counts = np.sum([look.counts() for look in division.mapped], axis=0)  # (C,)
    own = np.array(class_groups)
    return {group: int(counts[own == group].sum()) for group in GROUPS if group in class_groups}


def _kept(kept: Held, head: LinearHead, class_groups: Sequence[Group]) -> dict[str, Kept]:
    labels = kept.rows.labels
    before = evaluate(kept.answers, labels, class_groups).as_dict()
    after = evaluate(head.logits(np.asarray(kept.rows.features, np.float32)), labels, class_groups).as_dict()
    return {
        name: Kept(old=before[name], new=after[name])
        for name in ("balanced", *GROUPS)
        if before[name] is not None and after[name] is not None
    }


def lines(part: Migration) -> list[str]:
    """Return what is printed of a migration, a sentence or a row each."""
    tried = ", ".join(f"{name} {100 * share:.1f} %" for name, share in part.families.items())
    curve = ", ".join(f"{100 * fit.explained:.1f} % from {fit.pairs}" for fit in part.curve)
    rows = ", ".join(f"{count} {group}" for group, count in part.mapped.items())
    found = [
        f"map: {part.map}, fitted to {part.pairs} pairs; variance explained out of fold: {tried}",
        f"by number of pairs: {curve}",
        part.forecast,
        f"mapped rows: {rows}; rows that the new backbone saw: {part.seen} fitted, {part.judged_pairs} judged on",
        f"recall kept, on {part.kept_rows} rows ({part.kept_on}), old head -> new head:",
    ]
    return found + [f"  {name}: {100 * one.old:.1f} % -> {100 * one.new:.1f} %" for name, one in part.kept.items()]
