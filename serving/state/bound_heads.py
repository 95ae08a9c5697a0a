"""Heads of the store on the device, each once however many lines have it live.

A head in use stays; of the others, those asked for last. It knows nothing of what is live.
"""

from collections import OrderedDict
from weakref import WeakValueDictionary

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.head import LinearHead
from breadcrumbs.serving.predict.engine import BoundHead, Engine
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.heads import HeadRecord
from breadcrumbs.serving.state.store import Conflict, Store

CACHE = 8
"""Heads kept on the device besides those in use, for requests that name a version."""


async def sound(store: Store, bundle: Bundle, version: int) -> tuple[HeadRecord, LinearHead]:
    """Read a head that can serve with this bundle.

    Raises:
        NotFound: there is no such head.
        Conflict: it was fitted to another backbone.
        StoreError: it is damaged.
    """
    known, head = await heads.read(store, version)
    if known.backbone != bundle.backbone_digest:
        raise Conflict(
            f"head {version} was fitted to backbone {known.backbone[:12]}; this one is {bundle.backbone_digest[:12]}"
        )
    return known, head


class BoundHeads:
    """The heads of a store, ready to compute.

    Args:
        store: where they are.
        bundle: whose backbone they must fit.
        engine: that computes them.
    """

    def __init__(self, store: Store, bundle: Bundle, engine: Engine) -> None:
        self.store = store
        self.bundle = bundle
        self._engine = engine
        self._in_use: WeakValueDictionary[int, BoundHead] = WeakValueDictionary()
        self._recent: OrderedDict[int, BoundHead] = OrderedDict()
        self._in_use[engine.live.version] = engine.live

    def bind(self, version: int, head: LinearHead) -> BoundHead:
        """Return a head that was read, ready to compute.

        Raises:
            EngineError: it takes features of another dimension.
        """
        known = self._in_use.get(version)
        if known is None or known.head.digest != head.digest:
            known = self._in_use[version] = self._engine.bind(version, head)
        return known

    async def named(self, version: int) -> BoundHead:
        """Return a version, ready to compute; it is read only if it is not here. Raises as `sound` and `bind`."""
        found = self._in_use.get(version)
        if found is None:
            _, head = await sound(self.store, self.bundle, version)
            found = self.bind(version, head)
        self._recent[version] = found
        self._recent.move_to_end(version)
        if len(self._recent) > CACHE:
            self._recent.popitem(last=False)
        return found
