"""The softmax loss over all rows, chunk by chunk, and the sums that its gradient and its bounds are made of.

It knows nothing of penalties or steps. No (N, C) array is made: a chunk's logits stay in the cache.

Letters: N rows, B rows of a chunk, D feature dimensions, C classes; ω_i, z_i, y_i the weight, features and label of
row i, and e_y the unit vector of class y.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from breadcrumbs.training.solver.rows import Profile, Source, chunks


@dataclass(frozen=True, eq=False)
class Sums:
    """One pass over all rows, with q_i = softmax(W (z_i − centre) + b).

    Attributes:
        loss: Σ ω_i · −log q_i,y_i.
        mass: Σ ω_i q_i (C,).
        residual: Σ ω_i (q_i − e_{y_i}) (z_i − centre)ᵀ (C, D).
        moments: Σ ω_i q_i (z_i − centre)ᵀ (C, D).
        entropy: Σ ω_i · −q_ic log q_ic of each class c (C,).
        lowest: the lowest log Σ_c exp(logit) of a row.
    """

    loss: float
    mass: Tensor
    residual: Tensor
    moments: Tensor
    entropy: Tensor
    lowest: float


def sums(source: Source, weight: Tensor, bias: Tensor, known: Profile, products: torch.dtype) -> Sums:
    """Make one pass at W (C, D), b (C,), with the two matrix products in the type `products`, all else in W's.

    The residual is summed directly. Where q is nearly e_y, a difference of two moments would lose its digits, in bf16
    all of them.
    """
    kind = weight.dtype
    w = weight.T.to(products)  # (D, C)
    loss = torch.zeros((), dtype=torch.float64, device=weight.device)
    lowest = torch.full((), torch.inf, dtype=kind, device=weight.device)
    mass = torch.zeros_like(bias)  # (C,)
    levels = torch.zeros_like(bias)  # Σ_i ω_i q_ic level_i (C,)
    residual = torch.zeros_like(weight)  # (C, D)
    for features, labels, weights in chunks(source, len(bias)):
        z = (features.to(kind) - known.centre).to(products)  # (B, D)
        omega = weights.to(kind)  # (B,)
        logits = (z @ w).to(kind).add_(bias)  # (B, C)
        own = logits.gather(1, labels.unsqueeze(1)).squeeze(1)  # w_y·z + b_y (B,)
        level = torch.logsumexp(logits, 1)  # (B,)
        loss += (omega * (level - own)).sum(dtype=torch.float64)  # −log q_y = level − own
        lowest = torch.minimum(lowest, level.min())
        omega_q = logits.sub_(level.unsqueeze(1)).exp_().mul_(omega.unsqueeze(1))  # ω q (B, C), in the logits' memory
        mass += omega_q.sum(0)
        levels += level @ omega_q
        difference = omega_q.scatter_add_(1, labels.unsqueeze(1), -omega.unsqueeze(1))  # ω (q − e_y) (B, C), in place
        residual += (difference.to(products).T @ z).to(kind)
    moments = known.moments + residual  # Σ ω_i e_{y_i} zᵀ + Σ ω_i (q_i − e_{y_i}) zᵀ
    # −log q_ic = level_i − w_c·z_i − b_c, so its mean under ω q follows from the sums above, without one of its own
    entropy = levels - (weight * moments).sum(1) - bias * mass
    return Sums(float(loss), mass, residual, moments, entropy, float(lowest))
