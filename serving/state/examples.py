"""Examples in the store: what people said the class of an image is, as rows for refits.

It knows nothing of HTTP, or of what a refit does with them.

Letters: D feature dimensions.
"""

from dataclasses import dataclass
from datetime import datetime

from breadcrumbs.models.arrays import Floats
from breadcrumbs.serving.state.store import Store


@dataclass(frozen=True, eq=False)
class Example:
    """The newest label of one thing.

    Attributes:
        id: of the thing, 32 hex digits: the same after every relabelling.
        feature: f32 (D,), finite.
        label: name of the class; the live head need not know it.
        by: who said so, in the words of the one who sent it.
        verified: whether somebody vouches for it.
        at: when the newest label came, UTC.
        source: `answer:<id>`, `image:<sha256>` or `feature:<sha256>`: how it came.
        content: sha256 of the image file, or of the feature: equal for the same image, whoever labelled it.
        ref: the sender's own name for it; may be empty.
        backbone: sha256 of what made the feature: the name of its space.
        owner: name of the key that it belongs to. None means that it came without one.
    """

    id: str
    feature: Floats
    label: str
    by: str
    verified: bool
    at: datetime
    source: str
    content: str
    ref: str
    backbone: str
    owner: str | None


class Examples:
    """The examples of a store, of all servers on it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def current(self, *, verified: bool | None = None) -> list[Example]:
        """Return the newest label of each thing, without what was removed, by id.

        Args:
            verified: only those that are, or are not. None means all.

        Raises:
            StoreError: the store cannot be read, or a segment in it is damaged.
        """
        raise NotImplementedError
