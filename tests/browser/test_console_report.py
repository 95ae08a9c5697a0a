"""A refit's whole report, in a frame that reaches nothing outside it."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from refits import finish
from running import Serve
from tabs import Open
from told import told

from breadcrumbs.serving.state import keys
from breadcrumbs.training.report import refit_page


def put_report(store: Path, job: str, page: bytes) -> None:
    """Lay a page in the place of the one that the fake child left."""
    (store / "refits" / job / "report.html").write_bytes(page)


@pytest.mark.parametrize("guarded", [False, True], ids=["open", "with a key"])
def test_the_whole_report_is_shown(page: Page, serve: Serve, tmp_path: Path, guarded: bool) -> None:
    """With its pictures, its style and the script that sorts its table, also where a key is needed."""
    path = tmp_path / "keys.json"
    secret = keys.add(path, "me", ("admin",))
    with serve(**({"keys": path} if guarded else {})) as client:
        client.headers["Authorization"] = f"Bearer {secret}"
        job = finish(client, {"spec": {"activate": "never"}})["id"]
        put_report(tmp_path / "store", job, refit_page.build(told()))
        page.goto(f"{client.base_url}/console/report.html#{job}")
        if guarded:
            expect(page.get_by_role("alert")).to_contain_text("a key is needed")
            page.get_by_label("Key", exact=True).fill(secret)
            page.keyboard.press("Enter")
        inside = page.frame_locator("#report")
        expect(inside.get_by_role("heading", level=1)).to_be_visible()
        expect(inside.locator("img")).to_have_count(len(refit_page.PICTURES))
        widths = inside.locator("img").evaluate_all("all => all.map(one => one.naturalWidth)")
        assert min(widths) > 100
        assert inside.locator("main").evaluate("main => getComputedStyle(main).maxWidth") == "832px"
        inside.get_by_role("button", name="recall, candidate").click()
        expect(inside.locator("[aria-sort]")).to_have_attribute("aria-sort", "ascending")
        with page.expect_download() as saved:
            page.get_by_role("link", name="Save it").click()
        assert saved.value.path().read_bytes() == refit_page.build(told())
        page.get_by_role("link", name="Back to the refits").click()
        expect(page.locator(".job")).to_contain_text("The gate says yes.")
        page.get_by_role("link", name="Read the whole report").click()
        expect(inside.get_by_role("heading", level=1)).to_be_visible()


def test_a_report_is_dark_where_the_page_is(opened: Open, serve: Serve, tmp_path: Path) -> None:
    """The frame has the page's colours, not a white ground."""
    with serve() as client:
        job = finish(client)["id"]
        put_report(tmp_path / "store", job, refit_page.build(told()))
        for scheme, bright in (("light", True), ("dark", False)):
            page = opened(color_scheme=scheme)
            page.goto(f"{client.base_url}/console/report.html#{job}")
            body = page.frame_locator("#report").locator("body")
            expect(body).to_be_visible()
            for one in (body, page.locator("#report")):
                red = one.evaluate("one => Number(getComputedStyle(one).backgroundColor.match(/[0-9]+/)[0])")

                assert (red > 200) is bright


def test_a_report_can_do_nothing(browser: Browser, serve: Serve, tmp_path: Path) -> None:
    """A page of a child that is not trusted: its script does not run, and it cannot reach the console."""
    evil = (
        b"<h1>hello</h1><script>parent.document.title='PWNED'</script><img src=x onerror=\"top.location='/healthz'\">"
    )
    with serve() as client:
        job = finish(client, {"spec": {"activate": "never"}})["id"]
        put_report(tmp_path / "store", job, evil)
        tab = browser.new_page()
        tab.goto(f"{client.base_url}/console/report.html#{job}")
        expect(tab.frame_locator("#report").get_by_role("heading")).to_have_text("hello")
        assert tab.title() == "Refit report – Breadcrumbs"
        assert tab.url.endswith(job)
        tab.goto(f"{client.base_url}/console/report.html#nothing")
        expect(tab.get_by_role("alert")).to_contain_text("there is no refit")
        expect(tab.get_by_text("Loading …")).to_have_count(0)
        tab.close()
