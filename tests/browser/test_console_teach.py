"""Teach: photos or a folder, a class that is known or new, what the head says, examples, and a head that learned."""

import io
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from running import Serve, make_settings, running
from tabs import drop, tab_to
from tiny import picture, png, write_bundle_of_features

from breadcrumbs.serving.state import keys

NEW = "Großer Brachvogel (Numenius arquata), Küken im zweiten Jahr"
"""A class name of 60 characters, about, with letters of other languages."""


def photos(folder: Path, count: int) -> list[Path]:
    """Files of images, each of another content."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"photo {place}.png" for place in range(count)]
    for place, file in enumerate(files):
        file.write_bytes(png(picture(place)))
    return files


def examples(client: httpx.Client) -> list[dict[str, Any]]:
    """What the server has kept."""
    found: list[dict[str, Any]] = client.get("/v1/examples").json()["examples"]
    return found


def choose(page: Page, files: list[Path]) -> None:
    """Give files to the field for photos."""
    page.locator(".drop input").set_input_files(files)


@pytest.mark.parametrize("remember", [0, 100])
def test_five_photos_of_a_new_class_become_a_judged_head(
    page: Page, serve: Serve, tmp_path: Path, remember: int
) -> None:
    """With a class that nobody knew; what is no photo is named, and the others go on; the gate's numbers are shown."""
    files = photos(tmp_path / "in", 5)
    junk, words = tmp_path / "junk.png", tmp_path / "notes.txt"
    junk.write_bytes(b"junk")
    words.write_text("no photo")
    with serve(remember=remember) as client:
        page.goto(f"{client.base_url}/#teach")
        expect(page.get_by_text("No photo yet.")).to_be_visible()
        choose(page, [*files[:2], junk, words, *files[2:]])
        expect(page.get_by_role("alert").filter(has_text="notes.txt")).to_be_visible()
        expect(page.locator(".answer", has_text="junk.png").locator(".became")).to_contain_text(
            "not a JPEG, PNG or WebP"
        )
        expect(page.locator(".answer .bars")).to_have_count(5)
        expect(page.get_by_role("status")).to_contain_text("5 photos to store. 1 file cannot be used")
        store = page.get_by_role("button", name="Store")
        expect(store).to_be_disabled()
        page.get_by_label("Class of all these photos").fill(f" {NEW} ")
        expect(page.get_by_text("A new class.")).to_be_visible()
        page.get_by_label("Your name, if you like").fill("Ada")
        expect(store).to_have_text(f"Store 5 photos as {NEW}")
        store.click()
        expect(page.get_by_role("status")).to_have_text(f"5 photos of 5 stored as {NEW}.")
        kept = examples(client)
        assert {(one["class"], one["by"], one["verified"]) for one in kept} == {(NEW, "Ada", True)}
        assert len({one["content"] for one in kept}) == 5
        assert {one["source"].partition(":")[0] for one in kept} == {"answer" if remember else "image"}
        expect(page.get_by_text("A new class with 5 examples")).to_be_visible()
        page.get_by_role("button", name="Learn from the examples").click()
        expect(page.locator(".job")).to_contain_text("The gate says yes.")
        expect(page.get_by_role("table", name="New classes")).to_contain_text("recognised")

        assert client.get("/v1/heads").json()["live"] == 2
        assert client.get("/v1/heads/2").json()["lineage"]["examples"] == 5


def test_a_stored_photo_is_taken_back(page: Page, serve: Serve, tmp_path: Path) -> None:
    """What is new is gone; what had another class has that one again; a photo may be left out before."""
    first, second, third = photos(tmp_path / "in", 3)
    with serve() as client:
        page.goto(f"{client.base_url}/#teach")
        field = page.get_by_label("Class of all these photos")
        choose(page, [first])
        field.fill("elm")
        expect(page.get_by_text(re.compile("A known class: 40 training images, 0 examples"))).to_be_visible()
        page.get_by_role("button", name="Store 1 photo as elm").click()
        expect(page.get_by_role("status")).to_have_text("1 photo of 1 stored as elm.")
        page.get_by_role("button", name="Clear the page").click()
        choose(page, [first, second, third])
        page.get_by_role("button", name=f"Leave out {third.name}").click()
        field.fill("oak")
        page.get_by_role("button", name="Store 2 photos as oak").click()
        expect(page.get_by_role("status")).to_have_text("2 photos of 2 stored as oak.")
        assert [one["class"] for one in examples(client)] == ["oak", "oak"]
        for file in (first, second):
            page.get_by_role("button", name=f"Take back {file.name}").click()
            expect(page.get_by_role("button", name=f"Leave out {file.name}")).to_be_focused()

        assert [one["class"] for one in examples(client)] == ["elm"]


def test_a_folder_is_dropped(page: Page, serve: Serve, tmp_path: Path) -> None:
    """With its folders; what a system hides in them is not named."""
    photos(tmp_path / "in", 3)
    photos(tmp_path / "in" / "more", 2)
    for name in (".DS_Store", "Thumbs.db"):
        (tmp_path / "in" / name).write_bytes(b"hidden")
    with serve() as client:
        page.goto(f"{client.base_url}/#teach")
        zone = page.locator(".drop").bounding_box()
        assert zone
        drop(page, zone["x"] + 20, zone["y"] + 20, tmp_path / "in")
        expect(page.locator(".answer .bars")).to_have_count(5)
        expect(page.locator(".bad")).to_have_count(0)
        page.get_by_label("Choose a whole folder").set_input_files(tmp_path / "in" / "more")
        expect(page.locator(".answer .bars")).to_have_count(7)


def test_pictures_on_the_page_are_small(page: Page, serve: Serve, tmp_path: Path) -> None:
    """However large the photo is, and their addresses are given back; one of a pixel is a picture too."""
    page.add_init_script(
        """const held = window.held = new Set(), { createObjectURL: make, revokeObjectURL: end } = URL;
        URL.createObjectURL = (blob) => { const url = make(blob); held.add(url); return url; };
        URL.revokeObjectURL = (url) => { held.delete(url); end(url); };"""
    )
    sizes = [(1600, 400), (1, 1), (3, 2000)]
    files = []
    for width, height in sizes:
        file = io.BytesIO()
        Image.new("RGB", (width, height), "green").save(file, "PNG")
        files.append(tmp_path / f"{width}.png")
        files[-1].write_bytes(file.getvalue())
    with serve() as client:
        page.goto(f"{client.base_url}/#teach")
        choose(page, files)
        expect(page.locator(".answer .bars")).to_have_count(3)
        page.wait_for_function("window.held.size === 0")
        shown = page.locator(".answer img").evaluate_all(
            "all => all.map((one) => [one.naturalWidth, one.naturalHeight])"
        )

    assert shown == [[160, 40], [1, 1], [1, 160]]


def test_a_thousand_classes_are_completed(page: Page, serve: Serve, tmp_path: Path) -> None:
    """Each is in the list of the field; another spelling of one is asked about."""
    with serve() as client:
        labels = [{"feature": [place, 1, 2, 3], "class": f"Species {place}"} for place in range(1000)]
        client.post("/v1/labels", json={"labels": labels}).raise_for_status()
        page.goto(f"{client.base_url}/#teach")
        expect(page.locator("datalist option")).to_have_count(1003)
        page.get_by_label("Class of all these photos").fill("species 7")
        expect(page.get_by_text("There is one called Species 7")).to_be_visible()


def test_it_is_done_by_keyboard(page: Page, serve: Serve, tmp_path: Path) -> None:
    """Photos, class, storing, learning: no pointer."""
    with serve() as client:
        page.goto(f"{client.base_url}/#teach")
        choose(page, photos(tmp_path / "in", 2))
        expect(page.get_by_role("status")).to_have_text("2 photos to store.")
        tab_to(page, "Drop photos or a folder")
        tab_to(page, "Choose a whole folder")
        tab_to(page, "Class of all these photos")
        page.keyboard.type("yew")
        tab_to(page, "Store 2 photos as yew")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_have_text("2 photos of 2 stored as yew.")
        tab_to(page, "Learn from the examples")
        page.keyboard.press("Space")
        expect(page.locator(".job")).to_contain_text("The gate says yes.")


def test_a_server_of_features_says_that_it_takes_no_photos(page: Page, tmp_path: Path) -> None:
    """In a sentence, in place of fields that could only fail."""
    bundle = write_bundle_of_features(tmp_path / "features")
    with running(make_settings(bundle, tmp_path / "store")) as client:
        page.goto(f"{client.base_url}/#teach")
        expect(page.get_by_text("This server takes features and no photos")).to_be_visible()
        expect(page.locator("input[type=file]")).to_have_count(0)


def test_a_server_that_goes_away_loses_no_photo(page: Page, serve: Serve, tmp_path: Path) -> None:
    """What was being stored is stored when it is back."""
    with serve() as client:
        page.goto(f"{client.base_url}/#teach")
        choose(page, photos(tmp_path / "in", 3))
        page.get_by_label("Class of all these photos").fill("oak")
        page.route("**/v1/labels", lambda route: route.abort(), times=1)
        page.get_by_role("button", name="Store 3 photos as oak").click()
        expect(page.get_by_role("status")).to_have_text("3 photos of 3 stored as oak.")

        assert len(examples(client)) == 3


def test_a_photo_that_is_gone_is_named_and_the_others_go_on(page: Page, serve: Serve, tmp_path: Path) -> None:
    """It was deleted after it was chosen: before it was stored."""
    files = photos(tmp_path / "in", 3)
    with serve() as client:
        page.goto(f"{client.base_url}/#teach")
        choose(page, files)
        expect(page.get_by_role("status")).to_have_text("3 photos to store.")
        files[1].unlink()
        page.get_by_label("Class of all these photos").fill("oak")
        page.get_by_role("button", name="Store 3 photos as oak").click()
        expect(page.get_by_role("status")).to_have_text("2 photos of 3 stored as oak.")
        gone = page.locator(".answer", has_text=files[1].name)
        expect(gone.locator(".became")).to_contain_text("moved or changed after it was chosen")

        assert len(examples(client)) == 2


def test_a_key_that_may_not_vouch_can_still_store(page: Page, serve: Serve, tmp_path: Path) -> None:
    """The server's sentence is shown; without being sure, the photos are stored and not learned from."""
    path = tmp_path / "keys.json"
    secret = keys.add(path, "Ada", ("predict",))
    with serve(keys=path) as client:
        page.goto(f"{client.base_url}/#teach")
        page.get_by_label("Key", exact=True).fill(secret)
        page.get_by_role("button", name="Use it in this tab").click()
        choose(page, photos(tmp_path / "in", 2))
        page.get_by_label("Class of all these photos").fill("oak")
        store = page.get_by_role("button", name="Store 2 photos as oak")
        store.click()
        expect(page.locator("#trouble")).to_contain_text("refit")
        page.get_by_label("I am sure, so learn from it").uncheck()
        store.click()
        expect(page.get_by_role("status")).to_contain_text("Nobody is sure of them")
        found = client.get("/v1/examples", headers={"Authorization": f"Bearer {secret}"}).json()["examples"]

        assert [(one["class"], one["by"], one["verified"], one["owner"]) for one in found] == [
            ("oak", "Ada", False, "Ada")
        ] * 2
