"""Refit: what heads are compared on is never ticked, so that nothing is fitted to it."""

import re

from playwright.sync_api import FilePayload, Page, Route, expect
from refits import finish
from running import Serve
from tabs import snapshot_file

from breadcrumbs.models.bundle import Bundle


def files(bundle: Bundle, *names: str, epoch: int = 5) -> list[FilePayload]:
    """Snapshots that differ, under these names."""
    return [
        {"name": name, "mimeType": "", "buffer": snapshot_file(bundle, ("oak", "elm"), (4, 4), epoch + place)}
        for place, name in enumerate(names)
    ]


def in_pages_of_one(route: Route) -> None:
    """Ask for lists a single entry a page, as if there were a hundred times as many."""
    url = route.request.url
    limited = f"{url}{'&' if '?' in url else '?'}limit=1"
    route.continue_(url=limited if route.request.method == "GET" else url)


def test_a_file_that_is_named_so_is_compared_on(page: Page, serve: Serve, bundle: Bundle) -> None:
    """The first one at once; none of them is ticked, and the one beside them is."""
    names = ("holdout.npz", "Hold-out of April.safetensors", "birds_held-out.parquet", "HELDOUT")
    with serve() as client:
        page.goto(f"{client.base_url}#refit")
        page.locator("input[type=file]").set_input_files(files(bundle, "march.safetensors", *names))
        expect(page.locator(".snapshot")).to_have_count(1 + len(names))
        expect(page.get_by_role("checkbox", name="march.safetensors")).to_be_checked()
        for name in names:
            expect(page.get_by_role("checkbox", name=name)).not_to_be_checked()
        expect(page.get_by_role("checkbox", name=names[0])).to_be_disabled()
        chosen = page.get_by_role("combobox", name="Compare on").locator("option:checked")
        expect(chosen).to_contain_text(names[0])
        page.get_by_role("button", name="Start the refit").click()
        expect(page.locator(".job")).to_contain_text("The gate says yes.")
        (job,) = client.get("/v1/refit").json()["refits"]

    assert len(job["request"]["snapshots"]) == 1
    assert job["request"]["holdout"] not in [None, *job["request"]["snapshots"]]


def test_what_was_ever_compared_on_is_not_fitted_to(page: Page, serve: Serve, bundle: Bundle) -> None:
    """Under another name, after another refit, and where the refit that had it is pages back in the list."""
    held, other = files(bundle, "march.safetensors", "april.safetensors")
    with serve() as client:
        apart = client.put("/v1/snapshots", content=held["buffer"]).json()["sha256"]
        finish(client, {"holdout": apart, "spec": {"activate": "never"}})
        finish(client, {"spec": {"activate": "never"}})
        page.route(re.compile(r"/v1/(refit|heads)(\?|$)"), in_pages_of_one)
        page.goto(f"{client.base_url}#refit")
        page.locator("input[type=file]").set_input_files([held, other])
        line = page.locator(".snapshot").filter(has_text="march.safetensors")
        expect(page.get_by_role("checkbox", name="april.safetensors")).to_be_checked()
        expect(line.get_by_role("checkbox")).not_to_be_checked()
        page.get_by_role("combobox", name="Compare on").select_option(index=0)
        expect(line.get_by_role("checkbox")).to_be_disabled()
        expect(line).to_contain_text("was compared on: nothing is fitted to it")
        expect(page.get_by_text("Fits a head to 1 snapshot (8 rows; epoch 6)")).to_be_visible()


def test_what_is_chosen_to_compare_on_is_unticked_for_good(page: Page, serve: Serve, bundle: Bundle) -> None:
    """Before the start it can be chosen otherwise; after it, it was compared on."""
    with serve() as client:
        page.goto(f"{client.base_url}#refit")
        page.locator("input[type=file]").set_input_files(files(bundle, "march.safetensors"))
        box = page.get_by_role("checkbox", name="march.safetensors")
        expect(box).to_be_checked()
        judge = page.get_by_role("combobox", name="Compare on")
        judge.select_option(index=1)
        expect(box).not_to_be_checked()
        judge.select_option(index=0)
        expect(box).to_be_enabled()
        expect(box).not_to_be_checked()
        judge.select_option(index=1)
        page.get_by_role("button", name="Start the refit").click()
        expect(page.locator(".job")).to_contain_text("The gate says yes.")
        judge.select_option(index=0)
        expect(box).to_be_disabled()
        expect(box).not_to_be_checked()
