"""Opens what collects pairs for a migration, as the settings say, and tells what it costs.

It knows nothing of requests, or of what is learned of pairs.
"""

import asyncio
import logging

from breadcrumbs.models.bundle import Bundle, BundleError
from breadcrumbs.models.bundle import read as read_bundle
from breadcrumbs.serving.predict.pairing import Pairing, SecondBackbone
from breadcrumbs.serving.setting_names import about
from breadcrumbs.serving.settings import Settings
from breadcrumbs.serving.state.pairs import Pairs
from breadcrumbs.serving.state.store import Store

LOG = logging.getLogger("breadcrumbs.pairs")


async def open_pairing(settings: Settings, bundle: Bundle, store: Store) -> Pairing | None:
    """Return what collects pairs with another bundle's backbone, if that was asked for.

    Raises:
        BundleError: one of both has no backbone, or both have the same one.
        EngineError: the other backbone does not run.
        StoreError: the store cannot be read.
    """
    if settings.migrate_to is None:
        return None
    with about("migrate_to"):
        bundle.check_backbone()
        other = await asyncio.to_thread(read_bundle, settings.migrate_to)
        if other.backbone_digest == bundle.backbone_digest:
            raise BundleError(f"{settings.migrate_to} has the backbone that serves; expected one with another backbone")
        backbone = await asyncio.to_thread(SecondBackbone, other, settings.max_pixels)
    pairs = Pairs(store, bundle.backbone_digest, other.backbone_digest, bundle.manifest.classes)
    have = await pairs.count()
    LOG.info(
        "pairs: %d of %d with %s, by a share of %g of the images; each takes about %.0f ms on one thread of the lowest "
        "priority", have, settings.migrate_pairs, settings.migrate_to, settings.migrate_share, 1e3 * backbone.seconds,
    )  # fmt: skip
    return Pairing(backbone, pairs.add, settings.migrate_share, settings.migrate_pairs, have)
