"""What the live head recognises of the reported photos, asked over HTTP. It knows nothing of how the head was made."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from breadcrumbs.demo.folder import DemoFailed
from breadcrumbs.demo.photos import NEW, Photos
from breadcrumbs.models.groups import GROUPS, groups
from breadcrumbs.serving.client.client import Client

REQUEST_IMAGES = 50

Recalls = dict[str, float]
"""Share of the reported photos that were recognised: of each group, of the new class, of all."""


@dataclass(frozen=True)
class Recognised:
    """What one head said of the reported photos.

    Attributes:
        head: its version.
        knows: whether the new class is one of its classes.
        recalls: of each group, of the new class, of all.
        new_as: the names that the new class's photos got, the most frequent first, and of how many.
    """

    head: int
    knows: bool
    recalls: Recalls
    new_as: dict[str, int]


def recognised(client: Client, photos: Photos) -> Recognised:
    """Ask the live head about every reported photo.

    Raises:
        DemoFailed: several heads answered.
    """
    heads, told = set[int](), list[str]()
    for first in range(0, len(photos.reported), REQUEST_IMAGES):
        some = photos.reported[first : first + REQUEST_IMAGES]
        answer = client.predict([photo.data for photo in some], top_k=1)
        heads.add(answer.head.version)
        told += [prediction.classes[0].name for prediction in answer.predictions]
    if len(heads) != 1:
        raise DemoFailed(f"heads {sorted(heads)} answered; expected one")
    said = [(name, photo.cls) for name, photo in zip(told, photos.reported, strict=True)]
    new_as = Counter(name for name, cls in said if cls == NEW)
    knows = any(one.known and one.name == NEW for one in client.classes().classes)
    return Recognised(heads.pop(), knows, _recalls(photos, told), dict(new_as.most_common()))


def _recalls(photos: Photos, told: list[str]) -> Recalls:
    group_of = dict(zip(photos.trained, groups(tuple(photos.trained.values()), "A"), strict=True))
    kind = np.array([group_of.get(photo.cls, NEW) for photo in photos.reported])
    hits = np.array([name == photo.cls for name, photo in zip(told, photos.reported, strict=True)])
    found = {name: float(hits[kind == name].mean()) for name in (*GROUPS, NEW) if (kind == name).any()}
    return {**found, "all": float(hits.mean())}
