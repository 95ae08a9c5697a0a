"""What surrounds a server and is not its own: memory, the store's file system, the clock, proxies.

It knows nothing of how findings are printed, and leaves nothing behind.
"""

import errno
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.images.budget import Budget
from breadcrumbs.models.machine import cores, memory
from breadcrumbs.serving.setting_names import both
from breadcrumbs.serving.settings import Settings
from breadcrumbs.serving.state.store import Store

GIB = 2**30
PIXEL = 8
"""Bytes of memory, at least, for each pixel of an image that is decoded."""
AHEAD = 60
"""Seconds that two clocks may differ."""
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""How a file system says that it has no hard links."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: how it is, in words, and what to do about it."""

    name: str
    state: Literal["good", "note", "bad"]
    text: str
    remedy: str = ""


def machine(settings: Settings) -> Finding:
    """Cores and memory, and whether what images and refits may take is there."""
    there, decoding = memory(), Budget(settings.decode_memory).size
    text = f"{cores()} cores and {there / GIB:.1f} GiB of memory, {decoding / GIB:.1f} GiB of it to decode images"
    for name in ("decode_memory", "refit_memory"):
        if getattr(settings, name) > there:
            told = f"{text}; {name} is {getattr(settings, name) / GIB:.1f} GiB, more than there is"
            return Finding("machine", "bad", told, f"lower {both(name)}, or leave it out")
    if settings.max_pixels * PIXEL > decoding:
        most = decoding // PIXEL / 1e6
        told = f"{text}, which is enough for about {most:.0f} million pixels; max_pixels is {settings.max_pixels}"
        return Finding("machine", "note", told, f"larger images are refused; raise {both('decode_memory')} for them")
    return Finding("machine", "good", text)


def links(folder: Path) -> str:
    """Return why no file in a folder can have a second name, by which a store writes whole or not at all.

    Empty: it can, or the folder cannot be written, which is another finding.
    """
    first = folder / f"doctor-{secrets.token_hex(4)}"
    second = first.with_suffix(".link")
    try:
        first.touch()
        os.link(first, second)
    except OSError as error:
        return f"{error.strerror or error}" if error.errno in NO_LINKS else ""
    finally:
        for path in (first, second):
            path.unlink(missing_ok=True)
    return ""


async def clock(settings: Settings) -> Finding:
    """This machine's clock beside the times at which heads went live in the store."""
    now = datetime.now(UTC)
    try:
        written = [item.written for item in await Store.open(settings.store).items("activations/")]
    except BreadcrumbsError:
        return Finding("clock", "note", f"{now:%Y-%m-%d %H:%M:%S} UTC, not compared: the store cannot be read")
    ahead = (max(written, default=now) - now).total_seconds()
    if ahead > AHEAD:
        text = f"{now:%Y-%m-%d %H:%M:%S} UTC here, and the store was written {ahead:.0f} s later than that"
        return Finding("clock", "bad", f"{text}: labels and answers are ordered by time", "set the clock, by NTP")
    return Finding("clock", "good", f"{now:%Y-%m-%d %H:%M:%S} UTC, and nothing in the store is later")


def proxies() -> Finding:
    """The proxies of the environment, through which commands, clients, hubs and buckets are asked."""
    found = {kind: url for kind, url in getproxies().items() if kind in {"http", "https", "all"}}
    if not found:
        return Finding("proxies", "good", "none in the environment")
    told = ", ".join(f"{kind.upper()}_PROXY = {urlsplit(url).hostname or '?'}" for kind, url in sorted(found.items()))
    if not all(map(proxy_bypass, ("localhost", "127.0.0.1"))):
        text = f"{told}: our commands ask a server on this machine through it, too"
        return Finding("proxies", "note", text, "set NO_PROXY=localhost,127.0.0.1")
    return Finding("proxies", "good", f"{told}; not for this machine")
