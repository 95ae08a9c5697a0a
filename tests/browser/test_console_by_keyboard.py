"""The console by keyboard alone: every part, the question before a head goes live, a refit."""

from pathlib import Path

from playwright.sync_api import Page, expect
from refits import finish
from running import Serve
from tabs import snapshot_file, tab_to

from breadcrumbs.models.bundle import Bundle


def test_everything_is_done_by_keyboard(  # noqa: PLR0915 - one way through everything
    page: Page, serve: Serve, bundle: Bundle, tmp_path: Path
) -> None:
    """No pointer: an image, a choice of files, a head and the way back, a refit, the load."""
    with serve() as client:
        client.put("/v1/snapshots", content=snapshot_file(bundle, ("oak", "elm"), (4, 4)))
        finish(client, {"spec": {"activate": "never"}})
        page.on("filechooser", lambda _: None)  # from now on the browser tells of one instead of showing it
        page.goto(str(client.base_url))
        expect(page.locator(".samples")).to_be_visible()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()  # by the link that skips the header
        page.keyboard.press("Tab")
        with page.expect_file_chooser():
            page.keyboard.press("Enter")
        tab_to(page, "sample: elm")
        page.keyboard.press("Enter")
        expect(page.locator(".answer h3")).to_have_text(["Head 1"])

        tab_to(page, "Heads", "Shift+Tab")
        page.keyboard.press("Enter")
        expect(page.locator("tr.live td").first).to_have_text("1live")
        tab_to(page, "Activate head 2")
        page.keyboard.press("Enter")
        expect(page.get_by_label("Reason, kept in the log")).to_be_focused()
        page.keyboard.type("by keyboard")
        expect(page.get_by_role("button", name="Activate head 2").last).to_be_enabled()
        page.keyboard.press("Enter")
        expect(page.locator("tr.live td").first).to_have_text("2live")
        expect(page.get_by_text("by keyboard")).to_be_visible()
        expect(page.locator("main")).to_be_focused()
        tab_to(page, "Roll back to head 1")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="Roll back to head 1").first).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog").get_by_role("button", name="Roll back to head 1")).to_be_enabled()
        tab_to(page, "Roll back to head 1")
        page.keyboard.press("Space")
        expect(page.locator("tr.live td").first).to_have_text("1live")

        tab_to(page, "Refit", "Shift+Tab")
        page.keyboard.press("Enter")
        expect(page.locator(".snapshot")).to_be_visible()
        tab_to(page, client.get("/v1/snapshots").json()["snapshots"][0]["sha256"][:12])
        page.keyboard.press("Space")
        tab_to(page, "Go live")
        page.keyboard.press("ArrowDown")  # never
        tab_to(page, "Start the refit")
        page.keyboard.press("Enter")
        expect(page.locator(".job")).to_contain_text("the spec says never")
        assert client.get("/v1/heads/3").json()["lineage"]["snapshots"] != []

        tab_to(page, "Health", "Shift+Tab")
        page.keyboard.press("Enter")
        expect(page.locator(".state .chip")).to_have_text("ready")
