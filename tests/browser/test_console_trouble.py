"""What goes wrong is said: no key, a wrong one, one that may not; a server that is gone; a script that fails."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from refits import until, upload
from running import Serve
from server_process import serving

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.state import keys


def test_a_key_is_asked_for_and_kept_in_the_tab(page: Page, serve: Serve, tmp_path: Path) -> None:
    """A wrong one is told; the right one lets in, also after a reload, and is in no storage that outlives the tab."""
    path = tmp_path / "keys.json"
    secret = keys.add(path, "me", ("admin",))
    with serve(keys=path) as client:
        page.goto(str(client.base_url))
        for word, text in ((None, "a key is needed"), ("wrong", "the key is not known here"), (secret, "")):
            if word:
                page.get_by_label("Key", exact=True).fill(word)
                page.keyboard.press("Enter")
            if text:
                expect(page.get_by_role("alert")).to_contain_text(text)
                expect(page.get_by_label("Key", exact=True)).to_be_focused()
                expect(page.get_by_text("Give a key above to see this.")).to_be_visible()
        expect(page.get_by_role("button", name="sample: oak")).to_be_visible()
        expect(page.get_by_role("alert")).to_be_hidden()
        expect(page.get_by_label("Key", exact=True)).to_be_hidden()
        page.reload()
        page.get_by_role("button", name="sample: oak").click()
        expect(page.locator(".answer h3")).to_have_count(1)
        assert page.evaluate("localStorage.length") == 0
        assert page.evaluate("document.cookie") == ""
        page.get_by_role("button", name="Key: in use").click()
        page.get_by_role("button", name="Forget it").click()
        expect(page.get_by_role("alert")).to_contain_text("a key is needed")
        assert page.evaluate("sessionStorage.length") == 0


def test_a_key_that_may_not_is_changed(page: Page, serve: Serve, tmp_path: Path) -> None:
    """403 brings up the form as 401 does; what such a key may see is shown all the same."""
    path = tmp_path / "keys.json"
    reader, admin = keys.add(path, "reader", ("predict",)), keys.add(path, "admin", ("admin",))
    with serve(keys=path) as client:
        page.goto(f"{client.base_url}#heads")
        page.get_by_label("Key", exact=True).fill(reader)
        page.keyboard.press("Enter")
        expect(page.locator("tr.live")).to_be_visible()
        page.get_by_role("link", name="Refit", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("the key 'reader' may predict; this takes refit")
        expect(page.get_by_text("Another key may see this")).to_be_visible()
        page.get_by_label("Key", exact=True).fill(admin)
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Start the refit")).to_be_visible()
        page.get_by_role("button", name="Key: in use").click()
        expect(page.get_by_label("Key", exact=True)).to_have_value("")
        page.keyboard.press("Escape")
        expect(page.get_by_label("Key", exact=True)).to_be_hidden()


def test_a_server_that_goes_and_comes_back(page: Page, bundle: Bundle, tmp_path: Path) -> None:
    """It is told, and the page goes on by itself; what was answered before stays."""
    with serving(bundle, tmp_path) as first:
        port = first.address[1]
        page.goto(str(first.client.base_url))
        page.get_by_role("button", name="sample: oak").click()
        expect(page.locator(".answer h3")).to_have_count(1)
    page.get_by_role("button", name="sample: elm").click()
    expect(page.locator("#trouble")).to_have_text("The server does not answer. Trying again …")
    page.get_by_role("link", name="Heads").click()
    expect(page.get_by_text("this page goes on as soon as it does")).to_be_visible()
    with serving(bundle, tmp_path, port=port):
        expect(page.locator("#trouble")).to_be_hidden()
        expect(page.locator("tr.live")).to_be_visible()
        page.get_by_role("link", name="Try it").click()
        page.get_by_role("button", name="sample: oak").click()
        expect(page.locator(".answer h3")).to_have_count(1)


def test_a_server_that_is_away_is_said_once(page: Page, bundle: Bundle, tmp_path: Path) -> None:
    """On Health, where it is asked again and again: no flicker, nothing is read out twice; then the numbers go on."""
    with serving(bundle, tmp_path) as first:
        port = first.address[1]
        page.clock.install()
        page.goto(f"{first.client.base_url}#health")
        expect(page.locator(".state .chip")).to_have_text("ready")
        page.evaluate(
            """window.said = [];
            new MutationObserver(() => window.said.push(document.getElementById("trouble").hidden))
                .observe(document.getElementById("trouble"), { childList: true, attributes: true });"""
        )
    with page.expect_event("requestfailed"):
        page.clock.run_for(3000)
    expect(page.locator(".state .chip")).to_have_text("no answer")
    for _ in range(5):
        with page.expect_event("requestfailed"):
            page.clock.run_for(3000)
    assert len(page.evaluate("window.said")) == 1
    with serving(bundle, tmp_path, port=port):
        expect(page.locator(".state .chip")).to_have_text("ready")
        expect(page.locator("#trouble")).to_be_hidden()


def test_a_refit_whose_server_was_away_is_followed_on(page: Page, serve: Serve, tmp_path: Path) -> None:
    """A stream that breaks is taken up where it broke."""
    with serve("solves", str(tmp_path / "go")) as client:
        upload(client)
        page.goto(f"{client.base_url}#refit")
        page.get_by_role("button", name="Start the refit").click()
        expect(page.locator(".steps [aria-current=step]")).to_have_text("fit")
        until(client, client.get("/v1/refit").json()["refits"][0]["id"], "solve")
        page.route("**/v1/refit/*", lambda route: route.abort())  # as a network does
        (tmp_path / "go").touch()
        expect(page.locator("#trouble")).to_contain_text("The server does not answer.")
        page.unroute("**/v1/refit/*")
        expect(page.locator(".job")).to_contain_text("The gate says yes.")
        expect(page.locator("#trouble")).to_be_hidden()


@pytest.mark.parametrize("file", ["main.js", "draw.js"])
def test_a_script_that_fails_says_so(browser: Browser, serve: Serve, file: str) -> None:
    """One that cannot be loaded; "Loading …" is not what stays."""
    with serve() as client:
        tab = browser.new_page()
        tab.route(f"**/console/{file}", lambda route: route.abort())
        tab.goto(str(client.base_url))
        expect(tab.get_by_role("alert")).to_contain_text("The console itself failed")
        expect(tab.get_by_text("Loading …")).to_have_count(0)
        tab.close()


def test_an_answer_that_no_script_expects_says_so(browser: Browser, serve: Serve) -> None:
    """A bug, or a server of another version: it is told, with a way to try again."""
    with serve() as client:
        tab = browser.new_page()
        tab.route("**/v1/heads?line=default", lambda route: route.fulfill(json={"surprise": True}))
        tab.goto(f"{client.base_url}#heads")
        expect(tab.get_by_role("alert")).to_contain_text("The console itself failed")
        expect(tab.get_by_text("Loading …")).to_have_count(0)
        tab.unroute("**/v1/heads?line=default")
        tab.get_by_role("button", name="Try again").click()
        expect(tab.locator("tr.live")).to_be_visible()
        expect(tab.get_by_role("alert")).to_be_hidden()
        tab.close()
