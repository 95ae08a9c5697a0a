"""The deployment prior: how frequent the classes are where a head will answer, as log π (C,).

    uniform     all are equally frequent: nothing is added, and what the head says is the evidence of the image alone
    training    as they are among the images that were fitted
    weights     as a person says, of every class

It is added after the temperature (`training.temperature`). It knows nothing of a server's stored priors: the server
puts their weights into the spec.

Letters: C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from breadcrumbs.models.prior import Prior, PriorError
from breadcrumbs.training.config import PRIORS, RefitSpec
from breadcrumbs.training.refit.rows import RefitError


def check_deployment(spec: RefitSpec, classes: Sequence[str]) -> None:
    """Refuse a deployment prior that these classes cannot have, before anything is fitted: as `log_deployment`."""
    log_deployment(spec, classes, torch.zeros(len(classes)))


def log_deployment(spec: RefitSpec, classes: Sequence[str], log_training: Tensor) -> Tensor | None:
    """Return log π (C,) of the deployment prior. None means that all classes are equally frequent.

    Args:
        spec: says which.
        classes: C names.
        log_training: log π (C,) of the images that are fitted.

    Raises:
        RefitError: a class has no weight, or the prior is one of a store.
    """
    wanted = spec.deployment_prior or "uniform"
    if isinstance(wanted, str):
        if wanted not in PRIORS:
            raise RefitError(
                f"deployment_prior {wanted!r:.80} is a prior in a server's store, if there is one; expected uniform, "
                "training, or the weight of each class"
            )
        return log_training if wanted == "training" else None
    try:
        return torch.from_numpy(Prior(wanted).of_every(classes, {**spec.aliases, **spec.classes}))
    except PriorError as error:
        raise RefitError(f"deployment_prior: {error}") from error
