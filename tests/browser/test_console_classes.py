"""Classes: every one with its images, examples and recall; renamed, merged, removed by a refit."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect
from refits import finish
from running import Serve
from tabs import LONG
from tiny import picture, png

PNG = {"content-type": "image/png"}


def label(client: httpx.Client, *labels: dict[str, Any]) -> None:
    """Send labels."""
    client.post("/v1/labels", json={"labels": list(labels)}).raise_for_status()


def test_every_class_is_listed_with_what_there_is_of_it(page: Page, serve: Serve) -> None:
    """Those of the head in its order, then what only examples name; a recall comes with its interval."""
    with serve("measures") as client:
        page.goto(f"{client.base_url}/#classes")
        expect(page.get_by_text("the live head has no report of one")).to_be_visible()
        label(client, {"feature": [1, 2, 3, 4], "class": "elm"}, {"feature": [2, 2, 3, 4], "class": LONG})
        finish(client, {"examples": "none"})
        page.reload()
        rows = page.locator("tbody tr")
        expect(rows.locator("summary")).to_have_text(["oak", "elm", "Wollemia nobilis", LONG])
        expect(rows.nth(0)).to_contain_text("120")
        expect(rows.nth(1).locator("td").nth(3)).to_have_text("1")
        expect(rows.nth(3)).to_contain_text("not learned yet")
        report = client.get(f"/v1/refit/{client.get('/v1/heads/2').json()['lineage']['refit']}").json()["report"]
        recall = report["candidate"]["recall"][0]
        expect(rows.nth(0).locator("td").nth(4)).to_contain_text(f"{100 * recall:.1f}\xa0%")
        expect(rows.nth(0).locator("td").nth(4)).to_contain_text(" to ")
        expect(rows.nth(3).locator("td").nth(4)).to_have_text("–")
        page.get_by_label("More of oak").click()
        expect(rows.nth(0)).to_contain_text("Of its held-out images, the live head took 2 for elm.")


def test_examples_of_a_class_are_shown_and_taken_back(page: Page, serve: Serve) -> None:
    """The newest, with who said it and the thumbnail that is kept."""
    with serve(remember=10, remember_images=True) as client:
        answer = client.post("/v1/predict?ref=tree-7", content=png(picture(3)), headers=PNG).json()
        label(client, {"answer": answer["predictions"][0]["id"], "class": "oak", "by": "Ada"})
        page.goto(f"{client.base_url}/#classes")
        page.get_by_label("More of oak").click()
        line = page.locator(".examples li")
        expect(line).to_contain_text("tree-7, Ada, just now, not sure")
        expect(line.locator("img")).to_have_js_property("naturalWidth", 8)
        page.get_by_role("button", name="Take back tree-7").click()
        expect(line).to_have_count(0)

        assert client.get("/v1/examples").json()["examples"] == []


def test_classes_are_renamed_merged_and_removed_by_a_refit(page: Page, serve: Serve, tmp_path: Path) -> None:
    """All at once, after each was told and could be left; the list is the new head's then."""
    with serve("copies-spec", str(tmp_path / "spec")) as client:
        page.goto(f"{client.base_url}/#classes")
        go = page.get_by_role("button", name="Make a head with these changes")
        expect(go).to_be_disabled()
        page.get_by_label("More of oak").click()
        page.get_by_label("New name of oak").fill("holm oak")
        page.get_by_label("New name of oak").press("Enter")
        page.get_by_label("More of elm").click()
        page.get_by_role("button", name="Remove elm").click()
        page.get_by_label("More of Wollemia nobilis").click()
        page.get_by_label("New name of Wollemia nobilis").fill("oak")
        page.get_by_role("button", name="Rename or merge").last.click()
        expect(page.locator(".changes li")).to_contain_text(
            ["oak is renamed to holm oak", "elm is removed", "Wollemia nobilis becomes part of oak"]
        )
        page.get_by_role("button", name="Leave Wollemia nobilis as it is").click()
        go.click()
        expect(page.locator("tbody tr summary")).to_have_text(["holm oak", "Wollemia nobilis"])
        expect(page.locator(".job")).to_contain_text("The gate says yes.")
        expect(go).to_be_disabled()

        assert json.loads((tmp_path / "spec").read_text())["classes"] == {"oak": "holm oak", "elm": None}


@pytest.mark.parametrize("count", [0, 1000])
def test_a_class_is_found_among_many(page: Page, serve: Serve, count: int) -> None:
    """By a part of its name; the list can begin with those of the fewest images."""
    with serve() as client:
        if count:
            label(client, *({"feature": [place, 1, 2, 3], "class": f"Species {place}"} for place in range(count)))
        page.goto(f"{client.base_url}/#classes")
        expect(page.get_by_role("status")).to_have_text(f"{count + 3:,} classes.")
        page.get_by_label("Find a class").fill("WOLL")
        expect(page.get_by_role("status")).to_have_text(f"1 class of {count + 3:,}.")
        expect(page.locator("tbody tr:visible")).to_have_count(1)
        page.get_by_label("Find a class").fill("")
        page.get_by_role("combobox", name="First").select_option(label="the most examples")
        expect(page.locator("tbody tr summary").first).to_have_text("Species 0" if count else "oak")
