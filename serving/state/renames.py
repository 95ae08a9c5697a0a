"""What refits made of the names of classes: under which name a head knows what was called otherwise before.

It is in the lineage of each head, which never changes, and is read once. It knows nothing of priors or taxonomies,
which may have the old names.
"""

import logging
from collections import OrderedDict
from collections.abc import Mapping

from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.store import Store, StoreError

LOG = logging.getLogger("breadcrumbs.heads")
CACHE = 64
"""Heads whose names are kept in memory."""

Became = Mapping[str, str | None]
"""New names by old ones; None: there is no such class any more."""


class Renames:
    """The renames of the heads in a store.

    Args:
        store: where the heads are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[int, Became] = OrderedDict()

    async def of(self, version: int) -> Became:
        """Return what old names became in a head; nothing, for a while, if its record cannot be read."""
        if version not in self._known:
            try:
                spec = (await heads.record(self._store, version)).lineage.spec
            except StoreError as error:
                LOG.warning("renamed classes of head %d are not known: %s", version, error)
                return {}
            self._known[version] = {**spec.get("aliases", {}), **spec.get("classes", {})}
            if len(self._known) > CACHE:
                self._known.popitem(last=False)
        return self._known[version]
