"""The watched images: a share of the training images that nothing learns from, on which the epochs are compared.

They say which epoch is the best so far and when to stop. Test images have no part in this. It knows nothing of
networks' insides, of losses or of files.

Letters: N training images, C classes.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from breadcrumbs.training.data.split import Split

SHARE = 0.1
"""Of each class's training images."""
FEWEST = 10
"""Training images of a class; one with fewer keeps all of them."""
MOST = 50
"""Watched images of a class."""
MARGIN = 1e-3
"""Balanced accuracy by which a better epoch is better."""


def divided(train: Split, classes: int, seed: int) -> tuple[Split, Split] | None:
    """Divide training images into those that are learned from and those that are watched, drawn per class.

    Args:
        train: the training images (N,).
        classes: C.
        seed: of the draw.

    Returns:
        Both parts; None if fewer than half of the classes, or fewer than two, have images to spare: a balanced
        accuracy over the others would say little.
    """
    chance = np.random.default_rng(seed)
    watched = np.zeros(len(train), bool)
    for label in range(classes):
        own = chance.permutation(np.flatnonzero(train.labels == label))
        count = min(MOST, max(1, round(SHARE * len(own)))) if len(own) >= FEWEST else 0
        watched[own[:count]] = True
    seen = len(np.unique(train.labels[watched]))
    if seen < max(2, classes / 2):
        return None
    return train.take(np.flatnonzero(~watched)), train.take(np.flatnonzero(watched))


@dataclass(eq=False)
class Watch:
    """The comparison of a run's epochs.

    Attributes:
        split: the watched images.
        patience: epochs without a better one after which training stops.
        scores: balanced accuracy on the watched images after each epoch, by its number; 0 is the frozen start.
        weights: of the whole network at the best epoch, on the CPU.
        features: f32 (W, D) of the watched images, if the network is frozen and they are kept.
    """

    split: Split
    patience: int
    scores: dict[int, float] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    features: Tensor | None = None

    @property
    def best(self) -> int:
        """The best epoch: the first that no later one beats by more than the margin; 0 before there is any."""
        best = min(self.scores, default=0)
        for epoch, score in self.scores.items():
            if score > self.scores[best] + MARGIN:
                best = epoch
        return best

    @property
    def last(self) -> int:
        """The newest epoch."""
        return max(self.scores, default=0)

    @property
    def stopped(self) -> bool:
        """Whether so many epochs were not better that training ends."""
        return self.last - self.best >= self.patience

    def add(self, epoch: int, score: float, network: nn.Module) -> None:
        """Add an epoch's balanced accuracy, and keep the network's weights if it is the best."""
        self.scores[epoch] = score
        if self.best == epoch:
            self.weights = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}

    def verdict(self) -> str:
        """Say which epoch is exported, and what the frozen start would have been, in one sentence."""
        on = f"balanced accuracy on {len(self.split)} watched training images"
        start, trained = self.scores.get(0), [epoch for epoch in self.scores if epoch > 0]
        if not trained:
            return f"no epoch was trained: the frozen start is exported, with {_percent(start)} {on}"
        if self.best == 0 and start is not None:
            top = max(trained, key=lambda epoch: self.scores[epoch])
            better = "better than" if start > self.scores[top] + MARGIN else "as good as"
            return (
                f"the frozen start was {better} {_epochs(len(trained))} of training: {_percent(start)} {on}, "
                f"{_percent(self.scores[top])} after epoch {top}, the best of them; the frozen start is exported"
            )
        beside = "" if start is None else f", {_percent(start)} at the frozen start"
        return (
            f"epoch {self.best} of {self.last} was the best: {_percent(self.scores[self.best])} {on}{beside}; "
            "it is exported"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON's own types."""
        return {
            "images": len(self.split),
            "classes": len(np.unique(self.split.labels)),
            "exported_epoch": self.best,
            "by_epoch": {str(epoch): score for epoch, score in self.scores.items()},
            "verdict": self.verdict(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on after the last epoch."""
        return {"scores": self.scores, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.scores = dict(state["scores"])
        self.weights = {name: torch.as_tensor(value).cpu() for name, value in state["weights"].items()}


def _percent(score: float | None) -> str:
    return "–" if score is None else f"{100 * score:.1f} %"


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"
