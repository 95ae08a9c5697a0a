"""What tests of the console share: how a tab is opened, how a server is filled, and what the keyboard reaches."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
from playwright.sync_api import Page
from refits import finish, until
from running import Serve
from tiny import picture, png, tiny_snapshot

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot

Open = Callable[..., Page]

LONG = "Rhopaloblaste-augusta-of-a-name-that-goes-on-for-as-long-as-nobody-breaks-it"
"""A class whose name is wider than a telephone."""

FOCUSED = """() => {
    const one = document.activeElement;
    const labels = [...one.labels ?? []].map((label) => label.textContent).join(" ");
    return one.ariaLabel ?? (labels || one.textContent).trim();
}"""


def snapshot_file(bundle: Bundle, names: tuple[str, ...], rows: tuple[int, ...], epoch: int = 5) -> bytes:
    """A snapshot with so many of its rows in each class."""
    drawn = tiny_snapshot(bundle.backbone_digest, epoch, sum(rows))
    labels = np.repeat(np.arange(len(names)), rows)
    return snapshots.to_bytes(Snapshot(drawn.features, labels, names, drawn.backbone, epoch))


@contextlib.contextmanager
def filled(serve: Serve, bundle: Bundle, folder: Path) -> Iterator[httpx.Client]:
    """A server with something of everything: heads, refits that succeeded and one that runs, snapshots, a long log."""
    go = folder / "go"
    go.touch()
    with serve("solves", str(go), remember=100, remember_images=True) as client:
        for place in range(3):
            image = {"content": png(picture(place)), "headers": {"content-type": "image/png"}}
            client.post("/v1/predict", params={"ref": f"{LONG}-{place}"}, **image).raise_for_status()
        client.put("/v1/snapshots", content=snapshots.to_bytes(tiny_snapshot("b" * 64, 4)))
        names, rows = ("oak", "elm", "Wollemia nobilis", LONG), (9, 4, 2, 2)
        sha = client.put("/v1/snapshots", content=snapshot_file(bundle, names, rows)).json()["sha256"]
        finish(client, {"snapshots": [sha], "spec": {"activate": "never"}})
        finish(client, {"snapshots": [sha]})
        client.post("/v1/heads/2/activate", json={"reason": f"because of {LONG}"})
        go.unlink()
        until(client, client.post("/v1/refit", json={}).json()["id"], "solve")
        yield client
        go.touch()


def drop(page: Page, x: float, y: float, *files: Path) -> None:
    """What the browser itself does when files are dropped on it."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": data})


def tab_to(page: Page, name: str, key: str = "Tab") -> None:
    """Press Tab until what has the focus is called so."""
    seen = []
    for _ in range(60):
        page.keyboard.press(key)
        seen.append(page.evaluate(FOCUSED))
        if seen[-1].startswith(name):
            return
    raise AssertionError(f"{name!r} is not reached by {key}; what is: {dict.fromkeys(seen)}")
