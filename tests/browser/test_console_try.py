"""Try it: an image is dropped, pasted, chosen or a sample; its classes come out, of one head or of two."""

import base64
import re
from pathlib import Path

from playwright.sync_api import Page, expect
from refits import finish
from running import Serve, make_settings, running
from tabs import drop
from tiny import picture, png, tiny_known, tiny_snapshot

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import known as knowns
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots import snapshot as snapshots


def test_an_image_is_answered_and_two_heads_compared(page: Page, serve: Serve, tmp_path: Path) -> None:
    """From a sample, from a file, with bars, version and timing; then beside it a line's head, and another head."""
    image = tmp_path / "tree.png"
    image.write_bytes(png(picture(5)))
    with serve() as client:
        finish(client, {"spec": {"activate": "never"}})
        client.put("/v1/lines/lab-a", json={"head": 2}).raise_for_status()
        page.goto(str(client.base_url))
        expect(page.get_by_text("No image yet.")).to_be_visible()
        page.get_by_role("button", name="sample: elm").click()
        expect(page.locator(".answer")).to_have_count(1)
        expect(page.get_by_text("No image yet.")).to_have_count(0)
        page.locator("input[type=file]").set_input_files(image)
        expect(page.locator(".answer")).to_have_count(2)
        newest = page.locator(".answer").first
        expect(newest.locator("h3")).to_have_text(["Head 1"])
        expect(newest.locator("dt")).to_have_count(3)
        expect(newest).to_contain_text(
            re.compile(r"decode [0-9.]+\sms, wait [0-9.]+\sms, compute [0-9.]+\sms, batch of\s1")
        )
        answer = client.post("/v1/predict", content=image.read_bytes(), headers={"content-type": "image/png"}).json()
        best = answer["predictions"][0]["classes"][0]
        expect(newest.locator("dt").first).to_have_text(best["class"])
        expect(newest.locator("dd.number").first).to_have_text(f"{100 * best['probability']:.1f} %")
        other = page.get_by_role("combobox", name="Compare with")
        with page.expect_request(lambda one: "line=lab-a" in one.url):
            other.select_option(label="line lab-a: head 2")
        expect(newest.locator("h3")).to_have_text(["Head 1", "Head 2"])
        other.select_option("no other")
        expect(newest.locator("h3")).to_have_text(["Head 1"])
        other.select_option("2")
        expect(newest.locator("h3")).to_have_text(["Head 1", "Head 2"])
        boxes = [section.bounding_box() for section in newest.locator("section").all()]

    left, right = (box for box in boxes if box)
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]


def test_it_says_how_near_an_image_is_to_what_was_learned(page: Page, bundle: Bundle, tmp_path: Path) -> None:
    """Where that is asked: how near, and the stored images that are nearest."""
    rows = tiny_snapshot(bundle.backbone_digest)
    known = knowns.to_bytes(tiny_known(), bundle.head().digest)
    files = {name: (bundle.folder / name).read_bytes() for name in bundle.manifest.files}
    files |= {"snapshots/epoch-0002.safetensors": snapshots.to_bytes(rows), bundles.KNOWN: known}
    learned = bundles.write(tmp_path / "learned", bundle.manifest, files)
    with running(make_settings(learned, tmp_path / "store")) as client:
        page.goto(str(client.base_url))
        page.get_by_role("button", name="sample: elm").click()
        answer = page.locator(".answer")
        expect(answer.locator("h3")).to_have_count(1)
        expect(answer.get_by_text("Most like")).to_have_count(0)
        page.get_by_label("The 3 stored images that it is most like").check()
        expect(answer.locator(".near li")).to_have_count(3)
        image = client.get("/v1/samples/1-0.png").content
        told = client.post(
            "/v1/predict", params={"explain": 3, "known": True}, content=image, headers={"content-type": "image/png"}
        ).json()["predictions"][0]
        expect(answer.locator(".near .name")).to_have_text([one["class"] for one in told["nearest"]])
        page.get_by_label("How near it is to what was learned").check()
        expect(answer).to_contain_text(f"{100 * told['known']:.1f}\xa0% are no nearer")


def test_an_image_is_dropped(page: Page, serve: Serve, tmp_path: Path) -> None:
    """On the zone, or anywhere else on the page, which stays where it is."""
    files = [tmp_path / f"{name}.png" for name in ("one", "two")]
    for file in files:
        file.write_bytes(png(picture(3)))
    with serve() as client:
        page.goto(str(client.base_url))
        zone = page.locator(".drop").bounding_box()
        assert zone
        drop(page, zone["x"] + 20, zone["y"] + 20, *files)
        expect(page.locator(".answer figcaption")).to_have_text(["one.png", "two.png"])
        expect(page.locator(".answer h3")).to_have_count(2)
        drop(page, 600, 780, files[0])
        expect(page.locator(".answer h3")).to_have_count(3)

        assert page.url == f"{client.base_url}/"


def test_an_image_is_pasted(page: Page, serve: Serve) -> None:
    """By the keys that paste, from the clipboard."""
    with serve() as client:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(str(client.base_url))
        expect(page.locator(".drop")).to_be_visible()
        page.evaluate(
            """async (text) => {
                const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
                const image = new Blob([bytes], { type: "image/png" });
                await navigator.clipboard.write([new ClipboardItem({ [image.type]: image })]);
            }""",
            base64.b64encode(png(picture(4))).decode(),
        )
        page.keyboard.press("Control+V")
        expect(page.locator(".answer h3")).to_have_text(["Head 1"])


def test_a_bad_file_is_told_in_the_servers_words(page: Page, serve: Serve, tmp_path: Path) -> None:
    """In its own place, so that the good one beside it is answered and nothing is lost."""
    files = [tmp_path / "junk.png", tmp_path / "tree.png"]
    for file, data in zip(files, (b"junk", png(picture(5))), strict=True):
        file.write_bytes(data)
    with serve() as client:
        page.goto(str(client.base_url))
        page.locator("input[type=file]").set_input_files(files)
        expect(page.locator(".answer")).to_have_count(2)
        expect(page.locator(".answer h3")).to_have_count(1)
        expect(page.locator(".answer", has_text="junk.png").get_by_role("alert")).to_contain_text(
            "not a JPEG, PNG or WebP image"
        )


def test_addresses_of_images_are_given_back(page: Page, serve: Serve) -> None:
    """As soon as they are shown: a page that stays open for weeks does not fill the memory."""
    page.add_init_script(
        """const held = window.held = new Set(), { createObjectURL: make, revokeObjectURL: end } = URL;
        URL.createObjectURL = (blob) => { const url = make(blob); held.add(url); return url; };
        URL.revokeObjectURL = (url) => { held.delete(url); end(url); };"""
    )
    with serve() as client:
        page.goto(str(client.base_url))
        for _ in range(3):
            page.get_by_role("button", name="sample: oak").click()
        expect(page.locator(".answer h3")).to_have_count(3)
        page.wait_for_function("window.held.size === 0")

        assert page.locator(".answer img").first.evaluate("image => image.naturalWidth") == 8


def test_of_many_images_none_is_dropped(page: Page, serve: Serve) -> None:
    """Several go in one request, all are answered or told, and how many of them is said."""
    good = [{"name": f"{place}.png", "mimeType": "image/png", "buffer": png(picture(place))} for place in range(39)]
    junk = {"name": "junk.png", "mimeType": "image/png", "buffer": b"junk"}
    asked = []
    with serve() as client:
        page.on("request", lambda one: asked.append(one.url) if "/v1/predict" in one.url else None)
        page.goto(str(client.base_url))
        page.locator("input[type=file]").set_input_files([*good, junk])  # type: ignore[list-item]
        expect(page.get_by_role("status")).to_have_text("40 of 40 images answered.")
        expect(page.locator(".answer h3")).to_have_count(39)
        expect(page.locator(".answer .bad")).to_have_count(1)

        assert len(asked) < 20
