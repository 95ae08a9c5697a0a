"""How often the gate says yes, over drawn heads: better ones, equal ones, and equal ones with a ruined class.

    python benchmarks/gate.py [--draws 200] [--classes 10 100 1000 10000] [--seed 0]

Rows of a class: 5 to 50, or 5. Recall of the live head is 0.75; the candidate loses a tenth of the rows and gains a
tenth, or 2 or 5 points more. A ruined class has 20 rows, of which the live head had 90 % right and the candidate has
10 %, each on its own. `lost` is the share of draws in which a class is named as lost. Beside it, in how many the
ruined class would be with Holm's and with Benjamini and Hochberg's correction for all C classes, on the same tests.
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.groups import Group
from breadcrumbs.training.pairs import CHANCE, Pairs
from breadcrumbs.training.refit.gate import judged

HEADS = {"2 points better": (0.02, False), "5 points better": (0.05, False), "equal": (0.0, False)} | {
    "equal, one class ruined": (0.0, True)
}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print("| classes | rows of each | candidate | yes | lost | with Holm | with BH |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for classes in given.classes:
        for most in (50, 5):
            for name, (gain, ruined) in HEADS.items():
                rng = np.random.default_rng(given.seed)
                found = np.mean([tried(drawn(rng, classes, most, gain, ruined)) for _ in range(given.draws)], axis=0)
                shares = " | ".join(f"{100 * share:.1f} %" for share in found)
                print(f"| {classes:,} | {'5' if most == 5 else f'5 to {most}'} | {name} | {shares} |", flush=True)


def drawn(rng: np.random.Generator, classes: int, most: int, gain: float, ruined: bool) -> Pairs:
    """The counts of a drawn head; class 0 is the ruined one."""
    rows = rng.integers(5, most + 1, classes)
    rows[0] = 20 if ruined else rows[0]
    kept, lost, gained, _ = rng.multinomial(rows, [0.65, 0.1, 0.1 + gain, 0.15 - gain]).T
    if ruined:
        before, after = rng.random(20) < 0.9, rng.random(20) < 0.1
        kept[0], lost[0], gained[0] = (before & after).sum(), (before & ~after).sum(), (after & ~before).sum()
    return Pairs(rows, kept + lost, gained, lost)


def tried(counts: Pairs) -> tuple[bool, bool, bool, bool]:
    """Whether the gate says yes, names a lost class, and whether either correction would find one."""
    classes = len(counts.rows)
    groups: list[Group] = ["few" if y % 5 else "many" for y in range(classes)]
    found = judged(counts, groups, [str(y) for y in range(classes)], classes, 0.01)
    chances: NDArray[np.float64] = np.sort(counts.chances())
    holm = chances[0] <= CHANCE / classes  # its first step
    hochberg = (chances <= CHANCE * np.arange(1, classes + 1) / classes).any()
    return found.gate.answer == "yes", bool(found.lost), bool(holm), bool(hochberg)


if __name__ == "__main__":
    main()
