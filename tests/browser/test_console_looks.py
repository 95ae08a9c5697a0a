"""How the console looks: readable in light and dark, on a desktop and on a phone, with whatever it has to show."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from accessible import violations
from playwright.sync_api import FilePayload, Page, expect
from refits import finish
from running import Serve, make_settings, running
from tabs import LONG, Open, filled, snapshot_file
from tiny import picture, png

from breadcrumbs.models.bundle import Bundle

PHONE, DESKTOP = {"width": 375, "height": 740}, {"width": 1280, "height": 800}

LOOKS = Path(__file__).with_name("looks.js").read_text()


def taught(page: Page, base: str) -> Iterator[str]:
    """Go through the pages for people who do not program."""
    page.goto(f"{base}/#teach")
    expect(page.get_by_text("No photo yet.")).to_be_visible()
    yield "teach, empty"
    contents = {f"{LONG}-1.png": png(picture(1)), f"{LONG}-2.png": png(picture(2)), "junk.png": b"junk"}
    files: list[FilePayload] = [
        {"name": name, "mimeType": "image/png", "buffer": data} for name, data in contents.items()
    ]
    odd: FilePayload = {"name": f"{LONG}.txt", "mimeType": "text/plain", "buffer": b"junk"}
    page.locator(".drop input").set_input_files([*files, odd])
    expect(page.locator(".answer .bars")).to_have_count(2)
    page.get_by_label("Class of all these photos").fill(f"{LONG}-3")
    yield "teach, with photos, errors and a new class"
    page.get_by_role("button", name="Store").click()
    expect(page.get_by_role("button", name="Take back")).to_have_count(2)
    yield "teach, stored"
    page.goto(f"{base}/#review")
    expect(page.locator(".review")).to_be_visible()
    yield "review, one at a time"
    page.get_by_role("combobox", name="Pictures").select_option(label="many at once")
    page.get_by_text("Where your pictures are").click()
    page.get_by_role("button", name="Skip").first.click()
    yield "review, many at once"
    page.goto(f"{base}/#classes")
    page.get_by_label(f"More of {LONG}-3").click()
    page.get_by_label("More of oak").click()
    page.get_by_label("New name of oak").fill(LONG)
    page.get_by_role("button", name="Rename or merge").click()
    expect(page.locator(".changes li")).to_have_count(1)
    expect(page.locator(".examples img")).to_have_count(2)
    yield "classes, with examples and a change"


def views(page: Page, base: str, march: Path) -> Iterator[str]:
    """Go through everything that the console shows, and say what is shown now."""
    page.goto(f"{base}/#health")
    expect(page.locator(".state .chip")).to_have_text("ready")
    yield "health"
    page.goto(f"{base}/#try")
    expect(page.get_by_text("No image yet.")).to_be_visible()
    yield "try, empty"
    page.get_by_role("combobox", name="Compare with").select_option("2")
    page.get_by_role("button", name="sample: oak").click()
    page.locator("input[type=file]").set_input_files(
        {"name": f"{LONG}.png", "mimeType": "image/png", "buffer": b"junk"}
    )
    expect(page.locator(".answer h3")).to_have_count(2)
    expect(page.locator(".answer .bad")).to_be_visible()
    page.get_by_role("button", name="Key", exact=True).click()
    yield "try, with answers, an error and the key's form"
    yield from taught(page, base)
    page.goto(f"{base}/#heads")
    expect(page.locator("tr.live")).to_be_visible()
    yield "heads"
    page.locator("tr.live summary").first.click()
    page.get_by_role("button", name="Activate head 3").click()
    yield "heads, a question"
    page.keyboard.press("Escape")
    page.goto(f"{base}/#refit")
    expect(page.locator(".steps [aria-current=step]")).to_have_text("fit")
    page.locator("input[type=file]").set_input_files(march)
    expect(page.locator(".snapshot").first).to_contain_text("New: ")
    yield "refit, with checks and progress"
    page.get_by_role("button", name="Result of refit").first.click()
    expect(page.locator(".job")).to_contain_text("The gate says")
    page.route("**/v1/refit", lambda route: route.abort())
    page.get_by_role("button", name="Start the refit").click()
    expect(page.locator("#trouble")).to_be_visible()
    yield "refit, a result and trouble"
    page.unroute("**/v1/refit")


@pytest.fixture
def march(bundle: Bundle, tmp_path: Path) -> Path:
    """A snapshot's file with new classes, one of them with a long name."""
    file = tmp_path / f"{LONG}.safetensors"
    file.write_bytes(snapshot_file(bundle, ("oak", "elm", "yew", f"{LONG}-2"), (5, 4, 2, 2), 6))
    return file


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop-light", "phone-dark"])
def test_every_text_can_be_read_and_fits(
    opened: Open, serve: Serve, bundle: Bundle, tmp_path: Path, march: Path, scheme: str, size: dict[str, int]
) -> None:
    """Contrast of 4.5 at least; nothing beyond the screen's edge; no short cell in two lines on a desktop; axe finds
    nothing, where it is installed.
    """
    page = opened(viewport=size, color_scheme=scheme, reduced_motion="reduce")
    with filled(serve, bundle, tmp_path) as client:
        for view in views(page, str(client.base_url), march):
            found = page.evaluate(LOOKS)
            assert len(found["contrasts"]) > 15, view
            assert [one for one in found["contrasts"] if one[0] < 4.5] == [], view
            assert found["width"] <= size["width"], view
            assert found["beyond"] == [], view
            assert size is PHONE or found["broken"] == [], view
            assert violations(page) == [], view


def test_dark_is_dark(opened: Open, serve: Serve) -> None:
    """As the system says, without a switch."""
    with serve() as client:
        grounds = []
        for scheme in ("light", "dark"):
            page = opened(color_scheme=scheme)
            page.goto(str(client.base_url))
            grounds.append(page.locator("body").evaluate("one => getComputedStyle(one).backgroundColor"))

    assert grounds == ["rgb(250, 249, 247)", "rgb(23, 22, 20)"]


def test_where_there_is_nothing_a_sentence_says_so(page: Page, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """What would be here, and how it comes."""
    with running(make_settings(tiny_bundle, tmp_path / "store")) as client:
        for part, text in (
            ("try", "This bundle carries no samples."),
            ("try", "No image yet."),
            ("teach", "No photo yet."),
            ("review", "This server does not remember its answers"),
            ("classes", "Nothing is to be changed."),
            ("heads", "Nothing to roll back to"),
            ("refit", "No snapshots are stored yet"),
            ("refit", "None yet. The first one makes head 2."),
        ):
            page.goto(f"{client.base_url}/#{part}")
            expect(page.get_by_text(text)).to_be_visible()
        finish(client)
        page.reload()
        expect(page.get_by_text("None yet.")).to_have_count(0)


def test_what_takes_long_says_that_it_loads(page: Page, serve: Serve) -> None:
    """Until the server has answered."""
    with serve() as client:
        page.route("**/v1/heads?line=default", lambda _: None)
        page.goto(f"{client.base_url}#heads")
        expect(page.get_by_text("Loading …")).to_be_visible()
        page.get_by_role("link", name="Health").click()
        expect(page.locator(".state .chip")).to_have_text("ready")
