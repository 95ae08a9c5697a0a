"""Heads made without any gradient: from a trained head, or from features and labels.

    τ-normalised         Kang et al., Decoupling representation and classifier for long-tailed recognition, ICLR 2020
    nearest class mean   the same paper, and long before it
    logit-adjusted       Menon et al., Long-tail learning via logit adjustment, ICLR 2021

Each is a `LinearHead`, so it is stored, served and measured as any other. It knows nothing of hold-outs: what τ or t
should be is chosen in `training.refit.selection`.

Letters: N rows, D feature dimensions, C classes.
"""

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.head import LinearHead

NEVER = -1e9  # the logit of a class that is never predicted

Integers = NDArray[np.integer]


def tau_normalised(head: LinearHead, tau: float) -> LinearHead:
    """Divide each class's weight by its norm to the power τ: w_y / ‖w_y‖^τ, without a bias.

    A classifier trained on a long tail has larger weights for larger classes; τ = 1 makes them all alike, τ = 0 leaves
    them. The bias is dropped, as in the paper, so τ = 0 is the given head only where its bias is zero. A weight of zero
    stays zero.
    """
    weight = head.weight.astype(np.float64)  # (C, D)
    norm = np.linalg.norm(weight, axis=1, keepdims=True)  # ‖w_y‖ (C, 1)
    scaled = weight / np.where(norm > 0, norm, 1) ** tau  # w_y / ‖w_y‖^τ (C, D)
    return LinearHead(scaled.astype(np.float32), np.zeros(len(weight), np.float32), head.classes)


def nearest_class_mean(features: Floats, labels: Integers, classes: tuple[str, ...]) -> LinearHead:
    """Return the linear head that predicts the class whose mean μ_y is nearest to the feature.

    −½‖z − μ_y‖² = μ_y·z − ½‖μ_y‖² − ½‖z‖², and the last term is the same for every class: w_y = μ_y, b_y = −½‖μ_y‖².
    So its probabilities are those of one unit-variance Gaussian a class, with equal priors. The distance is Euclidean,
    on plain features. The paper's cosine variant on L2-normalised features is not offered: it is no linear head of the
    plain features.

    Args:
        features: (N, D).
        labels: (N,), indices into `classes`.
        classes: C names; one without rows has no mean and is never predicted.
    """
    counts = np.bincount(labels, minlength=len(classes))  # (C,)
    means = np.zeros((len(classes), features.shape[1]))  # μ (C, D)
    by_class = np.split(labels.argsort(kind="stable"), counts.cumsum()[:-1])  # the rows of each class
    for c, rows in enumerate(by_class):
        if len(rows):
            means[c] = features[rows].mean(0, dtype=np.float64)
    bias = np.where(counts > 0, -0.5 * (means**2).sum(1), NEVER)  # −½‖μ_y‖² (C,)
    return LinearHead(means.astype(np.float32), bias.astype(np.float32), classes)


def logit_adjusted(head: LinearHead, log_prior: NDArray[np.float64], t: float = 1.0) -> LinearHead:
    """Take t·log π_y from each class's logit, π being the training prior; log π is (C,).

    With t = 1 on a head that minimises the mean negative log-likelihood of the long-tailed rows, this **is** balanced
    softmax (Ren et al., NeurIPS 2020), fitted on the same features with a free bias: its loss is the negative
    log-likelihood of the logits Wz + b + log π, so the substitution b' = b + log π turns one problem into the other,
    any penalty on W alone included. There is therefore no balanced-softmax head beside this one. It would differ only
    where the bias is penalised or missing, or where the backbone is trained with the loss.
    """
    return LinearHead(head.weight, (head.bias - t * log_prior).astype(np.float32), head.classes)
