"""Takes the pictures of the console in docs/img/: Chromium, and a server that does what they show.

    python docs/screenshots.py [--every FOLDER] [NAME …]

With `--every`, FOLDER gets each part of the console too, at 1280 and 375 pixels, in light and dark: to be looked at.

The demo bundle is served from a fresh store; snapshots are made of its test images and uploaded, a refit runs, heads go
live and back, images are asked for. Nothing in a picture is made up, so numbers and times differ from run to run. NAMEs
choose which pictures are kept; without one, all. It needs the development extras and the system's `chromium`.
"""

import argparse
import contextlib
import io
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, expect, sync_playwright

from breadcrumbs import Client
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.config import RefitSpec, TrainConfig
from breadcrumbs.training.data.dataset import Data, load

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "img"
BUNDLE = ROOT / "models" / "demo"
MOST_BYTES = 100_000
COLOURS = 64
DESKTOP, PHONE, WIDE = {"width": 1080, "height": 640}, {"width": 375, "height": 700}, {"width": 1280, "height": 800}
PARTS = ("try", "teach", "review", "classes", "heads", "refit", "health")
MARGIN = 20  # pixels below what a picture shows last
EPOCH = 38  # of what is made here, the bundle's newest being 37
REQUEST = 50  # images
LOAD_SECONDS = 90
REFIT_SECONDS = 600  # at most
expect.set_options(timeout=120_000)  # on a busy machine, too
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[str, Client]]:
    """The server of the demo bundle, on a free port: its address, and a client."""
    line = [sys.executable, "-m", "breadcrumbs", "serve", "--bundle", str(BUNDLE), "--store", str(folder / "store")]
    line += [
        "--port",
        "0",
        "--device",
        "cpu",
        "--access-log",
        "none",
        "--remember",
        "1000",
        "--remember-images",
        "--refit-cpu",
        "share",
    ]
    with subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        log = process.stderr
        try:
            found = next(one for text in log or () if (one := re.search(r"running on (http://\S+)", text)))
            threading.Thread(target=lambda: log and log.read(), daemon=True).start()
            with Client(found[1], timeout=60) as client:
                yield found[1], client
        finally:
            process.terminate()


class Camera:
    """Keeps pictures of a page, small.

    Args:
        wanted: their names; none: all.
    """

    def __init__(self, wanted: list[str]) -> None:
        self._wanted = wanted

    def take(self, page: Page, name: str, last: str, first: str = "html") -> None:
        """Keep what is shown from the top of what `first` selects down to the end of what `last` does."""
        if self._wanted and name not in self._wanted:
            return
        page.mouse.move(0, 0)
        start = page.locator(first).first.evaluate("one => one.getBoundingClientRect().top + scrollY")
        end = page.locator(last).last.evaluate("one => one.getBoundingClientRect().bottom + scrollY")
        top = max(0, start - MARGIN / 2)
        clip = {"x": 0, "y": top, "width": (page.viewport_size or DESKTOP)["width"], "height": end + MARGIN - top}
        data = page.screenshot(full_page=True, clip=clip, animations="disabled", caret="hide")  # type: ignore[arg-type]
        path = IMAGES / f"console-{name}.png"
        with Image.open(io.BytesIO(data)) as image:
            small = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        small.save(path, optimize=True)
        if path.stat().st_size > MOST_BYTES:
            sys.exit(f"{path.name} has {path.stat().st_size} bytes; the limit is {MOST_BYTES}")
        print(path.name, path.stat().st_size)  # noqa: T201


def image_file(data: Data, row: int) -> bytes:
    """A test image as a PNG."""
    file = io.BytesIO()
    Image.fromarray(data.test.image(row)).save(file, "PNG")
    return file.getvalue()


def make_snapshot(client: Client, data: Data, rows: NDArray[np.int64], path: Path) -> Path:
    """Write the features of some test images, as the server computes them."""
    answers = [
        client.features([image_file(data, row) for row in own])
        for own in np.split(rows, range(REQUEST, len(rows), REQUEST))
    ]
    features = np.concatenate([np.array(answer.features, np.float32) for answer in answers])
    snapshots.write(path, Snapshot(features, data.test.labels[rows], data.classes, answers[0].backbone, EPOCH))
    return path


def make_files(client: Client, data: Data, folder: Path) -> tuple[list[Path], Path]:
    """Snapshots to fit to, one of new images and one of the past, and another to compare on."""
    order = np.random.default_rng(0).permutation(len(data.test))
    own = [order[data.test.labels[order] == label] for label in range(len(data.classes))]
    new = np.concatenate([rows[: 90 // (label + 1)] for label, rows in enumerate(own)])
    held = np.concatenate([rows[-100:] for rows in own])
    march = make_snapshot(client, data, new, folder / "march.safetensors")
    old = Path(shutil.copy(BUNDLE / "snapshots/epoch-0036.safetensors", folder))
    return [old, march], make_snapshot(client, data, held, folder / "held-out.safetensors")


def refit(page: Page, camera: Camera, base: str, given: list[Path], held: Path) -> None:
    """Upload, look at what the checks found, start, watch, read."""
    page.goto(f"{base}/#refit")
    page.locator("input[type=file]").set_input_files([held, *given])
    expect(page.locator(".snapshot")).to_have_count(len(given) + 1)
    options = page.get_by_role("combobox", name="Compare on").locator("option").all_inner_texts()
    page.get_by_role("combobox", name="Compare on").select_option(
        index=[held.name in text for text in options].index(True)
    )
    page.get_by_label("Go live").select_option("never")
    for opened in page.locator(".snapshot details[open]").all()[:0:-1]:
        opened.locator("summary").click()
    camera.take(page, "refit", "main form")
    page.get_by_role("button", name="Start the refit").click()
    expect(page.locator(".job")).to_contain_text("The gate says", timeout=REFIT_SECONDS * 1000)
    camera.take(page, "result", ".told", ".told")
    page.get_by_role("link", name="Read the whole report").click()
    expect(page.frame_locator("#report").locator("img").first).to_be_visible()
    page.set_viewport_size(DESKTOP | {"height": 900})  # type: ignore[arg-type]
    camera.take(page, "report", "html")
    page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]


def heads(page: Page, camera: Camera, base: str) -> None:
    """Live with a new head, back, and the question before."""
    page.goto(f"{base}/#heads")
    page.get_by_role("button", name="Activate head 2").click()
    page.get_by_label("Reason, kept in the log").fill("March’s images")
    expect(page.get_by_role("dialog").get_by_role("button", name="Activate head 2")).to_be_enabled()
    camera.take(page, "question", "dialog")
    page.keyboard.press("Enter")
    expect(page.locator("tr.live td").first).to_have_text("2live")
    camera.take(page, "heads", "main")


def images(page: Page, camera: Camera, base: str) -> None:
    """Some samples by the live head, and one by two."""
    page.goto(f"{base}/#try")
    for name in ("coat", "bag", "sneaker", "shirt"):
        page.get_by_role("button", name=f"sample: {name}").click()
        expect(page.locator(".answer", has_text=name).first.locator("h3")).to_be_visible()
    camera.take(page, "try", "main")
    page.reload()
    page.get_by_role("combobox", name="Compare with").select_option("1")
    for name in ("pullover", "shirt"):
        page.get_by_role("button", name=f"sample: {name}").click()
        expect(page.locator(".answer", has_text=name).first.locator("h3")).to_have_count(2)
    camera.take(page, "compare", "main")


def teaching(page: Page, camera: Camera, base: str, data: Data) -> None:
    """Photos of a new class, a head that has learned from them; answers to review; the classes."""
    rows = np.flatnonzero(data.test.labels == data.classes.index("bag"))
    flipped = [Image.fromarray(np.ascontiguousarray(data.test.image(row)[::-1])) for row in rows[:5]]
    files: list[FilePayload] = []
    for place, image in enumerate(flipped):
        file = io.BytesIO()
        image.save(file, "PNG")
        files.append({"name": f"bag {place + 1}.png", "mimeType": "image/png", "buffer": file.getvalue()})
    page.goto(f"{base}/#teach")
    page.locator(".drop input").set_input_files(files)
    expect(page.locator(".answer .bars")).to_have_count(len(files))
    page.get_by_label("Class of all these photos").fill("upside-down bag")
    page.get_by_role("button", name="Store").click()
    expect(page.get_by_role("button", name="Take back")).to_have_count(len(files))
    camera.take(page, "teach", ".answer:nth-child(-n+2)")
    page.get_by_label("When the new head is ready").select_option("never")
    page.get_by_role("button", name="Learn from the examples").click()
    expect(page.locator(".job")).to_contain_text("The gate says", timeout=REFIT_SECONDS * 1000)
    page.goto(f"{base}/#review")
    expect(page.locator(".review img")).to_be_visible()
    camera.take(page, "review", ".review")
    page.goto(f"{base}/#classes")
    page.get_by_label("More of bag").click()
    expect(page.get_by_role("button", name="Remove bag")).to_be_visible()
    camera.take(page, "classes", "main")


def health(page: Page, camera: Camera, base: str, data: Data) -> None:
    """While several clients ask, now more and now less."""
    page.goto(f"{base}/#health")
    files = [image_file(data, row) for row in range(16)]
    end = time.monotonic() + LOAD_SECONDS

    def ask(place: int) -> None:
        with Client(base, timeout=60) as own:
            while time.monotonic() < end:
                own.predict(files[: 1 + place * 5])
                wave = 1 + np.sin(time.monotonic() / 9 + place)
                time.sleep(0.01 + 0.1 * wave)

    clients = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
    for one in clients:
        one.start()
    while time.monotonic() < end - 2:
        page.wait_for_timeout(1000)
    camera.take(page, "health", "main")
    for one in clients:
        one.join()


def every(browser: Browser, base: str, job: str, folder: Path) -> None:
    """Each part, and a refit's report, as a desktop and a phone show them in light and dark; from top to bottom."""
    folder.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        for size in (WIDE, PHONE):
            page = browser.new_page(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
            for part in PARTS:
                page.goto(f"{base}/#{part}")
                expect(page.locator("main .loading")).to_have_count(0)
                page.screenshot(path=folder / f"{part}-{size['width']}-{scheme}.png", full_page=True)
            page.goto(f"{base}/console/report.html#{job}")
            expect(page.frame_locator("#report").locator("img").first).to_be_visible()
            page.screenshot(path=folder / f"report-{size['width']}-{scheme}.png")
            page.close()


def main(wanted: list[str], looked_at: Path | None) -> None:
    """Walk through the console once, with a camera."""
    camera = Camera(wanted)
    data = load(TrainConfig())
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base, client = stack.enter_context(serving(folder))
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path=shutil.which("chromium"), args=FLAGS
        )
        stack.callback(browser.close)
        given, held = make_files(client, data, folder)
        page = browser.new_page(viewport=DESKTOP, device_scale_factor=1.5)  # type: ignore[arg-type]
        refit(page, camera, base, given, held)
        march, apart = (client.put_snapshot(path).sha256 for path in (given[-1], held))
        alone = RefitSpec(activate="never", use_bundle_snapshots=False)
        client.wait(client.refit([march], alone, apart).id)
        heads(page, camera, base)
        images(page, camera, base)
        teaching(page, camera, base, data)
        phone = browser.new_page(viewport=PHONE, device_scale_factor=2)  # type: ignore[arg-type]
        phone.goto(f"{base}/#heads")
        expect(phone.locator("tr.live")).to_be_visible()
        camera.take(phone, "phone", ".stacked >> nth=0 >> tbody tr")
        dark = browser.new_page(viewport=DESKTOP, device_scale_factor=1.5, color_scheme="dark")  # type: ignore[arg-type]
        health(dark, camera, base, data)
        if looked_at is not None:
            every(browser, base, client.jobs()[0].id, looked_at)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--every", type=Path, metavar="FOLDER")
    given = parser.parse_args()
    main(given.names, given.every)
