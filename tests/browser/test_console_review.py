"""Review: answers that are worth a label, one at a time or many, by keys and by name, and the way back."""

from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect
from running import Serve
from tabs import LONG, tab_to
from tiny import picture, png

PNG = {"content-type": "image/png"}


def ask(client: httpx.Client, count: int) -> None:
    """Let the server answer some images, each with a reference."""
    for place in range(count):
        client.post(f"/v1/predict?ref=photo-{place}", content=png(picture(place)), headers=PNG).raise_for_status()


def examples(client: httpx.Client) -> list[dict[str, Any]]:
    """What the server has kept, the newest first."""
    found: list[dict[str, Any]] = client.get("/v1/examples").json()["examples"]
    return found


def test_without_remembered_answers_a_sentence_says_how_to_have_them(page: Page, serve: Serve) -> None:
    """The setting by its name."""
    with serve() as client:
        page.goto(f"{client.base_url}/#review")
        expect(page.get_by_text("start it with --remember 10000")).to_be_visible()
    with serve(remember=100) as client:
        page.goto(f"{client.base_url}/#review")
        expect(page.get_by_text("Nothing is left to review.")).to_be_visible()


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("images", [False, True])
def test_with_and_without_pictures_a_card_has_one_column(page: Page, serve: Serve, width: int, images: bool) -> None:
    """The picture, or that there is none, is above; names of classes stand in one line."""
    with serve(remember=100, remember_images=images) as client:
        ask(client, 1)
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(f"{client.base_url}/#review")
        card = page.locator(".review")
        expect(card.locator("img" if images else ".blank")).to_be_visible()
        lefts = card.evaluate(
            "one => [...one.children].filter(c => c.offsetHeight).map(c => c.getBoundingClientRect().x)"
        )
        heights = card.locator(".choice").evaluate_all("all => all.map(one => one.offsetHeight)")
        first = card.evaluate("one => one.firstElementChild.matches('img, .blank')")

    assert first
    assert len(lefts) >= 5
    assert len(set(lefts)) == 1
    assert max(heights) < 50


@pytest.mark.parametrize("view", ["one at a time", "many at once"])
def test_answers_are_labelled_by_keys_and_taken_back(page: Page, serve: Serve, view: str) -> None:
    """A digit keeps one of the first classes, S leaves one out, U brings the last one back; each is counted."""
    with serve(remember=100) as client:
        ask(client, 4)
        page.goto(f"{client.base_url}/#review")
        page.get_by_role("combobox", name="Pictures").select_option(label=view)
        expect(page.locator(".review")).to_have_count(1 if view == "one at a time" else 4)
        page.get_by_label("Your name, if you like").fill("Ada")
        first = page.locator(".review").first
        name = str(first.get_attribute("aria-label"))
        wanted = first.locator(".choice .wide").nth(1).inner_text()
        page.locator("main h2").click()
        page.keyboard.press("2")
        expect(page.get_by_role("status")).to_have_text(f"{wanted} is kept. 3 answers to review.")
        kept = examples(client)
        assert [(one["class"], one["ref"], one["by"], one["verified"]) for one in kept] == [(wanted, name, "Ada", True)]
        expect(page.locator(".review").first).to_be_focused()
        page.keyboard.press("s")
        expect(page.get_by_role("status")).to_have_text("Skipped. 2 answers to review.")
        page.keyboard.press("u")
        expect(page.get_by_role("status")).to_have_text("The last one is taken back. 3 answers to review.")
        expect(page.get_by_role("article", name=name)).to_be_focused()
        assert examples(client) == []
        expect(page.get_by_role("button", name="Undo")).to_be_disabled()
        page.get_by_label("Keys 1 to 5, S and U").uncheck()
        page.keyboard.press("1")
        expect(page.get_by_role("button", name="Undo")).to_be_disabled()


def test_another_class_is_written(page: Page, serve: Serve) -> None:
    """A new one with a long name, by keyboard alone; digits in it are letters; then nothing is left."""
    with serve(remember=100) as client:
        ask(client, 1)
        page.goto(f"{client.base_url}/#review")
        expect(page.locator(".review")).to_have_count(1)
        tab_to(page, "Another class")
        page.keyboard.type(f"{LONG} 12")
        page.keyboard.press("Enter")
        expect(page.get_by_text("Nothing is left to review.")).to_be_visible()

        assert [one["class"] for one in examples(client)] == [f"{LONG} 12"]


def test_a_thumbnail_is_shown(page: Page, serve: Serve) -> None:
    """Where the server keeps them."""
    with serve(remember=100, remember_images=True) as client:
        ask(client, 1)
        page.goto(f"{client.base_url}/#review")
        expect(page.get_by_role("img", name="picture photo-0")).to_have_js_property("naturalWidth", 8)


def test_a_reference_leads_to_the_callers_picture(page: Page, serve: Serve) -> None:
    """By an address that is the caller's: shown if it is of this server, a link if not, nothing if it is no page."""
    with serve(remember=100) as client:
        ask(client, 1)
        page.goto(f"{client.base_url}/#review")
        expect(page.get_by_text("no picture kept")).to_be_visible()
        page.get_by_text("Where your pictures are").click()
        field = page.get_by_label("Their address, with {ref}")
        field.fill("no place")
        field.press("Enter")
        assert field.evaluate("one => one.validationMessage") != ""
        field.fill("https://photos.example/{ref}.jpg")
        field.press("Enter")
        link = page.get_by_role("link", name="Open the picture")
        expect(link).to_have_attribute("href", "https://photos.example/photo-0.jpg")
        expect(link).to_have_attribute("rel", "noopener noreferrer")
        field.fill("javascript:alert('{ref}')")
        field.press("Enter")
        expect(page.get_by_text("no picture kept")).to_be_visible()
        page.route("**/pictures/*", lambda route: route.fulfill(body=png(picture()), content_type="image/png"))
        field.fill("/pictures/{ref}.png")
        field.press("Enter")
        expect(page.get_by_role("img", name="picture photo-0")).to_have_js_property("naturalWidth", 8)


def test_an_answer_that_is_gone_is_told_in_its_place(page: Page, serve: Serve) -> None:
    """The others go on."""
    with serve(remember=100) as client:
        ask(client, 2)
        page.goto(f"{client.base_url}/#review")
        expect(page.locator(".review")).to_have_count(1)
        for one in client.get("/v1/queue").json()["answers"]:
            if one["ref"] == page.locator(".review").get_attribute("aria-label"):
                client.delete(f"/v1/answers/{one['id']}").raise_for_status()
        page.keyboard.press("1")
        expect(page.locator(".review").get_by_role("alert")).to_contain_text("it was erased")
        page.keyboard.press("s")
        page.keyboard.press("1")
        expect(page.get_by_role("status")).to_contain_text("is kept.")


def test_a_thousand_classes_are_listed_once(page: Page, serve: Serve) -> None:
    """However many answers there are to review."""
    with serve(remember=100) as client:
        labels = [{"feature": [place, 1, 2, 3], "class": f"Species {place}"} for place in range(1000)]
        client.post("/v1/labels", json={"labels": labels}).raise_for_status()
        ask(client, 5)
        page.goto(f"{client.base_url}/#review")
        page.get_by_role("combobox", name="Pictures").select_option(label="many at once")
        expect(page.locator(".review")).to_have_count(5)
        expect(page.locator("option[value^=Species]")).to_have_count(1000)
