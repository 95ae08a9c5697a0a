"""A whole refit report of made-up heads, without a refit."""

from dataclasses import asdict
from typing import Any

import numpy as np

from breadcrumbs.models.groups import groups
from breadcrumbs.models.refit_report import RefitReport
from breadcrumbs.training.calibration import compared
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.metrics import as_json
from breadcrumbs.training.pairs import pairs
from breadcrumbs.training.refit import facts
from breadcrumbs.training.refit.gate import comparison, judged

NAMES = ("<script>alert(1)</script>", "$x_{1}$", "a & b", 'say "hi"', "plain")
ENDS, MAPPED = ("value", "low", "high"), (0.125, 0.03, 0.22)


def told(classes: int = 5, per_class: int = 8, **change: Any) -> RefitReport:
    """The report of two random heads; class 0 is the largest, and the candidate is better on the tail."""
    rng = np.random.default_rng(0)
    counts = np.maximum(400 // (np.arange(classes) + 1), 2).astype(np.int64)
    own = groups(counts.tolist(), "A")
    labels = np.repeat(np.arange(classes), per_class)
    live = rng.normal(size=(len(labels), classes)) + 2.5 * np.eye(classes)[labels]
    candidate = live + np.linspace(-0.8, 0.8, classes) + 0.3 * rng.normal(size=live.shape)
    names = NAMES if classes == len(NAMES) else tuple(f"class {i}" for i in range(classes))
    measured = comparison(live, candidate, labels, own, 0)
    verdict = judged(pairs(live, candidate, labels), own, names, classes - 1, 0.01, 5)
    evidence = [
        {"name": name, "n": 4, "loss": 1.0, "augmented_loss": 1.2, "gain": 0.1 * i, "bound": 0.2, "held": i >= 2}
        | {"floor": 0.5}
        for i, name in enumerate(names)
    ]
    trace = [
        {"l2": l2, "iteration": 10 * i, "gradient_norm": 10.0**-i, "objective": 1 / (1 + i)}
        for l2 in (1e-2, 1e-3, 1e-2)
        for i in range(3)
    ]
    found = {
        "origin": {"bundle": "birds", "backbone": "0" * 64, "live": "1" * 64, "candidate": "2" * 64},
        "spec": RefitSpec().model_dump(mode="json"),
        "snapshots": [{"epoch": 38, "rows": 99, "deployed_backbone": True}],
        "classes": facts.classes(names, classes - 1, counts, own),
        "pool": {"rows": [9] * classes, "moved": [3] * classes},
        "transfer": [
            {
                "looks": "looks of other backbones",
                "chosen": "map",
                "ways": {
                    "leave out": {"balanced": 0.5, "classes": classes, "change": dict.fromkeys(ENDS, 0.0)},
                    "map": {"balanced": 0.625, "classes": classes, "change": dict(zip(ENDS, MAPPED, strict=True))},
                },
            }
        ],
        "members": [
            {"member": "plain", "penalty": 1e-2, "prior_offset": 0.25, "share": 0.75, "score": 0.7},
            {"member": "balanced", "penalty": 1e-3, "prior_offset": 1.5, "share": 0.25, "score": 0.65},
        ],
        "solver": {"objective": 0.3, "gradient_norm": 1e-2, "gap_bound": 1e-4, "iterations": 20, "converged": True}
        | {"trace": trace},
        "holdout": {"source": "snapshot", "groups": "A"},
        **measured,
        "gate": asdict(verdict.gate),
        "difference": as_json(verdict.difference),
        "change": [one and asdict(one) for one in verdict.change],
        "new_classes": [{**asdict(one), "images": 9} for one in verdict.new_classes],
        "notes": ["class <b>elm</b> moved by 14 σ on 1 row"],
        "baselines": {"plain": {"l2": 1e-3, "tau": None, "prior_offset": 0.5, **measured["live"]}},
        "calibration": {
            "temperature": {"value": 1.25, "low": 1.1, "high": 1.5},
            "fitted_rows": 321,
            "effective_rows": 300.5,
            "prior": "training",
            "groups": compared(1.25 * candidate, candidate, labels, own, counts / counts.sum()),
        },
        "rejection": {
            "rows": 321,
            "one": {"all": 0.05, "many": 0.01, "medium": 0.04, "few": 0.18},
            "by_group": {"all": 0.05, "many": 0.03, "medium": 0.05, "few": 0.08},
            "by_class": {"all": 0.05, "many": None, "medium": 0.06, "few": 0.07},
        },
        "certificate": {"epoch": 2, "older_epoch": 1, "bound_held_share": 0.6, "head": "one", "classes": evidence},
    }
    return facts.complete(found | change, live, candidate, labels)
