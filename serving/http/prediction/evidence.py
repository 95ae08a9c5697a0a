"""What an answer tells of itself where that is asked: how well the feature is known, and the nearest stored rows.

It knows nothing of how either is computed, or of how requests are written: `/v1` and `/v2` give the same words.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import Request

from breadcrumbs.serving.http.access_control import check_owner, key_of
from breadcrumbs.serving.http.service import Service
from breadcrumbs.serving.learning.neighbours import Near, nearest
from breadcrumbs.serving.predict.inference import Outcome
from breadcrumbs.serving.refits.fitted_rows import Source
from breadcrumbs.serving.state.keys import Key

NEIGHBOURS = 20
"""Rows that an answer names at most."""


@dataclass(frozen=True)
class Evidence:
    """What is told of the answers of one request.

    Attributes:
        known: of each answer, 0 … 1; None: it was not asked for.
        nearest: of each answer the nearest rows, as JSON; None: they were not asked for.
        searched, of: rows that were searched, and that there are, of those that who asks may see.
    """

    known: list[float] | None = None
    nearest: list[list[dict[str, Any]]] | None = None
    searched: int = 0
    of: int = 0


NO_EVIDENCE = Evidence()
"""Of a request that asks for none."""


def may_see(key: Key | None, owners: Collection[str]) -> bool:
    """Whether who has a key may see single rows of these keys; rows of no key are for all that may refit."""
    return key is None or key.may("admin") or key.name in owners or (not owners and key.may("refit"))


def check_sees(request: Request, owners: Collection[str], what: str) -> None:
    """Refuse to tell single rows of what belongs to other keys.

    Raises:
        Forbidden: the request's key may not see them.
    """
    key = key_of(request)
    if not may_see(key, owners):
        check_owner(request, owners, what)


async def evidence(request: Request, service: Service, outcome: Outcome, *, known: bool, explain: int) -> Evidence:
    """Return what is told of the answers of a request.

    Args:
        request: whose key may see the rows or not.
        service: that answers.
        outcome: the answers, all of one head, whose rows count.
        known: whether it is asked how well the features are known.
        explain: rows of each answer; 0: none.

    Raises:
        Conflict: the head cannot tell how well features are known.
        Overloaded: too many explanations are under way.
        StoreError: the store cannot be read.
    """
    features = [scores.feature for scores in outcome.scores]
    version = outcome.head.version
    shares = await service.known.of(version, features) if known else None
    if not explain:
        return Evidence(shares)
    key = key_of(request)
    with service.explaining.enter(request.scope):
        rows = await service.fitted_rows.visible(version, lambda owners: may_see(key, owners))
        found = await asyncio.to_thread(nearest, rows.parts, np.stack(features), explain)
    told = [[_told(rows.sources[near.part], near) for near in some] for some in found]
    return Evidence(shares, told, sum(map(len, rows.parts)), rows.rows)


def _told(source: Source, near: Near) -> dict[str, Any]:
    """A row as JSON: its class and distance, and what it is."""
    place = int(np.flatnonzero(source.part.rows == near.row)[0])
    told: dict[str, Any] = {
        "class": source.classes[int(source.part.labels[place])], "distance": max(0.0, near.distance),
    }  # fmt: skip
    if source.said:
        said = source.said[near.row]
        return told | {
            "source": "example", "example": said.id, "ref": said.ref, "by": said.by, "verified": said.verified,
        }  # fmt: skip
    image = None if source.ids is None else int(source.ids[near.row])
    origin = {"source": "snapshot", "snapshot": source.snapshot} if source.snapshot else {"source": "bundle"}
    return told | origin | {"row": near.row, "image": image}
