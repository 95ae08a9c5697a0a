"""What runs beside the requests of a server that remembers answers and keeps examples.

It writes what came each second, and about once a minute it removes what is over the bounds, merges segments, indexes
them, and finishes removals. It knows nothing of what is in them.
"""

import asyncio
import logging
import random
from functools import partial

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.learning.answers import Answers
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.learning.removal import Removal
from breadcrumbs.serving.learning.worth import measure
from breadcrumbs.serving.state.store import StoreError

LOG = logging.getLogger("breadcrumbs.answers")
PAUSE = 1.0
"""Seconds between two writes."""
KEEPING = 60
"""Writes between two times of keeping; each server begins at a time of its own."""


async def run(answers: Answers, examples: Examples, removal: Removal, bundle: Bundle) -> None:
    """Write and keep until it is cancelled; an error of the store is logged once, and all is tried again."""
    # so that servers on one store do not merge the same segments at the same time
    left = random.randint(1, KEEPING)
    failing = False
    while True:
        await asyncio.sleep(PAUSE)
        left -= 1
        try:
            await answers.flush(PAUSE / 2)
            if not left:
                await answers.keep(measure=partial(measure, examples, bundle))
                await examples.keep()
                await removal.finish()
            failing = False
        except StoreError as error:
            if not failing:  # a disk that is full for hours is one line
                LOG.warning("answers and examples are not kept, which is tried again each second: %s", error)
            failing = True
        except Exception:
            LOG.exception("answers and examples: an unexpected error; this is a bug")
        left = left or KEEPING
